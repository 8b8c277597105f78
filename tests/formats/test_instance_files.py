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


def test_qupath_finds_what_it_looks_for(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", table())
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    for feature, area in zip(content["features"], measure_instances(LABELS)["area"], strict=True):
        assert set(feature) == {"type", "id", "geometry", "properties"}
        assert uuid.UUID(feature["id"])
        assert feature["properties"]["objectType"] == "detection"  # inside properties, else QuPath makes it unknown
        assert feature["properties"]["classification"]["name"] in ("round", "long")
        assert all(isinstance(v, int) for v in feature["properties"]["classification"]["color"])
        assert all(isinstance(v, float) for v in feature["properties"]["measurements"].values())
        (ring,) = feature["geometry"]["coordinates"]
        assert feature["geometry"]["type"] == "Polygon"
        assert ring[0] == ring[-1]
        x, y = np.array(ring).T
        assert abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2 == area  # runs along pixel edges, corner at (0, 0)
    first = np.array(content["features"][0]["geometry"]["coordinates"][0])
    assert first.min(axis=0).tolist() == [5, 3]
    assert first.max(axis=0).tolist() == [30, 20]


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


def test_rows_of_a_label_map_come_as_they_are_finished(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    whole = generator.integers(0, 9, (130, 70)).astype(np.int32)
    rows = LabelRows(130, 70)

    def blocks():
        for top in range(0, 130, 30):
            for left in (0, 40):
                part = whole[top : top + 30, left : left + 40]
                rows.put((max(0, top - 5), left), np.pad(part, ((min(top, 5), 0), (0, 0))))
            yield rows.taken(top + 30)

    write_label_tiff(tmp_path / "a.tif", (130, 70), blocks(), pixel_um=0.25)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), whole)
    with pytest.raises(GeometryError, match="130 rows"):
        write_label_tiff(tmp_path / "b.tif", (130, 70), [whole[:50]])
    with pytest.raises(GeometryError, match="70 pixels"):
        write_label_tiff(tmp_path / "b.tif", (130, 70), [whole[:, :50]])
    assert not (tmp_path / "b.tif").exists()
