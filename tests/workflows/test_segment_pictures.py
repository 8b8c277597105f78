"""Pictures to files: the same nuclei in every tiling, from memory and from windows, and what other programs read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from delineate.cli.main import main
from delineate.errors import DatasetError, ModelError, SomeCasesFailed, UsageError
from delineate.formats import picture_windows
from delineate.masks.instance_decoding import Decoding
from delineate.workflows import nuclei_model
from delineate.workflows.nuclei_model import open_nuclei_model, shipped_models
from delineate.workflows.segment_instances import InstanceModel, PictureScale, load_instance_model
from delineate.workflows.segment_pictures import segment_pictures
from instance_models import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InstanceModel:
    return load_instance_model(write_model(tmp_path_factory.mktemp("m") / "model"), device="cpu", precision="float32")


def picture(seed: int = 0, shape: tuple[int, int] = (110, 130)) -> np.ndarray:
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal((*shape, 3)), (1.5, 1.5, 0))
    return np.clip(128 + 64 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def ordered(table):
    order = np.lexsort((table.columns["min_x"], table.columns["min_y"], table.columns["area"]))
    return {name: values[order] for name, values in table.columns.items() if name != "label"}, order


@pytest.mark.parametrize("zoom", [None, 6.0, 17.0])
def test_labels_and_tables_do_not_depend_on_the_tile(model: InstanceModel, zoom: float | None) -> None:
    values, scale = picture(), PictureScale(diameter=zoom)
    labels, table = model.segment(values, scale=scale, tile=600)
    assert len(table) == labels.max() == len(np.unique(labels)) - 1 > 10
    for tile in (33, 70):
        others, other = model.segment(values, scale=scale, tile=tile)
        pairs = set(zip(labels.ravel().tolist(), others.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(labels)) == len(np.unique(others))
        (one, first), (two, second) = ordered(table), ordered(other)
        for name in one:
            assert np.allclose(one[name], two[name]), name
        assert (table.types[first] == other.types[second]).all()


def test_places_shapes_and_outlines_are_those_of_the_labels(model: InstanceModel) -> None:
    labels, table = model.segment(picture(1), scale=PictureScale(pixel_um=0.5), tile=64)
    sizes = np.bincount(labels.ravel())
    for index in range(len(table)):
        number = int(table.columns["label"][index])
        assert table.columns["area"][index] == pytest.approx(sizes[number] * 0.25)
        y, x = np.nonzero(labels == number)
        assert table.columns["centroid_y"][index] == pytest.approx(y.mean())
        assert table.columns["max_x"][index] == x.max() + 1
        outline = table.outlines[index]
        assert outline.min(axis=0).tolist() >= [y.min(), x.min()]
        assert outline.max(axis=0).tolist() <= [y.max() + 1, x.max() + 1]


def test_a_zoom_follows_pixel_size_and_diameter(tmp_path: Path) -> None:
    package = load_instance_model(write_model(tmp_path / "a", zoom=2.0), device="cpu")
    assert package.zoom_for(PictureScale()) == 2.0
    assert package.zoom_for(PictureScale(pixel_um=0.25)) == 2.0  # the training's pixel size is not known
    assert package.zoom_for(PictureScale(diameter=5.0)) == 2.0  # typical: 10
    with pytest.raises(UsageError, match="above 0"):
        PictureScale(pixel_um=0)
    with pytest.raises(UsageError, match="32 times"):
        package.segment(picture(), scale=PictureScale(diameter=0.01))


def test_every_file_says_the_same(model: InstanceModel, tmp_path: Path) -> None:
    values = picture(2)
    Image.fromarray(values).save(tmp_path / "tissue.png")
    (counted,) = segment_pictures(model, [tmp_path / "tissue.png"], tmp_path / "out", scale=PictureScale(pixel_um=0.25))
    labels, table = model.segment(values, scale=PictureScale(pixel_um=0.25))
    with tifffile.TiffFile(tmp_path / "out/tissue.tif") as file:
        page = file.pages.first
        assert np.array_equal(page.asarray(), labels)
        assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == 40_000
        assert page.is_tiled
    rows = list(csv.DictReader((tmp_path / "out/tissue.csv").read_text().splitlines()))
    assert len(rows) == counted.count == len(table) == sum(count for _, count in counted.by_type)
    assert float(rows[3]["area_um2"]) == pytest.approx((labels == 4).sum() / 16)
    x = np.nonzero(labels == 4)[1]
    assert float(rows[3]["centroid_x_um"]) == pytest.approx((x.mean() + 0.5) * 0.25, rel=1e-4)
    features = json.loads((tmp_path / "out/tissue.geojson").read_text())["features"]
    assert len(features) == len(table)
    nuclei = json.loads((tmp_path / "out/tissue.hovernet.json").read_text())["nuc"]
    assert sorted(map(int, nuclei)) == list(range(1, len(table) + 1))
    shown = np.asarray(Image.open(tmp_path / "out/tissue.png"))
    assert shown.shape == values.shape
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"tissue{ending}" for ending in (".tif", ".csv", ".geojson", ".hovernet.json", ".png")
    }


def test_a_tiled_tiff_gives_what_the_picture_in_memory_gives(
    model: InstanceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = picture(3, (140, 150))
    for name, options in (("tiled", {"tile": (64, 64)}), ("strips", {"rowsperstrip": 20})):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", compression="zlib", **options)
    monkeypatch.setattr(picture_windows, "LEAST_PIXELS", 1)
    labels, _ = model.segment(values, tile=70)
    segment_pictures(model, [tmp_path], tmp_path / "out", tile=70)
    for name in ("tiled", "strips"):
        with picture_windows.open_picture(tmp_path / f"{name}.tif") as source:
            assert not source.whole
        assert np.array_equal(tifffile.imread(tmp_path / f"out/{name}.tif"), labels)


def test_broken_pictures_are_told_and_the_others_are_written(model: InstanceModel, tmp_path: Path) -> None:
    Image.fromarray(picture(4, (40, 50))).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(SomeCasesFailed, match="1 of 2") as caught:
        segment_pictures(model, [tmp_path], tmp_path / "out")
    assert "bad.png" in caught.value.diagnostics()
    assert (tmp_path / "out/good.geojson").is_file()
    assert not list((tmp_path / "out").glob("bad*"))
    with pytest.raises(DatasetError, match="found none"):
        segment_pictures(model, [], tmp_path / "out")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = write_model(tmp_path / "run" / "model").parent
    Image.fromarray(picture(5, (60, 70))).save(tmp_path / "a.png")
    (tmp_path / "names.json").write_text('{"0": ["nothing", [0, 0, 0]], "1": ["small", [1, 2, 3]], "2": ["large", []]}')
    common = [str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["nuclei", *common, "--model", str(package), "--types", str(tmp_path / "names.json")]) == 0
    assert "small" in capsys.readouterr().out
    (tmp_path / "names.json").write_text('{"1": "one"}')
    assert main(["nuclei", *common, "--model", str(package), "--types", str(tmp_path / "names.json")]) == 2
    assert main(["nuclei", *common, "--model", str(package), "--mpp", "-1"]) == 2
    assert main(["nuclei", *common, "--model", str(tmp_path / "nothing")]) == 5


def test_models_of_the_program_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei_model, "SHIPPED", tmp_path / "models")
    with pytest.raises(ModelError, match="--model"):
        open_nuclei_model()
    for name in ("nuclei", "nuclei-typed"):
        write_model(tmp_path / "models" / name)
    assert shipped_models() == ("nuclei", "nuclei-typed")
    monkeypatch.chdir(tmp_path)
    Path("nuclei").mkdir()  # the user's folder of pictures is no model and does not hide one
    assert open_nuclei_model(device="cpu").package.name == "random"
    assert open_nuclei_model(Path("nuclei-typed"), device="cpu").package.name == "random"
    with pytest.raises(ModelError, match=r"comes with nuclei, nuclei-typed"):
        open_nuclei_model(Path("nuclei_typed"))


LARGE = """
import resource, sys, threading, time, psutil
from pathlib import Path
from delineate.workflows.segment_instances import load_instance_model
from delineate.workflows.segment_pictures import segment_pictures
import torch
torch.set_num_threads(1)
model = load_instance_model(Path(sys.argv[1]), device="cpu")
segment_pictures(model, [Path(sys.argv[2])], Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_large_picture_needs_little_memory(tmp_path: Path) -> None:
    """6000 x 6000 from a tiled TIFF: 103 MB of pixels, 137 MB of labels, 432 MB if its float maps were kept."""
    block = picture(6, (600, 600))  # 224 220 objects in the whole picture
    tifffile.imwrite(
        tmp_path / "large.tif", np.tile(block, (10, 10, 1)), photometric="rgb", tile=(256, 256), compression="zlib"
    )
    fewer = Decoding(reach=24, largest=60, least_pixels=14, smooth=1.0, foreground=0.3, distance=0.6)
    package = write_model(tmp_path / "model", decoding=fewer)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(package), str(tmp_path / "large.tif"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) < 1500  # MiB; 350 of them are the libraries
    with tifffile.TiffFile(tmp_path / "out/large.tif") as file:
        assert file.pages.first.shape == (6000, 6000)
