from __future__ import annotations

import numpy as np

from delineate.masks import drop_small_pieces, keep_largest_piece


def pieces() -> np.ndarray:
    labels = np.zeros((6, 12, 12), np.uint8)
    labels[1:4, 1:4, 1:4] = 1  # 27 voxels
    labels[1:3, 6:8, 6:8] = 1  # 8 voxels
    labels[3, 8, 8] = 1  # touches by a corner only
    labels[5, :, :] = 2
    return labels


def test_only_the_largest_piece_of_one_label_stays() -> None:
    labels = pieces()
    kept = keep_largest_piece(labels, 1)
    assert (kept == 1).sum() == 27
    assert (kept == 2).sum() == 144
    np.testing.assert_array_equal(labels, pieces())


def test_pieces_up_to_a_volume_go() -> None:
    assert (drop_small_pieces(pieces(), 1, 8.0) == 1).sum() == 27
    assert (drop_small_pieces(pieces(), 1, 7.9) == 1).sum() == 35
    assert (drop_small_pieces(pieces(), 1, 0.5) == 1).sum() == 36
    assert (drop_small_pieces(pieces(), 1, 100.0) == 2).sum() == 144
