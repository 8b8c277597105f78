import numpy as np
import pytest

from delineate.errors import UsageError
from delineate.formats.datasets import open_dataset, verify_dataset
from delineate.formats.datasets.phantom import schedule, write_phantom_dataset
from delineate.formats.images import read_image
from delineate.phantoms import SCANNERS, STRUCTURES


def test_a_phantom_dataset_is_sound_and_opens_like_any_other(tmp_path):
    dataset = write_phantom_dataset(tmp_path / "Phantom", cases=5, held_out=2, scale=2.0)
    assert open_dataset(tmp_path / "Phantom") == dataset
    assert dataset.channel_names == ("CT",)
    assert tuple(s.name for s in dataset.scheme.structures) == STRUCTURES
    assert (len(dataset.training), len(dataset.testing)) == (5, 2)
    assert all(case.labels and case.labels.is_file() for case in dataset.testing)
    assert verify_dataset(dataset).faults == ()


def test_the_same_seed_writes_the_same_voxels(tmp_path):
    first, second = (write_phantom_dataset(tmp_path / n, cases=1, held_out=0, seed=3, scale=3.0) for n in "ab")
    images = [read_image(d.training[0].images[0]).array for d in (first, second)]
    assert np.array_equal(*images)


def test_no_patient_is_on_both_sides_and_some_were_seen_twice():
    examinations = schedule(24, 6, 0, SCANNERS)
    training = [e for e in examinations if not e.held_out]
    held_out = [e for e in examinations if e.held_out]
    assert (len(training), len(held_out)) == (24, 6)
    assert not {e.patient for e in training} & {e.patient for e in held_out}
    twice = [e.patient for e in training if e.scan == 1]
    assert len(twice) >= 4
    for patient in twice:
        assert len({e.scanner.name for e in training if e.patient == patient}) == 2
    assert len({e.case_id for e in examinations}) == 30


def test_every_patient_may_stay_on_one_scanner():
    examinations = schedule(24, 6, 0, SCANNERS[:2], one_scanner=True)
    for patient in {e.patient for e in examinations}:
        assert len({e.scanner.name for e in examinations if e.patient == patient}) == 1
    assert {e.scanner.name for e in examinations if not e.held_out} == {s.name for s in SCANNERS[:2]}


def test_some_structures_only(tmp_path):
    dataset = write_phantom_dataset(tmp_path, cases=1, held_out=0, scale=3.0, structures=("aorta", "liver"))
    assert [s.name for s in dataset.scheme.structures] == ["aorta", "liver"]
    assert dataset.load(dataset.training[0]).labels.array.max() == 2


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"scanners": ()}, {"structures": ("brain",)}, {"structures": ()}])
def test_impossible_wishes_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError):
        write_phantom_dataset(tmp_path, **wrong)
