"""Pairs of masks that metrics must survive, and brute force to check them with; nothing of the product's own."""

import itertools
import math

import numpy as np
from scipy import ndimage


def pairs():
    """Return name -> (prediction, reference, spacing): empty, one voxel, anisotropic, touching the border, plane."""
    rng = np.random.default_rng(7)
    blob = ndimage.gaussian_filter(rng.normal(size=(9, 14, 13)), 1.5) > 0.05
    other = ndimage.gaussian_filter(rng.normal(size=(9, 14, 13)), 1.5) > 0.02
    one, two = np.zeros((4, 5, 6), np.bool_), np.zeros((4, 5, 6), np.bool_)
    one[1, 2, 3] = two[3, 2, 1] = True
    ball = np.zeros((9, 12, 12), np.bool_)
    ball[2:7, 3:9, 3:9] = True
    return {
        "blobs": (blob, other, (3.0, 0.8, 1.3)),
        "shifted": (np.roll(ball, (1, 2), (0, 1)), ball, (2.5, 0.7, 0.7)),
        "equal": (ball, ball, (1.0, 1.0, 1.0)),
        "inside": (ndimage.binary_erosion(ball, iterations=2), ball, (1.0, 2.0, 0.5)),
        "one_voxel": (one, two, (3.0, 0.8, 1.3)),
        "same_voxel": (one, one, (3.0, 0.8, 1.3)),
        "border": (np.ones((4, 5, 6), np.bool_), ndimage.binary_dilation(two, iterations=2), (1.0, 1.0, 2.0)),
        "plane": (blob[4], other[4], (0.8, 1.3)),
        "row": (np.ones((1, 1, 5), np.bool_), np.array([[[1, 0, 1, 1, 0]]], np.bool_), (5.0, 1.0, 1.0)),
    }


def empty_pairs():
    """Return name -> (prediction, reference, spacing) where only one mask has anything."""
    empty, block = np.zeros((4, 5, 6), np.bool_), np.zeros((4, 5, 6), np.bool_)
    block[1:3, 1:4, 1:5] = True
    return {
        "empty_reference": (block, empty, (3.0, 0.8, 1.3)),
        "empty_prediction": (empty, block, (3.0, 0.8, 1.3)),
    }


def border_points(mask, spacing):
    """Return the positions in mm of mask voxels with a face neighbour that is not in the mask, one by one."""
    found = []
    inside = {tuple(int(i) for i in p) for p in np.argwhere(mask)}
    for point in sorted(inside):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = tuple(c + step * (a == axis) for a, c in enumerate(point))
            if neighbour not in inside:
                found.append([c * s for c, s in zip(point, spacing, strict=True)])
                break
    return found


def directed(points, targets):
    """Return the distance of each point to its nearest target: O(n^2)."""
    return [min(math.dist(p, t) for t in targets) for p in points]


def both_ways(prediction, reference, spacing):
    """Return the two lists of directed border distances."""
    first, second = border_points(prediction, spacing), border_points(reference, spacing)
    return directed(first, second), directed(second, first)
