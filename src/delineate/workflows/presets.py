"""Names of nnU-Net's planners, as people type them."""

from __future__ import annotations

from delineate.errors import UsageError
from delineate.planning.presets import DEFAULT, RESENC_L, RESENC_M, RESENC_XL, Preset

_PRESETS = {"default": DEFAULT, "resenc-m": RESENC_M, "resenc-l": RESENC_L, "resenc-xl": RESENC_XL}


def preset_named(name: str) -> Preset:
    """Return the preset called ``default``, ``resenc-m``, ``resenc-l`` or ``resenc-xl``.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in _PRESETS:
        raise UsageError(f"A preset is one of {', '.join(_PRESETS)}; got '{name}'.")
    return _PRESETS[name]
