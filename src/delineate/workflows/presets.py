"""Names of the planners, as people type them."""

from __future__ import annotations

from delineate.errors import UsageError
from delineate.planning.presets import PRESETS, Preset


def preset_named(name: str) -> Preset:
    """Return the preset called ``default``, ``resenc-m``, ``mednext-b``, ..., as :data:`PRESETS` lists them.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"A preset is one of {', '.join(PRESETS)}; got '{name}'.")
    return PRESETS[name]
