"""What other programs read: QuPath's GeoJSON, HoVer-Net's JSON, a label TIFF of any size."""

from __future__ import annotations

import gzip
import json
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from delineate.case.instances import InstanceTable
from delineate.errors import GeometryError
from delineate.formats.instance_files import geojson_writer, write_geojson, write_hovernet_json
from delineate.formats.label_tiff import write_label_tiff
from delineate.masks import label_rows
from delineate.masks.contours import trace_regions
from delineate.masks.instance_shapes import measure_instances
from delineate.masks.label_rows import LabelRows

LABELS = np.zeros((40, 50), dtype=np.int32)
LABELS[3:20, 5:12] = 1
LABELS[12:20, 5:30] = 1  # an L: one concave corner
LABELS[25, 40] = 2
LABELS[30:36, 20:22] = 3


def table(*, types: bool = True) -> InstanceTable:
    regions = {region.label: region.outer + 0.5 for region in trace_regions(LABELS[None])}
    return InstanceTable(
        columns=measure_instances(LABELS),
        outlines=tuple(regions[number] for number in (1, 2, 3)),
        types=np.array([1, 2, 1]) if types else np.zeros(3, dtype=np.int64),
        type_names=("round", "long") if types else (),
        type_shares=np.array([0.9, 0.8, 0.7]) if types else np.full(3, np.nan),
        pixel_um=0.5,
    )


def qupaths_reading(path: Path) -> list[dict]:
    """Read a file by QuPath's documented form and refuse what it would not take or would take for something else.

    FeatureCollection or array of features, as its ``PathObjectTypeAdapters`` reads them in versions 0.4 to 0.6: what is
    not inside ``properties`` is not seen there, a colour is three bytes, a measurement a number, a ring is closed.
    """
    content = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert content["type"] == "FeatureCollection"
    objects = []
    for feature in content["features"]:
        assert feature["type"] == "Feature"
        assert set(feature) == {"type", "id", "geometry", "properties"}, "QuPath knows no other member of a detection"
        properties = feature["properties"]
        assert properties["objectType"] == "detection", "outside properties, or of another name, it becomes unknown"
        assert properties["isLocked"] in (True, False)
        kind = properties["classification"]
        assert set(kind) == {"name", "color"}
        assert kind["name"].strip() == kind["name"] != ""
        assert len(kind["color"]) == 3
        assert all(type(value) is int and 0 <= value <= 255 for value in kind["color"])
        for name, value in properties["measurements"].items():
            assert name.strip() == name != ""
            assert type(value) is float, name
        geometry = feature["geometry"]
        assert geometry["type"] == "Polygon", "a MultiPolygon of a detection is refused by version 0.6"
        for ring in geometry["coordinates"]:
            assert len(ring) >= 4
            assert ring[0] == ring[-1], "rings are closed"
            assert all(len(point) == 2 and all(type(v) is float for v in point) for point in ring)
        objects.append({"id": uuid.UUID(feature["id"]), **properties, "rings": geometry["coordinates"]})
    assert len({one["id"] for one in objects}) == len(objects), "every object has an id of its own"
    return objects


@pytest.mark.parametrize("types", [True, False])
def test_qupath_finds_what_it_looks_for(types: bool, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", table(types=types))
    objects = qupaths_reading(tmp_path / "a.geojson")
    assert [one["classification"]["name"] for one in objects] == (
        ["round", "long", "round"] if types else ["Nucleus"] * 3
    )
    for one, area in zip(objects, measure_instances(LABELS)["area"], strict=True):
        (ring,) = one["rings"]
        x, y = np.array(ring).T
        # along pixel edges in pixels of the whole picture, its upper left corner at (0, 0)
        assert abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2 == area
    first = np.array(objects[0]["rings"][0])
    assert first.min(axis=0).tolist() == [5, 3]
    assert first.max(axis=0).tolist() == [30, 20]
    assert ("Type probability" in objects[0]["measurements"]) is types
    assert objects[0]["measurements"]["Area µm^2"] == measure_instances(LABELS)["area"][0]


def test_a_type_keeps_its_colour_and_types_differ(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", replace(table(), types=np.array([1, 2, 0])))
    colours = [tuple(one["classification"]["color"]) for one in qupaths_reading(tmp_path / "a.geojson")]
    assert len(set(colours)) == 3, "an object without a type does not look like one of the first type"
    write_geojson(tmp_path / "b.geojson", table())
    again = [tuple(one["classification"]["color"]) for one in qupaths_reading(tmp_path / "b.geojson")]
    assert again == [colours[0], colours[1], colours[0]]


def test_objects_without_a_type_are_nuclei_and_files_can_be_packed(tmp_path: Path) -> None:
    with geojson_writer(tmp_path / "a.geojson.gz") as append:
        append(table(types=False))
        append(table(types=False))
    features = json.loads(gzip.open(tmp_path / "a.geojson.gz", "rt").read())["features"]
    assert [feature["properties"]["classification"]["name"] for feature in features] == ["Nucleus"] * 6


def test_nothing_is_left_of_a_file_that_failed(tmp_path: Path) -> None:
    broken = replace(table(), type_names=())
    with pytest.raises(IndexError), geojson_writer(tmp_path / "a.geojson") as append:
        append(broken)
    assert not list(tmp_path.iterdir())


def test_hovernets_boxes_are_rows_first_and_contours_columns_first(tmp_path: Path) -> None:
    write_hovernet_json(tmp_path / "a.json", table(), magnification=40)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["mag"] == 40
    first = content["nuc"]["1"]
    assert first["bbox"] == [[3, 5], [20, 30]]
    y, x = np.nonzero(LABELS == 1)
    assert first["centroid"] == [round(x.mean(), 3), round(y.mean(), 3)]
    assert (first["type"], first["type_prob"]) == (1, 0.9)


def test_hovernets_contour_runs_on_the_outermost_pixels(tmp_path: Path) -> None:
    write_hovernet_json(tmp_path / "a.json", table(types=False))
    for number, nucleus in json.loads((tmp_path / "a.json").read_text())["nuc"].items():
        drawn = Image.new("L", LABELS.shape[::-1])
        ImageDraw.Draw(drawn).polygon([tuple(point) for point in nucleus["contour"]], fill=1, outline=1)
        assert np.array_equal(np.asarray(drawn) > 0, LABELS == int(number)), number
        assert nucleus["type"] is None


@pytest.mark.parametrize("piece", [1, 16, 30, 256])
def test_rows_of_a_label_map_come_as_they_are_finished(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_rows, "PIECE", piece)
    generator = np.random.default_rng(0)
    whole = generator.integers(0, 9, (130, 70)).astype(np.int32)
    rows = LabelRows(130, 70)

    def blocks():
        for top in range(0, 130, 30):
            for left in (0, 40):
                part = whole[top : top + 30, left : left + 40]
                rows.put((max(0, top - 5), left), np.pad(part, ((min(top, 5), 0), (0, 0))))
            yield from rows.taken(top + 30)
            assert len(rows._pieces) <= 5 // piece + 2

    write_label_tiff(tmp_path / "a.tif", (130, 70), blocks(), pixel_um=0.25)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), whole)
    with pytest.raises(GeometryError, match="130 rows"):
        write_label_tiff(tmp_path / "b.tif", (130, 70), [whole[:50]])
    with pytest.raises(GeometryError, match="70 pixels"):
        write_label_tiff(tmp_path / "b.tif", (130, 70), [whole[:, :50]])
    assert not (tmp_path / "b.tif").exists()
