"""``foreground_intensity_properties_per_channel``: shared by plans and fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from delineate.formats.nnunet.json_node import Node
from delineate.planning.plan import IntensityStatistics

STATISTICS = tuple(sorted(field.name for field in fields(IntensityStatistics)))
"""Field names are nnU-Net's keys; its file has them sorted."""


def statistics_to_json(intensities: Sequence[IntensityStatistics]) -> dict[str, dict[str, float]]:
    """Return ``{"0": {"max": ..., "mean": ...}, "1": ...}``, one entry per channel."""
    return {
        str(channel): {name: getattr(statistics, name) for name in STATISTICS}
        for channel, statistics in enumerate(intensities)
    }


def statistics_from_json(node: Node) -> tuple[IntensityStatistics, ...]:
    """Return the statistics per channel, channels in numeric order.

    Raises
    ------
    PlanError
        If a channel lacks a number or its numbers contradict each other, or channels are not numbered from 0.
    """
    names = node.keys()
    if sorted(names) != sorted(str(channel) for channel in range(len(names))):
        raise node.wrong(f"channels must be numbered from 0, found {', '.join(names)}")
    return tuple(_statistics(node.child(str(channel))) for channel in range(len(names)))


def _statistics(node: Node) -> IntensityStatistics:
    values: dict[str, Any] = {name: float(node.child(name).number()) for name in STATISTICS}
    if values["std"] < 0 or values["percentile_00_5"] > values["percentile_99_5"]:
        raise node.wrong("the standard deviation must not be negative, nor the low percentile above the high one")
    return IntensityStatistics(**values)
