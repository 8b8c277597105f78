"""A random torso: tissues as solids in painting order, each with its attenuation and its label. Knows no voxels.

Proportions follow an adult in portal venous contrast phase: volumes of organs lie within those of textbooks (liver
1.2 to 1.8 l, spleen 0.15 to 0.3 l, a kidney 0.12 to 0.2 l). World LPS mm: x to the patient's left, y to the back, z to
the head; the origin lies before the first lumbar vertebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delineate.phantoms.shapes import (
    EVERYWHERE,
    Both,
    Box,
    Column,
    Coordinates,
    Ellipsoid,
    Ribs,
    Solid,
    Tube,
    Vector,
    Without,
)

STRUCTURES = ("liver", "spleen", "kidneys", "aorta", "lesion")
"""Structures that get labels, in the order of their values 1, 2, 3, ..."""

WALL = (150.0, 100.0)
"""Half axes (x, y) of the outer border of the muscle wall."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tissue:
    """A painted solid: what lies inside takes this attenuation and this label."""

    solid: Solid
    hu: float
    structure: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """One smooth shift of all points: a plane wave of long wavelength."""

    amplitude_mm: Vector
    frequency: Vector
    """Radians per mm."""
    phase: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Anatomy:
    """A torso: tissues painted one over the other, in a space that is smoothly bent."""

    tissues: tuple[Tissue, ...]
    waves: tuple[Wave, ...]
    scale: Vector
    """Size of the patient along x, y, z; 1 is the average."""

    def bent(self, x: Coordinates, y: Coordinates, z: Coordinates) -> tuple[Coordinates, Coordinates, Coordinates]:
        """Return the points of the average body that lie at these points (LPS mm) of this patient."""
        dx, dy, dz = np.float32(0), np.float32(0), np.float32(0)
        for wave in self.waves:
            fx, fy, fz = (np.float32(f) for f in wave.frequency)
            value = np.sin(fx * x + fy * y + fz * z + np.float32(wave.phase))
            dx, dy, dz = (d + np.float32(a) * value for d, a in zip((dx, dy, dz), wave.amplitude_mm, strict=True))
        sx, sy, sz = self.scale
        return (x + dx) / np.float32(sx), (y + dy) / np.float32(sy), (z + dz) / np.float32(sz)


def random_anatomy(generator: np.random.Generator) -> Anatomy:
    """Return a random patient."""
    waves = tuple(_wave(generator) for _ in range(3))
    scale = _vector(generator.normal(1.0, 0.04, 3).clip(0.92, 1.08))
    contrast = _limited(generator, 1.0, 0.12)
    tissues = [*_wall(generator), *_chest(generator, contrast), *_bowel(generator), *_spine()]
    return Anatomy(tissues=(*tissues, *_organs(generator, contrast)), waves=waves, scale=scale)


def _wave(generator: np.random.Generator) -> Wave:
    direction = generator.normal(size=3)
    frequency = direction / np.linalg.norm(direction) * 2 * np.pi / generator.uniform(150, 260)
    return Wave(
        amplitude_mm=_vector(generator.normal(0, 2.5, 3)),
        frequency=_vector(frequency),
        phase=float(generator.uniform(0, 2 * np.pi)),
    )


def _wall(generator: np.random.Generator) -> list[Tissue]:
    """Fat, muscle wall with ribs, cavity filled with fat, muscles of the back, and the table below."""
    fat = float(generator.uniform(8, 26))
    rx, ry = WALL
    cavity = Column(center_mm=(0, -6), radii_mm=(rx - 17, ry - 20), power=2.5)
    table = Both(
        parts=(Column(center_mm=(0, 10), radii_mm=(230, ry + fat + 14), power=2.5), _BehindTable(front_mm=ry + fat - 4))
    )
    back = [Column(center_mm=(side * 36, 74), radii_mm=(31, 21), power=2.5) for side in (-1, 1)]
    psoas = [
        Column(center_mm=(side * 40, 42), radii_mm=(20, 17), top_mm=10, lean=(side * -0.12, 0)) for side in (-1, 1)
    ]
    return [
        Tissue(solid=table, hu=-520),
        Tissue(solid=Column(center_mm=(0, 0), radii_mm=(rx + fat, ry + 0.8 * fat), power=2.5), hu=-105),
        Tissue(solid=Column(center_mm=(0, 0), radii_mm=WALL, power=2.5), hu=52),
        Tissue(solid=Ribs(radii_mm=(rx - 8, ry - 9), thickness=0.07), hu=330),
        Tissue(solid=cavity, hu=-98),
        *(Tissue(solid=muscle, hu=55) for muscle in (*back, *psoas)),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _BehindTable:
    """The half space behind a plane: limits the table top to a shell below the patient."""

    front_mm: float

    def inside(self, x: Coordinates, y: Coordinates, z: Coordinates) -> np.typing.NDArray[np.bool_]:
        """Return which points lie behind the plane."""
        return y > self.front_mm - 0.0012 * x**2

    @property
    def box(self) -> Box:
        """Everything behind the front."""
        return EVERYWHERE


def _chest(generator: np.random.Generator, contrast: float) -> list[Tissue]:
    """Lungs that reach down behind the dome of the diaphragm, and the heart between them."""
    depth = float(generator.normal(0, 7))
    cavity = Column(center_mm=(0, -6), radii_mm=(WALL[0] - 18, WALL[1] - 20), power=2.5)
    lungs = [
        Both(parts=(cavity, Ellipsoid(center_mm=(side * 78, 4, 152 + depth), radii_mm=(62, 88, 108), power=2.5)))
        for side in (-1, 1)
    ]
    heart = Ellipsoid(center_mm=(22, -28, 132 + depth), radii_mm=(58, 46, 46), turn_deg=-25)
    return [
        *(Tissue(solid=lung, hu=-840) for lung in lungs),
        Tissue(solid=Both(parts=(cavity, heart)), hu=60 + 70 * contrast),
    ]


def _bowel(generator: np.random.Generator) -> list[Tissue]:
    """Loops with wall, content and sometimes gas in the lower front of the cavity."""
    tissues = []
    for _ in range(22):
        center = _vector((generator.uniform(-95, 95), generator.uniform(-66, 4), generator.uniform(-135, -14)))
        radii = generator.uniform(12, 24, 3)
        tissues.append(Tissue(solid=Ellipsoid(center_mm=center, radii_mm=_vector(radii)), hu=48))
        inner = Ellipsoid(center_mm=center, radii_mm=_vector(radii * 0.75))
        gas = generator.uniform() < 0.3
        tissues.append(Tissue(solid=inner, hu=-700 if gas else float(generator.uniform(5, 45))))
    return tissues


def _spine() -> list[Tissue]:
    """Vertebral bodies with a dense shell, discs, canal, and the bony arch."""
    tissues = [
        Tissue(solid=Column(center_mm=(0, 88), radii_mm=(5, 17)), hu=320),
        Tissue(solid=Column(center_mm=(0, 72), radii_mm=(33, 6), power=2.5), hu=300),
        Tissue(solid=Column(center_mm=(0, 71), radii_mm=(10, 9)), hu=28),
        Tissue(solid=Column(center_mm=(0, 46), radii_mm=(24, 17), power=2.5), hu=95),
    ]
    for level in range(-5, 6):
        z = level * 33.0
        tissues.append(Tissue(solid=_vertebra(z, 0.0), hu=420))
        tissues.append(Tissue(solid=_vertebra(z, 3.5), hu=190))
    return tissues


def _vertebra(z: float, inset: float) -> Column:
    return Column(
        center_mm=(0, 46),
        radii_mm=(24 - inset, 17 - inset),
        power=2.5,
        bottom_mm=z - 12.5 + inset,
        top_mm=z + 12.5 - inset,
    )


def _organs(generator: np.random.Generator, contrast: float) -> list[Tissue]:
    """Stomach, spleen, liver with vessels and lesion, kidneys, great vessels."""

    def enhanced(plain: float, gain: float) -> float:
        return float(plain + gain * contrast + generator.normal(0, 4))

    aorta_x, aorta_y = 11 + generator.normal(0, 2), 18 + generator.normal(0, 1.5)
    liver_hu = enhanced(58, 55)
    return [
        *_stomach(generator),
        Tissue(
            solid=Tube(points_mm=((75, 18, 28), (30, -8, 5), (-28, -4, -12)), radius_mm=12, taper=1.1),
            hu=enhanced(40, 50),
        ),
        *_spleen(generator, enhanced(48, 75)),
        *_liver(generator, liver_hu, enhanced(45, 115)),
        *_lesion(generator, liver_hu),
        Tissue(solid=Ellipsoid(center_mm=_near(generator, (-38, -48, 2), 4), radii_mm=(13, 17, 24)), hu=12),
        *_kidneys(generator, enhanced(32, 145)),
        *_great_vessels(generator, float(aorta_x), float(aorta_y), contrast),
    ]


def _stomach(generator: np.random.Generator) -> list[Tissue]:
    center = _near(generator, (52, -30, 48), 6)
    radii = _sized(generator, (36, 30, 44), 0.12)
    inner = Ellipsoid(center_mm=center, radii_mm=_vector(np.array(radii) - 4), turn_deg=20)
    level = float(generator.uniform(-4, 14))
    gas = Ellipsoid(center_mm=center, radii_mm=inner.radii_mm, turn_deg=20, cuts=(((0, 1, 0), -level),))
    return [
        Tissue(solid=Ellipsoid(center_mm=center, radii_mm=radii, turn_deg=20), hu=58),
        Tissue(solid=inner, hu=22),
        Tissue(solid=gas, hu=-960),
    ]


def _spleen(generator: np.random.Generator, hu: float) -> list[Tissue]:
    center = _near(generator, (98, 30, 52), 4)
    body = Ellipsoid(center_mm=center, radii_mm=_sized(generator, (27, 42, 52), 0.08), turn_deg=-20, tilt_deg=10)
    hilum = Ellipsoid(center_mm=(center[0] - 38, center[1] - 22, center[2]), radii_mm=(26, 34, 48))
    return [Tissue(solid=Without(whole=body, holes=(hilum,)), hu=hu, structure="spleen")]


LIVER_RIGHT_LOBE: tuple[Vector, Vector] = ((-70, -2, 40), (58, 71, 75))
"""Centre and radii (LPS mm) of the right lobe of the average patient."""


def _liver(generator: np.random.Generator, hu: float, vessel_hu: float) -> list[Tissue]:
    """Right lobe cut by the slanting visceral surface, left lobe across the midline, portal and hepatic veins."""
    center, radii = LIVER_RIGHT_LOBE
    slant = _vector(np.array([0.45, 0.35, -0.82]))
    right = Ellipsoid(
        center_mm=_near(generator, center, 3),
        radii_mm=_sized(generator, radii, 0.05),
        power=2.5,
        cuts=((slant, float(generator.uniform(46, 56))),),
    )
    left = Ellipsoid(
        center_mm=_near(generator, (-8, -42, 56), 4),
        radii_mm=_sized(generator, (62, 30, 38), 0.1),
        turn_deg=-8,
        tilt_deg=8,
    )
    parts = [Tissue(solid=lobe, hu=hu, structure="liver") for lobe in (right, left)]
    portal = (-14.0, 2.0, 12.0)
    veins = (
        Tube(points_mm=(portal, (-42, -6, 28), (-80, 4, 34), (-104, 14, 22)), radius_mm=6.5, taper=0.4),
        Tube(points_mm=((-42, -6, 28), (-66, -30, 48), (-86, -40, 60)), radius_mm=5, taper=0.4),
        Tube(points_mm=((-30, -4, 24), (-16, -34, 48), (24, -48, 58)), radius_mm=5, taper=0.4),
        Tube(points_mm=((-22, 20, 94), (-60, 10, 74), (-92, 6, 52)), radius_mm=6, taper=0.4),
        Tube(points_mm=((-22, 20, 94), (-40, -16, 76), (-54, -34, 60)), radius_mm=5, taper=0.4),
    )
    outline = (right, left)
    inside = [
        Tissue(solid=Both(parts=(vein, lobe)), hu=vessel_hu, structure="liver") for vein in veins for lobe in outline
    ]
    outside = Tissue(solid=Tube(points_mm=((24, 10, -14), portal), radius_mm=6.5), hu=vessel_hu)
    return [outside, *parts, *inside]


def _lesion(generator: np.random.Generator, liver_hu: float) -> list[Tissue]:
    """One focal lesion deep in the right lobe, darker than the liver, sometimes with a bright rim."""
    center = _near(generator, (-78, -2, 48), 9)
    radii = generator.uniform(23, 30) * generator.uniform(0.92, 1.12, 3)
    contrast = float(generator.uniform(42, 75))
    turn = float(generator.uniform(0, 180))
    whole = Ellipsoid(center_mm=center, radii_mm=_vector(radii), turn_deg=turn)
    core = Ellipsoid(center_mm=center, radii_mm=_vector(radii - 5), turn_deg=turn)
    rim = liver_hu + 14 if generator.uniform() < 0.3 else liver_hu - 0.8 * contrast
    return [
        Tissue(solid=whole, hu=rim, structure="lesion"),
        Tissue(solid=core, hu=liver_hu - contrast, structure="lesion"),
    ]


def _kidneys(generator: np.random.Generator, cortex_hu: float) -> list[Tissue]:
    """Two kidneys, the right one lower; cortex, medulla, and a sinus of fat at the inner side."""
    tissues = []
    for side, height in ((-1, -42.0), (1, -26.0)):
        center = _near(generator, (side * 66, 40, height), 4)
        radii = _sized(generator, (27, 25, 54), 0.08)
        turn = side * 30.0
        body = Ellipsoid(center_mm=center, radii_mm=radii, turn_deg=turn, tilt_deg=side * 12.0)
        core = Ellipsoid(center_mm=center, radii_mm=_vector(np.array(radii) - 8), turn_deg=turn, tilt_deg=side * 12.0)
        hilum = (center[0] - side * 21, center[1] - 8, center[2])
        sinus = Ellipsoid(center_mm=hilum, radii_mm=(13, 9, 20))
        tissues += [
            Tissue(solid=Without(whole=body, holes=(sinus,)), hu=cortex_hu, structure="kidneys"),
            Tissue(solid=Without(whole=core, holes=(sinus,)), hu=cortex_hu - 35, structure="kidneys"),
        ]
    return tissues


def _great_vessels(generator: np.random.Generator, x: float, y: float, contrast: float) -> list[Tissue]:
    """Aorta to its bifurcation, its branches, the inferior vena cava."""
    radius = _limited(generator, 13.5, 0.9)
    bright = float(55 + 120 * contrast)
    sway = float(generator.normal(0, 3))
    fork = -108.0
    aorta = Column(center_mm=(x, y), radii_mm=(radius, radius), bottom_mm=fork, lean=(-0.02, 0.0), sway_mm=(sway, 0.0))
    branches = (
        Tube(points_mm=((x, y, fork), (x + 26, y - 4, -150)), radius_mm=8),
        Tube(points_mm=((x, y, fork), (x - 30, y - 4, -150)), radius_mm=8),
        Tube(points_mm=((x, y, 26), (x, y - 28, 24), (x + 45, y - 22, 38)), radius_mm=4.5),
        Tube(points_mm=((x, y, 8), (x - 2, y - 26, -10), (x - 4, y - 30, -80)), radius_mm=5),
        Tube(points_mm=((x, y, -24), (48, 36, -28)), radius_mm=4),
        Tube(points_mm=((x, y, -32), (-46, 36, -42)), radius_mm=4),
    )
    cava = Column(center_mm=(-19, 18), radii_mm=(14, 10), bottom_mm=fork - 6, top_mm=150)
    return [
        Tissue(solid=cava, hu=40 + 80 * contrast),
        *(Tissue(solid=branch, hu=bright) for branch in branches),
        Tissue(solid=aorta, hu=bright, structure="aorta"),
    ]


def _vector(values: np.typing.NDArray[np.float64] | tuple[float, ...]) -> Vector:
    x, y, z = (float(v) for v in values)
    return (x, y, z)


def _limited(generator: np.random.Generator, mean: float, sigma: float) -> float:
    """Return a normal number within two standard deviations."""
    return float(np.clip(generator.normal(mean, sigma), mean - 2 * sigma, mean + 2 * sigma))


def _near(generator: np.random.Generator, center_mm: Vector, sigma_mm: float) -> Vector:
    return _vector(np.asarray(center_mm) + generator.normal(0, sigma_mm, 3).clip(-2 * sigma_mm, 2 * sigma_mm))


def _sized(generator: np.random.Generator, radii_mm: Vector, spread: float) -> Vector:
    return _vector(np.asarray(radii_mm) * generator.normal(1, spread, 3).clip(1 - 2 * spread, 1 + 2 * spread))
