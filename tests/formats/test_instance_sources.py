"""Annotations of other programs: the same discs written in every form come back the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from delineate.cli.main import main
from delineate.errors import DatasetError, LabelError, UsageError
from delineate.formats.datasets.instance_dataset import open_instance_dataset
from delineate.formats.datasets.instance_sources import types_of_pixels
from delineate.formats.datasets.verify_instances import verify_instances
from delineate.masks.contours import trace_regions
from delineate.masks.drawn_objects import mask_of_runs, number_objects, runs_of_text, trimmed
from delineate.workflows.convert_instances import convert_instances
from instance_pictures import discs, picture_of, write_dataset

DISCS = discs(1, 50, 25, 8.0)
KINDS = np.where(DISCS > 0, DISCS % 2 + 1, 0)
PICTURE = picture_of(DISCS, 1, colour=True)


def rings():
    return {region.label: region.outer + 0.5 for region in trace_regions(DISCS[None])}


def write_masks(folder: Path) -> None:
    for part in ("images", "masks"):
        (folder / "a" / part).mkdir(parents=True)
    rgba = np.dstack([PICTURE, np.full(DISCS.shape, 255, np.uint8)])
    Image.fromarray(rgba).save(folder / "a/images/a.png")
    for number in range(1, DISCS.max() + 1):
        Image.fromarray((255 * (DISCS == number)).astype(np.uint8)).save(folder / f"a/masks/{number}.png")


def write_arrays(folder: Path) -> None:
    np.save(folder / "a.npy", np.dstack([PICTURE, DISCS, KINDS]).astype(np.int32))


def write_mat(folder: Path) -> None:
    for part in ("Images", "Labels"):
        (folder / part).mkdir()
    Image.fromarray(PICTURE).save(folder / "Images/a.png")
    savemat(folder / "Labels/a.mat", {"inst_map": DISCS.astype(float), "type_map": KINDS.astype(float)})


def write_monuseg(folder: Path) -> None:
    Image.fromarray(PICTURE).save(folder / "a.tif")
    regions = "".join(
        "<Region><Vertices>" + "".join(f'<Vertex X="{x}" Y="{y}"/>' for y, x in ring) + "</Vertices></Region>"
        for ring in rings().values()
    )
    (folder / "a.xml").write_text(f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>")


def write_geojson(folder: Path) -> None:
    Image.fromarray(PICTURE).save(folder / "a.png")
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x, y] for y, x in [*ring, ring[0]]]]},
            "properties": {"objectType": "detection", "classification": {"name": f"kind {number % 2 + 1}"}},
        }
        for number, ring in rings().items()
    ]
    features.append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}})
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def compressed(counts: list[int]) -> str:
    """COCO's text of run lengths, written from its description: five bits a character, lowest first, sign in bit 4."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits, value = value & 0x1F, value >> 5
            more = not ((value == 0 and not bits & 0x10) or (value == -1 and bits & 0x10))
            text += chr((bits | (0x20 if more else 0)) + 48)
            if not more:
                break
    return text


def runs(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel().astype(int)
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    return np.diff([0, *changes, flat.size]).tolist()


def write_coco(folder: Path) -> None:
    Image.fromarray(PICTURE).save(folder / "a.png")
    annotations = []
    for number, ring in rings().items():
        shown = [
            [float(v) for y, x in ring for v in (x, y)],
        ]
        if number == 2:
            shown = {"size": list(DISCS.shape), "counts": runs(DISCS == number)}
        if number == 3:
            shown = {"size": list(DISCS.shape), "counts": compressed(runs(DISCS == number))}
        annotations.append({"id": number, "image_id": 9, "category_id": 10 + number % 2, "segmentation": shown})
    annotations.append({"id": 99, "image_id": 9, "category_id": 10, "iscrowd": 1, "segmentation": []})
    content = {
        "images": [{"id": 9, "file_name": "sub/a.png", "height": 50, "width": 50}],
        "annotations": annotations,
        "categories": [{"id": 10, "name": "even"}, {"id": 11, "name": "odd"}],
    }
    (folder / "all.json").write_text(json.dumps(content))


FORMS = {
    "masks": (write_masks, False),
    "hovernet": (write_arrays, True),
    "mat": (write_mat, True),
    "monuseg": (write_monuseg, False),
    "geojson": (write_geojson, True),
    "coco": (write_coco, True),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_objects_come_back(form: str, tmp_path: Path) -> None:
    write, typed = FORMS[form]
    (tmp_path / "source").mkdir()
    write(tmp_path / "source")
    done = convert_instances(tmp_path / "source", tmp_path / "out")
    assert (done.kind, done.pictures, done.objects) == (form, 1, 4)
    dataset = open_instance_dataset(tmp_path / "out")
    case = dataset.load(dataset.cases[0])
    assert np.array_equal(case.picture, PICTURE)
    pairs = set(zip(case.instances.ravel().tolist(), DISCS.ravel().tolist(), strict=True))
    assert len(pairs) == 5
    if typed:
        found = case.types[case.instances]
        assert np.array_equal(found, KINDS)
    assert verify_instances(dataset).objects == 4


def test_overlapping_objects_are_told_and_the_smaller_one_wins() -> None:
    large, small = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    large[1:8, 1:8], small[3:5, 3:5] = True, True
    for order in ((large, small), (small, large)):
        drawn = number_objects([trimmed(mask) for mask in order], (9, 9))
        assert drawn.overlapping == 4
        assert drawn.hidden == ()
        assert np.array_equal(drawn.instances == 1 + (order[1] is small), small)
    assert number_objects([trimmed(small), trimmed(small)], (9, 9)).hidden == (1,)


def test_run_lengths_of_random_masks_come_back() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        mask = generator.random(generator.integers(1, 30, 2)) < 0.4
        counts = runs(mask)
        assert list(runs_of_text(compressed(counts))) == counts
        placed, plane = mask_of_runs(counts, mask.shape), np.zeros(mask.shape, bool)
        plane[placed.top : placed.top + placed.mask.shape[0], placed.left : placed.left + placed.mask.shape[1]] = (
            placed.mask
        )
        assert np.array_equal(plane, mask)
    with pytest.raises(LabelError, match="add up"):
        mask_of_runs([3], (2, 2))


def test_types_that_disagree_are_told() -> None:
    instances = np.array([[1, 1, 1, 2, 2, 0]])
    types, told = types_of_pixels(instances.astype(np.int32), np.array([[3, 3, 1, 0, 0, 2]]))
    assert types.tolist() == [0, 3, 0]
    assert told == (
        "1 pixels have another type than most of their object",
        "1 pixels have a type but belong to no object",
        "1 objects have no type",
    )


def test_all_faults_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    np.save(tmp_path / "source/flat.npy", np.zeros((4, 4)))
    np.save(tmp_path / "source/half.npy", np.full((4, 4, 4), 0.5))
    np.save(tmp_path / "source/code.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError) as caught:
        convert_instances(tmp_path / "source", tmp_path / "out")
    assert len(caught.value.faults) == 3
    assert "pickled" in caught.value.diagnostics()
    assert not (tmp_path / "out").exists()
    assert main(["convert-instances", str(tmp_path / "source"), "-o", str(tmp_path / "out")]) == 3
    assert "flat.npy" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="one of these forms"):
        convert_instances(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        convert_instances(tmp_path / "source", tmp_path / "empty")


def test_the_command_tells_what_it_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    write_geojson(tmp_path / "source")
    assert main(["convert-instances", str(tmp_path / "source"), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "4 objects (geojson)" in printed
    assert "kind 1, kind 2" in printed
    assert "1 shapes are no polygons" in printed


def test_what_is_odd_in_a_data_set_is_told(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dots", count=4)
    numbers = np.asarray(Image.open(folder / "instances/p0.png")).copy()
    numbers[numbers == 1] = 255
    Image.fromarray(numbers.astype(np.uint8)).save(folder / "instances/p0.png")
    Image.fromarray((numbers > 0).astype(np.uint8) * 255).save(folder / "instances/p1.png")
    Image.fromarray(np.zeros_like(numbers)).save(folder / "instances/p2.png")
    picture = Image.open(folder / "images/p3.png").convert("CMYK")
    (folder / "images/p3.png").unlink()
    picture.save(folder / "images/p3.jpg")
    found = verify_instances(open_instance_dataset(folder))
    assert found.empty == ("p2",)
    text = "\n".join(found.warnings)
    assert "p0: an 8-bit file" in text
    assert "p1: only the values 0 and 255" in text
    assert "1 pictures hold no object" in text


def test_broken_and_impossible_files_are_faults(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dots", count=4)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "instances/p0.png")
    (folder / "images/p1.png").write_bytes(b"")
    coloured = np.zeros((64, 64, 3), np.uint8)
    coloured[:9, :9, 0] = 7
    Image.fromarray(coloured).save(folder / "instances/p2.png")
    with pytest.raises(DatasetError) as caught:
        verify_instances(open_instance_dataset(folder))
    assert len(caught.value.faults) == 3


def test_palette_pictures_and_sixteen_bits_are_read(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dots", count=2)
    numbers = np.asarray(Image.open(folder / "instances/p0.png"))
    palette = Image.new("P", (64, 64))
    palette.putdata(numbers.ravel().tolist())
    palette.putpalette([(7 * i) % 256 for i in range(768)])
    palette.save(folder / "instances/p0.png")
    deep = np.asarray(Image.open(folder / "images/p0.png")).astype(np.uint16) * 200
    Image.fromarray(deep).save(folder / "images/p0.png")
    dataset = open_instance_dataset(folder)
    case = dataset.load(dataset.cases[0])
    assert np.array_equal(case.instances, numbers)
    assert case.picture.dtype == np.uint16
