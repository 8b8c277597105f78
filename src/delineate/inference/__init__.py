"""Prediction: tiles, mirroring, ensembles, number formats. Knows no training, no clinic, no file names."""

from delineate.inference.ensemble import Ensemble, make_ensemble
from delineate.inference.sliding_window import LIMIT_BYTES, predict_logits
from delineate.inference.tiling import Tiling

__all__ = ["LIMIT_BYTES", "Ensemble", "Tiling", "make_ensemble", "predict_logits"]
