"""Prediction: tiles, mirroring, ensembles, number formats. Knows no training, no clinic, no file names."""

from delineate.inference.ensemble import Ensemble, make_ensemble
from delineate.inference.sliding_window import LIMIT_BYTES, EmptyTiles, gather_logits, predict_logits, stream_logits
from delineate.inference.tiling import Tiling

__all__ = [
    "LIMIT_BYTES",
    "EmptyTiles",
    "Ensemble",
    "Tiling",
    "gather_logits",
    "make_ensemble",
    "predict_logits",
    "stream_logits",
]
