import dataclasses
import errno
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from delineate.case.prepared import Prepared, Trace
from delineate.errors import ImageReadError, ResourceError, UsageError
from delineate.formats import prepared_store
from delineate.formats.case_record import read_locations
from delineate.formats.prepared_store import PreparedStore, StoredArray, block_shapes
from delineate.geometry.grid import Grid

OBLIQUE = ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (1.0, 0.0, 0.0))


def made(shape=(20, 24, 28), channels=2, seed=0, transpose=(1, 0, 2)):
    rng = np.random.default_rng(seed)
    original = [0, 0, 0]
    for axis, size in zip(transpose, shape, strict=True):
        original[axis] = size + 2
    grid = Grid(shape=tuple(original), spacing_mm=(1.0, 2.0, 3.0), origin_mm=(5.0, 6.0, 7.0), direction=OBLIQUE)
    trace = Trace(
        grid=grid,
        transpose=transpose,
        spacing_mm=tuple(grid.spacing_mm[axis] for axis in transpose),
        prepared_spacing_mm=(1.0, 1.0, 1.0),
        shape=tuple(original[axis] for axis in transpose),
        box=tuple((1, 1 + size) for size in shape),
        prepared_shape=shape,
    )
    labels = rng.integers(-1, 3, shape).astype(np.int16)
    voxels = np.argwhere(labels == 1).astype(np.int32)
    return Prepared(
        array=rng.standard_normal((channels, *shape)).astype(np.float32),
        labels=labels,
        trace=trace,
        locations={1: voxels, 2: np.empty((0, 3), np.int32), -1: voxels[:3]},
        location_labels={1: (1,), 2: (2,), -1: (-1, 0, 1, 2)},
    )


@pytest.fixture
def store(tmp_path):
    return PreparedStore(tmp_path / "prepared", settings="plan 1", patch_size=(16, 16, 16))


def test_a_case_comes_back_whole(store):
    case = made()
    store.write("liver_01", case)
    found = store.open("liver_01")
    assert store.has("liver_01")
    assert found.trace == case.trace
    assert found.array.shape == (2, 20, 24, 28)
    assert found.labels.shape == (20, 24, 28)
    assert (found.array.dtype, found.labels.dtype, found.array.ndim) == (np.float32, np.int16, 4)
    np.testing.assert_array_equal(np.asarray(found.array), case.array)
    np.testing.assert_array_equal(found.labels[...], case.labels)
    np.testing.assert_array_equal(found.array[:, 3:7, 20:30, 5], case.array[:, 3:7, 20:30, 5])
    np.testing.assert_array_equal(found.labels[4], case.labels[4])
    assert found.location_labels == case.location_labels
    for key, voxels in case.locations.items():
        np.testing.assert_array_equal(found.locations[key], voxels)
        assert found.locations[key].dtype == np.int32
    loaded = found.load()
    np.testing.assert_array_equal(loaded.labels, case.labels)


def test_a_case_without_locations_comes_back(store):
    case = dataclasses.replace(made(), locations={}, location_labels={})
    store.write("a", case)
    assert store.open("a").locations == {}


def test_a_changed_plan_asks_for_the_case_again(store):
    store.write("a", made())
    assert PreparedStore(store.folder, settings="plan 1").has("a")
    assert not PreparedStore(store.folder, settings="plan 2").has("a")
    assert PreparedStore(store.folder).has("a")
    assert PreparedStore(store.folder, settings="plan 2").case_ids() == ()


def test_a_case_can_be_replaced(store):
    store.write("a", made(seed=1))
    store.write("a", made(seed=2, shape=(8, 9, 10)))
    np.testing.assert_array_equal(store.open("a").array[...], made(seed=2, shape=(8, 9, 10)).array)
    store.write("b", made())
    assert store.case_ids() == ("a", "b")


@pytest.mark.parametrize("name", ["a.b2nd", "a_seg.b2nd", "a.pkl", "delineate/a.record"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_files_are_noticed_and_named(store, name, damage):
    store.write("a", made())
    path = store.folder / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    assert not store.has("a")
    assert store.case_ids() == ()
    with pytest.raises(ImageReadError, match=r"is (damaged or incomplete|missing)\. Delete .* prepare it again"):
        store.open("a")


def test_damage_of_the_same_size_is_noticed_when_read(store, tmp_path):
    store.write("a", made())
    for name in ("a.b2nd", "delineate/a.record"):
        path = store.folder / name
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ImageReadError, match="damaged"):
        store.open("a")
    with pytest.raises(ImageReadError, match="damaged"):
        read_locations(store.folder / "delineate" / "a.record", (20, 24, 28))
    with pytest.raises(ImageReadError, match="missing"):
        StoredArray(tmp_path / "nothing.b2nd")


def test_damaged_blocks_are_noticed_when_sliced(store, monkeypatch):
    class Damaged:
        def __getitem__(self, key):
            raise RuntimeError("Error while decompressing")

    store.write("a", made())
    found = store.open("a").array
    monkeypatch.setattr(found, "_file", Damaged())
    with pytest.raises(ImageReadError, match=r"a\.b2nd is damaged"):
        found[:, 3]


@pytest.mark.parametrize("record", ["", "{", "[]", '{"version": 99, "files": {}}'])
def test_a_broken_record_is_no_case(store, record):
    store.write("a", made())
    (store.folder / "delineate" / "a.record").write_text(record)
    assert not store.has("a")
    with pytest.raises(ImageReadError, match=r"a\.record is damaged"):
        store.open("a")


def test_a_case_that_was_never_written_is_missing(store):
    assert not store.has("z")
    assert store.case_ids() == ()
    with pytest.raises(ImageReadError, match=r"z\.record is missing"):
        store.open("z")


def test_an_interrupted_write_leaves_nothing_that_counts(store, monkeypatch):
    store.write("a", made(seed=1))

    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared_store, "write_record", fails)
    with pytest.raises(ResourceError, match=r"case a .*No space left.* run the same command again"):
        store.write("a", made(seed=2))
    assert not store.has("a")
    assert not list((store.folder / "delineate" / ".partial").iterdir())


def test_cases_without_labels_are_refused(store):
    with pytest.raises(UsageError, match="case a has none"):
        store.write("a", dataclasses.replace(made(), labels=None))


def test_blocks_fit_their_limits():
    for shape in [(1, 300, 512, 512), (3, 1, 2000, 1500), (1, 7, 9, 11)]:
        for patch in [(64, 128, 128), (256, 256)]:
            block, chunk = block_shapes(shape, patch, 4)
            assert np.prod(block) * 4 <= 128 * 1024
            assert np.prod(chunk) * 4 <= 6 * 1024**2
            assert all(b <= c <= s for b, c, s in zip(block, chunk, shape, strict=True))


SHAPES = [
    [[c, *image], list(patch), itemsize]
    for c, image in [
        (1, (300, 512, 512)),
        (2, (36, 50, 35)),
        (1, (1, 700, 900)),
        (4, (155, 240, 240)),
        (1, (20, 320, 320)),
    ]
    for patch in [(128, 128, 128), (40, 56, 40), (1, 256, 256), (20, 256, 224), (512, 512), (56, 40), (3, 5, 7)]
    for itemsize in (4, 2)
]


@pytest.mark.oracle
def test_nnunet_reads_the_folder(tmp_path):
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    store = PreparedStore(tmp_path / "store", patch_size=(16, 16, 16))
    cases = [made(), made(seed=1, shape=(9, 40, 33), channels=1)]
    for number, case in enumerate(cases):
        store.write(f"case_{number}", case)
    (tmp_path / "question.json").write_text(json.dumps(SHAPES))
    script = Path(__file__).with_name("prepared_store_oracle_script.py")
    done = subprocess.run([interpreter, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = np.load(tmp_path / "answer.npz")
    assert list(theirs["identifiers"]) == ["case_0", "case_1"]
    for (shape, patch, itemsize), expected in zip(SHAPES, theirs["shapes"], strict=True):
        np.testing.assert_array_equal(block_shapes(tuple(shape), tuple(patch), itemsize), expected)
    for number, case in enumerate(cases):
        np.testing.assert_array_equal(theirs[f"data{number}"], case.array)
        np.testing.assert_array_equal(theirs[f"labels{number}"][0], case.labels)
        np.testing.assert_array_equal(theirs[f"box{number}"], case.trace.box)
        np.testing.assert_array_equal(theirs[f"spacing{number}"], case.trace.grid.spacing_mm)
        np.testing.assert_array_equal(theirs[f"locations{number}_1"][:, 1:], case.locations[1])
        assert len(theirs[f"locations{number}_2"]) == 0
        np.testing.assert_array_equal(theirs[f"locations{number}_(-1, 0, 1, 2)"][:, 1:], case.locations[-1])
        # SimpleITK's matrix has the directions of x, y, z as columns
        columns = theirs[f"direction{number}"].reshape(3, 3).T
        np.testing.assert_allclose(columns, OBLIQUE[::-1])
