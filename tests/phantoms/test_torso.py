import numpy as np
import pytest

from delineate.errors import UsageError
from delineate.phantoms import SCANNERS, STRUCTURES, make_torso, torso_scheme
from delineate.phantoms.anatomy import random_anatomy
from delineate.phantoms.torso import paint

VOLUMES_ML = {
    "liver": (1000, 2200),
    "spleen": (100, 350),
    "kidneys": (180, 480),
    "aorta": (60, 220),
    "lesion": (25, 170),
}
"""Plausible for an adult: liver 1.0 to 2.2 l, spleen 0.1 to 0.35 l, both kidneys 0.2 to 0.5 l."""
HU = {"liver": (70, 150), "spleen": (80, 180), "kidneys": (100, 230), "aorta": (110, 260), "lesion": (10, 115)}


@pytest.fixture(
    scope="module", params=[(s, sc) for s in (0, 1) for sc in SCANNERS], ids=lambda p: f"{p[0]}-{p[1].name}"
)
def torso(request):
    return make_torso(request.param[0], request.param[1])


def of(case, name):
    return case.labels.array == STRUCTURES.index(name) + 1


def center_mm(case, mask):
    return (case.labels.grid.affine @ np.append(np.argwhere(mask).mean(axis=0), 1))[:3]


def test_a_torso_has_the_demos_size(torso):
    assert torso.image.array.dtype == np.int16
    assert torso.labels.array.dtype == np.uint8
    assert all(25 <= n <= 80 for n in torso.image.grid.shape)
    assert torso.image.array.min() >= -1024


@pytest.mark.parametrize("name", STRUCTURES)
def test_organs_have_plausible_volumes_and_attenuation(torso, name):
    mask = of(torso, name)
    low, high = VOLUMES_ML[name]
    assert low < mask.sum() * torso.image.grid.voxel_volume_mm3 / 1000 < high
    low, high = HU[name]
    assert low < np.median(torso.image.array[0][mask]) < high
    assert mask.sum() >= 120


def test_organs_lie_on_their_sides_in_patient_space(torso):
    """LPS: x grows to the patient's left, y to the back, z to the head; whatever way the array runs."""
    liver, spleen, aorta = (center_mm(torso, of(torso, n)) for n in ("liver", "spleen", "aorta"))
    assert liver[0] < -30
    assert spleen[0] > 60
    assert 0 < aorta[0] < 25
    assert spleen[1] > liver[1]
    kidneys = np.argwhere(of(torso, "kidneys"))
    x, _, z = (torso.labels.grid.affine @ np.c_[kidneys, np.ones(len(kidneys))].T)[:3]
    assert z[x < 0].mean() < z[x > 0].mean()
    assert np.linalg.norm(center_mm(torso, of(torso, "lesion")) - liver) < 60


def test_the_lesion_is_darker_than_the_liver(torso):
    image = torso.image.array[0]
    assert np.median(image[of(torso, "lesion")]) < np.median(image[of(torso, "liver")]) - 15


def test_the_same_seed_gives_the_same_voxels_and_another_does_not():
    first, second = make_torso(5, scale=2), make_torso(5, scale=2)
    assert np.array_equal(first.image.array, second.image.array)
    assert np.array_equal(first.labels.array, second.labels.array)
    other = make_torso(6, scale=2)
    assert (other.labels.array != first.labels.array).mean() > 0.01


def test_a_second_scan_shows_the_same_patient_elsewhere():
    first, second = make_torso(2, SCANNERS[0]), make_torso(2, SCANNERS[1], scan=1)
    assert first.patient_id == second.patient_id
    assert first.case_id != second.case_id
    assert not first.image.grid.matches(second.image.grid)
    for name in STRUCTURES:
        volumes = [of(c, name).sum() * c.image.grid.voxel_volume_mm3 for c in (first, second)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.15)


def test_labels_agree_with_a_much_finer_sampling():
    anatomy = random_anatomy(np.random.default_rng([1, 0]))
    grid = SCANNERS[0].grid((0.0, 0.0, 10.0), scale=1.2)
    scheme = torso_scheme()
    coarse, fine = (paint(anatomy, grid, scheme, samples)[1] for samples in (2, 4))
    assert (coarse != fine).mean() < 0.01
    for value in scheme.values:
        assert (coarse == value).sum() == pytest.approx((fine == value).sum(), rel=0.05)


def test_slabs_do_not_show(monkeypatch):
    whole = make_torso(3, scale=2)
    monkeypatch.setattr("delineate.phantoms.torso.POINTS_AT_ONCE", 20_000)
    assert np.array_equal(make_torso(3, scale=2).image.array, whole.image.array)


def test_structures_are_numbered_as_asked_for():
    scheme = torso_scheme(("kidneys", "liver"))
    assert [s.values for s in scheme.structures] == [(1,), (2,)]
    case = make_torso(0, scale=2, structures=("kidneys", "liver"))
    full = make_torso(0, scale=2)
    assert ((case.labels.array == 1) == of(full, "kidneys")).mean() > 0.999  # votes of other structures are gone
    with pytest.raises(UsageError, match="asked for"):
        torso_scheme(("brain",))
