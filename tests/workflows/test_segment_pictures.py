"""Pictures to files: the same nuclei in every tiling, from memory and from windows, and what other programs read."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from delineate.cli.main import main
from delineate.errors import DatasetError, Interrupted, ModelError, ResourceError, SomeCasesFailed, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats import picture_windows
from delineate.inference import instance_maps
from delineate.masks.instance_decoding import Decoding
from delineate.masks.label_rows import LabelRows
from delineate.workflows import nuclei_model
from delineate.workflows.nuclei_model import open_nuclei_model
from delineate.workflows.segment_instances import InstanceModel, PictureScale, load_instance_model
from delineate.workflows.segment_pictures import segment_pictures
from instance_models import SCORED, random_network, write_model


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


def test_objects_tell_how_sure_they_are(model: InstanceModel, tmp_path: Path) -> None:
    write_model(tmp_path / "model", decoding=SCORED)
    Image.fromarray(picture(3, (200, 220))).save(tmp_path / "p.png")
    arguments = ["nuclei", str(tmp_path / "p.png"), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    assert main([*arguments, "--device", "cpu"]) == 0
    with (tmp_path / "out" / "p.csv").open(newline="") as stream:
        told = [float(row["confidence"]) for row in csv.DictReader(stream)]
    assert len(told) > 10
    assert len(set(told)) > 5
    assert all(0 <= value <= 1 for value in told)
    features = json.loads((tmp_path / "out" / "p.geojson").read_text())["features"]
    shown = [feature["properties"]["measurements"]["Confidence"] for feature in features]
    assert shown == pytest.approx(told, abs=1e-4)
    assert "confidence" not in model.segment(picture())[1].columns


def test_a_confidence_can_be_asked_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", decoding=SCORED)
    counts = []
    for least in (0.0, 0.5, 0.9):
        asked = open_nuclei_model(folder, device="cpu", precision="float32", confidence=least)
        sure = asked.segment(picture(3, (200, 220)))[1].columns["confidence"]
        assert (sure >= least).all()
        counts.append(len(sure))
    assert counts[0] > counts[-1]
    with pytest.raises(UsageError, match=r"from 0 to below 1; got 1\.5"):
        open_nuclei_model(folder, device="cpu", confidence=1.5)
    with pytest.raises(UsageError, match="from 0 to below 1; got nan"):
        open_nuclei_model(folder, device="cpu", confidence=float("nan"))
    with pytest.raises(UsageError, match="tells no confidence"):
        open_nuclei_model(write_model(tmp_path / "plain"), device="cpu", confidence=0.5)


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
        *(f"tissue{ending}" for ending in (".tif", ".csv", ".geojson", ".hovernet.json", ".png")),
        "counts.csv",
        "nuclei.json",
    }
    (row,) = csv.DictReader((tmp_path / "out/counts.csv").read_text().splitlines())
    assert (row["picture"], int(row["objects"])) == ("tissue", len(table))
    assert int(row["round"]) + int(row["other"]) == len(table)
    square_mm = labels.size * 0.25**2 / 1e6
    assert float(row["area_mm2"]) == pytest.approx(square_mm, rel=1e-4)
    assert float(row["objects_per_mm2"]) == pytest.approx(len(table) / square_mm, rel=1e-4)


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


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "lzw", "zstd", None])
def test_windows_of_a_compressed_tiff_are_those_of_the_whole(
    compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(3, (140, 150)), photometric="rgb", tile=(64, 64), compression=compression)
    whole = tifffile.imread(path)
    monkeypatch.setattr(picture_windows, "LEAST_PIXELS", 1)
    with picture_windows.open_picture(path) as source:
        assert not source.whole
        assert np.array_equal(source.read(slice(0, 10), slice(0, 10)), whole[:10, :10])
        assert np.array_equal(source.read(slice(50, 140), slice(3, 150)), whole[50:140, 3:150])


def test_a_failed_write_ends_the_thread_before_the_file_is_closed(
    model: InstanceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ResourceError("The disk is full.")

    tifffile.imwrite(tmp_path / "a.tif", picture(3, (140, 150)), photometric="rgb", tile=(64, 64))
    monkeypatch.setattr(picture_windows, "LEAST_PIXELS", 1)
    monkeypatch.setattr(instance_maps, "ROWS", 32)
    monkeypatch.setattr(instance_maps, "COLUMNS", 32)
    monkeypatch.setattr(LabelRows, "put", refused)
    with pytest.raises(SomeCasesFailed) as caught:
        segment_pictures(model, [tmp_path / "a.tif"], tmp_path / "out", tile=32)
    assert "The disk is full" in caught.value.diagnostics()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("maps")]


def test_threads_read_windows_of_a_tiff_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, values = tmp_path / "a.tif", picture(3, (140, 150))
    tifffile.imwrite(path, values, photometric="rgb", tile=(16, 16), compression="zlib")
    monkeypatch.setattr(picture_windows, "LEAST_PIXELS", 1)
    monkeypatch.setattr(picture_windows, "CACHED_BYTES", 3 * 16 * 16 * 3)
    rows = [slice(start % 100, start % 100 + 40) for start in range(0, 1400, 7)]
    with picture_windows.open_picture(path) as source, ThreadPoolExecutor(4) as threads:
        for part, window in zip(rows, threads.map(lambda part: source.read(part, slice(5, 145)), rows), strict=True):
            assert np.array_equal(window, values[part, 5:145])


def test_a_sample_holds_no_more_than_its_pixels() -> None:
    held = list[weakref.ref[np.ndarray]]()

    def read(rows: slice, columns: slice) -> np.ndarray:
        assert not [window for window in held[:-1] if window() is not None], "windows of before are still there"
        window = np.full((rows.stop - rows.start, columns.stop - columns.start, 1), rows.start, dtype=np.uint8)
        held.append(weakref.ref(window))
        return window

    source = picture_windows.PictureSource(shape=(40, 1 << 20), read=read, whole=False)
    sample = source.sample(4)
    assert sample.shape == (10, 1 << 18, 1)
    assert np.array_equal(sample[:, 0, 0], np.arange(0, 40, 4))
    assert len(held) == 10


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


def test_finished_pictures_are_kept_and_what_was_made_otherwise_is_not_mixed_in(
    model: InstanceModel, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        Image.fromarray(picture(seed, (60, 70))).save(tmp_path / f"{name}.png")
    first = segment_pictures(model, [tmp_path], tmp_path / "out")
    (tmp_path / "out/b.geojson").unlink()
    stood = (tmp_path / "out/a.tif").stat().st_mtime_ns
    again = segment_pictures(model, [tmp_path], tmp_path / "out")
    assert [one.kept for one in again] == [True, False]
    assert (tmp_path / "out/a.tif").stat().st_mtime_ns == stood
    assert (tmp_path / "out/b.geojson").is_file()
    told = [[(one.name, one.count, one.by_type, one.pixels) for one in found] for found in (first, again)]
    assert told[0] == told[1]
    with pytest.raises(UsageError, match=r"pixel_um was None and is now 0\.5"):
        segment_pictures(model, [tmp_path], tmp_path / "out", scale=PictureScale(pixel_um=0.5))
    new = segment_pictures(model, [tmp_path], tmp_path / "out", scale=PictureScale(pixel_um=0.5), overwrite=True)
    assert [one.kept for one in new] == [False, False]
    assert json.loads((tmp_path / "out/nuclei.json").read_text())["pixel_um"] == 0.5


def test_pictures_are_never_replaced_by_results(model: InstanceModel, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(0, (40, 50)), photometric="rgb")
    before = (tmp_path / "a.tif").read_bytes()
    for out in (tmp_path, tmp_path / "sub" / ".."):
        with pytest.raises(UsageError, match="holds the pictures"):
            segment_pictures(model, [tmp_path / "a.tif"], out)
    assert (tmp_path / "a.tif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_one_channel_of_several_is_chosen_and_never_guessed(model: InstanceModel, tmp_path: Path) -> None:
    planes = np.stack([picture(seed, (50, 60))[..., 0] for seed in range(5)])
    tifffile.imwrite(tmp_path / "five.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "three.tif", planes[:3], photometric="minisblack", metadata={"axes": "CYX"})
    for name in ("five", "three"):
        with pytest.raises(SomeCasesFailed) as caught:
            segment_pictures(model, [tmp_path / f"{name}.tif"], tmp_path / "out")
        assert "--channel 1 to" in caught.value.diagnostics()
        segment_pictures(model, [tmp_path / f"{name}.tif"], tmp_path / "third", channel=3)
        assert np.array_equal(tifffile.imread(tmp_path / f"third/{name}.tif"), model.segment(planes[2])[0])
    with pytest.raises(SomeCasesFailed) as caught:
        segment_pictures(model, [tmp_path / "three.tif"], tmp_path / "fourth", channel=4)
    assert "the picture has 3" in caught.value.diagnostics()


@pytest.mark.parametrize("channel", [None, 2])
def test_windows_show_the_channel_that_the_whole_picture_shows(
    channel: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = picture(0, (50, 60))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", tile=(16, 16))
    window = slice(3, 40), slice(10, 59)
    with picture_windows.open_picture(tmp_path / "a.tif", channel=channel) as source:
        whole = source.read(*window)
    monkeypatch.setattr(picture_windows, "LEAST_PIXELS", 1)
    with picture_windows.open_picture(tmp_path / "a.tif", channel=channel) as source:
        assert not source.whole
        assert np.array_equal(source.read(*window), whole)
    assert np.array_equal(whole, values[window] if channel is None else values[window][..., 1:2])


def as_png(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def as_palette(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values // 64 * 64).quantize(256, dither=Image.Dither.NONE).save(path)


USABLE = {
    "rgba.png": lambda path, v: as_png(path, np.dstack([v, np.full(v.shape[:2], 9, np.uint8)])),
    "cmyk.tif": lambda path, v: Image.fromarray(v).convert("CMYK").save(path),
    "deep.tif": lambda path, v: tifffile.imwrite(path, v.astype(np.uint16) * 257, photometric="rgb"),
    "planes.tif": lambda path, v: tifffile.imwrite(
        path, v.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    ),
    "float.tif": lambda path, v: tifffile.imwrite(path, v.astype(np.float32) / 7, photometric="rgb"),
    "bmp.bmp": as_png,
}


@pytest.mark.parametrize("name", USABLE)
def test_the_same_picture_in_every_form_gives_the_same_nuclei(name: str, model: InstanceModel, tmp_path: Path) -> None:
    values = picture(1, (50, 60))
    USABLE[name](tmp_path / name, values)
    segment_pictures(model, [tmp_path / name], tmp_path / "out")
    assert np.array_equal(tifffile.imread(tmp_path / "out" / f"{Path(name).stem}.tif"), model.segment(values)[0])


def test_palette_pictures_become_colours(model: InstanceModel, tmp_path: Path) -> None:
    as_palette(tmp_path / "a.png", picture(1, (50, 60)))
    segment_pictures(model, [tmp_path / "a.png"], tmp_path / "out")
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert np.array_equal(tifffile.imread(tmp_path / "out/a.tif"), model.segment(shown)[0])


UNUSABLE = {
    "truncated.png": (lambda path: path.write_bytes(png()[: len(png()) // 2]), "truncated"),
    "text.png": (lambda path: path.write_text("no picture"), "expected PNG"),
    "empty.png": (lambda path: path.write_bytes(b""), "empty"),
    "nan.tif": (lambda path: tifffile.imwrite(path, np.full((40, 40), np.nan, np.float32)), "not finite"),
    "stack.tif": (lambda path: tifffile.imwrite(path, np.zeros((5, 40, 40), np.uint8)), "Save one file per plane"),
    "cut.tif": (lambda path: path.write_bytes(tiff(path)[:900]), "truncated"),
    "notes.txt": (lambda path: path.write_text("x"), "expected an image file"),
}


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(0, (40, 50))).save(stream, "png")
    return stream.getvalue()


def tiff(path: Path) -> bytes:
    tifffile.imwrite(path, picture(0, (40, 50)), photometric="rgb")
    return path.read_bytes()


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_picture_is_one_clear_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], model_folder: Path
) -> None:
    make, words = UNUSABLE[name]
    make(tmp_path / name)
    arguments = [str(tmp_path / name), "-o", str(tmp_path / "out"), "--model", str(model_folder), "--device", "cpu"]
    assert main(["nuclei", *arguments]) == 4
    told = capsys.readouterr().err
    assert words in told
    assert name in told
    assert "Traceback" not in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"nuclei.json", "counts.csv"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (33, 1), (2, 3)])
def test_tiny_and_empty_pictures_have_results(shape: tuple[int, int], model: InstanceModel, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(tmp_path / "a.png")
    (counted,) = segment_pictures(model, [tmp_path / "a.png"], tmp_path / "out")
    assert tifffile.imread(tmp_path / "out/a.tif").shape == shape
    assert len(json.loads((tmp_path / "out/a.geojson").read_text())["features"]) == counted.count


def test_hidden_files_and_others_in_a_folder_are_passed_over(model: InstanceModel, tmp_path: Path) -> None:
    Image.fromarray(picture(0, (40, 50))).save(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"left by a system")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sub").mkdir()
    assert [one.name for one in segment_pictures(model, [tmp_path], tmp_path / "out")] == ["a"]
    Image.fromarray(picture(0, (40, 50))).save(tmp_path / "a.bmp")
    with pytest.raises(DatasetError, match="several are called a"):
        segment_pictures(model, [tmp_path], tmp_path / "out")


def test_an_output_that_cannot_be_a_folder_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_folder: Path
) -> None:
    Image.fromarray(picture(0, (40, 50))).save(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file")
    arguments = [str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", str(model_folder)]
    assert main(["nuclei", *arguments]) == 6
    assert "Choose another output folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a file"


def test_an_interrupted_picture_leaves_nothing_half_written(model: InstanceModel, tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(picture(0, (100, 120))).save(tmp_path / f"{name}.png")
    stop = Cancellation()

    class Stops(Silent):
        left = 9  # 4 x 4 tiles of the first picture need more

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.left -= 1
            if not self.left:
                stop.request()

    with pytest.raises(Interrupted):
        segment_pictures(model, [tmp_path], tmp_path / "out", tile=33, progress=Stops(), cancellation=stop)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["nuclei.json"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("folder") / "run" / "model").parent


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], model_folder: Path) -> None:
    Image.fromarray(picture(5, (60, 70))).save(tmp_path / "a.png")
    (tmp_path / "names.json").write_text('{"0": ["nothing", [0, 0, 0]], "1": ["small", [1, 2, 3]], "2": ["large", []]}')
    common = [str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    own = [*common, "--model", str(model_folder)]
    assert main(["nuclei", *own, "--types", str(tmp_path / "names.json")]) == 0
    printed = capsys.readouterr().out
    assert "small" in printed
    assert "nuclei to be about 10 pixels across" in printed
    assert main(["nuclei", *own, "--types", str(tmp_path / "names.json")]) == 0
    assert "stood there already" in capsys.readouterr().out
    assert main(["nuclei", *own]) == 2  # other names of the types
    assert "--overwrite" in capsys.readouterr().err
    assert main(["nuclei", *own, "--types", str(tmp_path / "names.json"), "--tta"]) == 2  # other maps
    assert main(["nuclei", *own, "--tta", "--overwrite"]) == 0
    (tmp_path / "names.json").write_text('{"1": "one"}')
    assert main(["nuclei", *own, "--types", str(tmp_path / "names.json")]) == 2
    for wrong in ("-1", "nan", "0"):
        assert main(["nuclei", *own, "--mpp", wrong]) == 2
    assert main(["nuclei", *own, "--published-decoding"]) == 2
    assert main(["nuclei", *common, "--model", str(tmp_path / "nothing")]) == 5


def test_models_of_the_program_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei_model, "SHIPPED", tmp_path)
    for ask in ({}, {"typed": True}, {"path": Path("nuclei")}):
        with pytest.raises(ModelError, match="--model"):
            open_nuclei_model(**ask)
    plain = random_network(0, types=0)
    write_model(tmp_path / "nuclei", name="plain", type_names=(), weights=plain.state_dict())
    write_model(tmp_path / "nuclei-typed", name="typed")
    (tmp_path / "names.json").write_text('{"1": "small", "2": "large"}')
    names = tmp_path / "names.json"
    monkeypatch.chdir(tmp_path / "nuclei")
    Path("nuclei").mkdir()  # the user's folder of pictures is no model and hides none
    for ask, expected in (
        ({}, "plain"),
        ({"path": Path("nuclei")}, "plain"),
        ({"path": Path("nuclei-typed")}, "typed"),
        ({"typed": True}, "typed"),
        ({"types": names}, "typed"),
    ):
        assert open_nuclei_model(device="cpu", **ask).package.name == expected
    with pytest.raises(UsageError, match="tells no types"):
        open_nuclei_model(Path("nuclei"), typed=True, device="cpu")


LARGE = """
import sys
from pathlib import Path
from delineate.workflows.segment_instances import load_instance_model
from delineate.workflows.segment_pictures import segment_pictures
import torch
torch.set_num_threads(1)
model = load_instance_model(Path(sys.argv[1]), device="cpu")
segment_pictures(model, [Path(sys.argv[2])], Path(sys.argv[3]))
# not getrusage: its peak is also that of the process from which this one was started
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
def test_a_large_picture_needs_little_memory(tmp_path: Path) -> None:
    """6000 x 6000 from a tiled TIFF: 103 MB of pixels, 137 MB of labels, 432 MB if its float maps were kept."""
    block = picture(6, (600, 600))  # tens of thousands of objects in the whole picture
    tifffile.imwrite(
        tmp_path / "large.tif", np.tile(block, (10, 10, 1)), photometric="rgb", tile=(256, 256), compression="zlib"
    )
    fewer = Decoding(reach=24, largest=60, least_pixels=14, smooth=2.0, foreground=0.5, prominence=0.1)
    package = write_model(tmp_path / "model", decoding=fewer)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(package), str(tmp_path / "large.tif"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) < 1500 << 10  # KiB; 350 MiB of them are the libraries
    with tifffile.TiffFile(tmp_path / "out/large.tif") as file:
        assert file.pages.first.shape == (6000, 6000)
