import numpy as np
import pytest

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import InputError, LabelError, PlanError
from delineate.planning.fingerprint import (
    Fingerprint,
    measure_case,
    nonzero_box,
    pool,
    samples_per_case,
)


def _case(seed=0, shape=(6, 9, 8), channels=1):
    rng = np.random.default_rng(seed)
    image = rng.normal(50, 10, (channels, *shape))
    image[:, :1] = 0
    labels = np.zeros(shape, dtype=np.uint8)
    labels[2:4, 3:6, 2:5] = 1
    labels[4, 5:7, 5] = 2
    return image, labels


def test_crop_takes_any_channel_and_an_empty_image_whole():
    image = np.zeros((2, 5, 6, 7))
    assert nonzero_box(image) == (slice(0, 5), slice(0, 6), slice(0, 7))
    image[0, 1, 2, 3] = -1
    image[1, 3, 2, 5] = 4
    assert nonzero_box(image) == (slice(1, 4), slice(2, 3), slice(3, 6))


def test_measures_one_case():
    image, labels = _case()
    found = measure_case(image, labels, (2.0, 1.0, 1.0), samples=1000)
    assert found.shape_after_crop == (5, 9, 8)
    assert found.relative_size == pytest.approx(5 / 6)
    assert found.voxels_of == {1: 18, 2: 2}
    assert len(found.foreground[0]) == 20
    assert not found.drawn
    few = measure_case(image, labels, (2.0, 1.0, 1.0), samples=7)
    assert few.drawn
    assert len(few.foreground[0]) == 7


def test_drawing_early_or_late_gives_the_same_numbers():
    cases = [_case(seed, channels=2) for seed in range(3)]
    early = pool([measure_case(*c, (1.0, 1.0, 1.0), samples=19) for c in cases], samples=19)
    whole = [measure_case(*c, (1.0, 1.0, 1.0), samples=10_000) for c in cases]
    assert not any(m.drawn for m in whole)
    assert pool(whole, samples=19).intensities == early.intensities


def test_statistics_are_those_of_the_foreground():
    image, labels = _case()
    found = pool([measure_case(image, labels, (1.0, 1.0, 1.0), samples=200_000)], samples=200_000).intensities[0]
    values = image[0][labels > 0]
    assert found.mean == pytest.approx(values.mean(), rel=1e-3)
    assert found.std == pytest.approx(values.std(), rel=1e-2)
    assert found.min == pytest.approx(values.min())
    assert found.max == pytest.approx(values.max())


def test_structures_with_names_presence_and_volumes():
    image, labels = _case()
    without = np.where(labels == 2, 0, labels)
    scheme = LabelScheme(
        structures=(
            Structure(name="organ", values=(1,)),
            Structure(name="lesion", values=(2,)),
            Structure(name="x", values=(3,)),
        )
    )
    measured = [measure_case(image, m, (2.0, 1.0, 1.0), samples=10) for m in (labels, without)]
    organ, lesion, absent = pool(measured, samples=10, scheme=scheme).structures
    assert (organ.name, organ.cases, organ.median_volume_mm3) == ("organ", 2, 36.0)
    assert (lesion.name, lesion.cases, lesion.smallest_volume_mm3) == ("lesion", 1, 4.0)
    assert (absent.name, absent.cases, absent.median_volume_mm3) == ("x", 0, 0.0)


def test_values_of_regions_are_named_by_value():
    image, labels = _case()
    scheme = LabelScheme(
        structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))), region_order=(1, 2)
    )
    found = pool([measure_case(image, labels, (1.0, 1.0, 1.0), samples=10)], samples=10, scheme=scheme)
    assert [s.name for s in found.structures] == ["label 1", "core"]


def test_a_plane_becomes_one_thick_slice():
    image, labels = _case()
    found = measure_case(image[:, 3], labels[3], (0.5, 0.25), samples=10)
    assert found.spacing_mm == (999 * 0.5, 0.5, 0.25)
    assert found.shape_after_crop == (1, 9, 8)


def test_bad_cases_are_named():
    image, labels = _case()
    image[0, 3, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"case 'liver_7' holds NaN"):
        measure_case(image, labels, (1.0, 1.0, 1.0), samples=10, case_id="liver_7")
    with pytest.raises(LabelError, match=r"labels of case 'liver_7'"):
        measure_case(_case()[0], labels[:3], (1.0, 1.0, 1.0), samples=10, case_id="liver_7")


def test_bad_datasets_are_refused():
    image, labels = _case()
    with pytest.raises(PlanError, match="at least one training case"):
        pool([], samples=10)
    with pytest.raises(PlanError, match="at least one training case"):
        samples_per_case(0)
    empty = measure_case(image, np.zeros_like(labels), (1.0, 1.0, 1.0), samples=10)
    with pytest.raises(PlanError, match="No training case has a foreground voxel"):
        pool([empty, measure_case(image, None, (1.0, 1.0, 1.0), samples=10)], samples=10)
    two = measure_case(*_case(channels=2), (1.0, 1.0, 1.0), samples=10)
    with pytest.raises(PlanError, match="same number of channels"):
        pool([empty, two], samples=10)


@pytest.mark.parametrize(
    ("spacings", "shapes"),
    [((), ()), (((1.0, 1.0),), ((4, 4),)), (((1.0, 0.0, 1.0),), ((4, 4, 4),)), (((1.0, 1.0, 1.0),), ((4, 0, 4),))],
)
def test_impossible_fingerprints(spacings, shapes):
    with pytest.raises(PlanError):
        Fingerprint(
            spacings_mm=spacings, shapes_after_crop=shapes, intensities=(), median_relative_size_after_cropping=1.0
        )
