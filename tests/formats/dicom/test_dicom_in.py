"""The doors of DICOM: inspect, series to NIfTI, structure sets to masks."""

from __future__ import annotations

import copy
import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
from messy_faults import missing_slice
from messy_series import enhanced, intensities, make_series, repeated, write_series
from test_structure_set_reading import block, write_labels_as_rtstruct

from delineate.cli.main import main
from delineate.formats.dicom.reading import inspect_dicom, read_dicom
from delineate.formats.images import read_image, read_labels


def test_inspect_is_a_table_for_people_and_json_for_programs(tmp_path: Path, capsys) -> None:
    good, broken = make_series(), missing_slice(make_series("MR", seed=7))
    write_series(tmp_path / "a", good)
    write_series(tmp_path / "b", broken)
    assert main(["dicom", "inspect", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "6 x 6 x 5" in told
    assert "2.5 x 0.75 x 0.5 mm" in told
    assert "MISSING_SLICES: 1 planes are missing" in told
    assert "1 of 2 series or parts make a volume" in told
    assert "Doe" not in told
    assert main(["dicom", "inspect", str(tmp_path), "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["accepted"] for report in reports] == [True, False]
    assert reports[1]["findings"][0]["code"] == "MISSING_SLICES"


def test_to_nifti_writes_the_volume_where_it_lies(tmp_path: Path) -> None:
    turn = np.deg2rad(20)
    axes = ((np.cos(turn), np.sin(turn), 0.0), (-np.sin(turn), np.cos(turn), 0.0))
    planes = make_series(axes=axes)
    write_series(tmp_path / "a", planes)
    assert main(["dicom", "to-nifti", str(tmp_path / "a"), "-o", str(tmp_path / "out" / "scan.nii.gz")]) == 0
    image = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, intensities(planes))
    # nibabel counts to the right and to the front
    expected = np.diag([-1, -1, 1, 1]) @ read_dicom(tmp_path / "a").image.grid.affine[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(image.affine, expected, atol=1e-4)
    report = json.loads((tmp_path / "out" / "scan.report.json").read_text())
    assert report["series"]["accepted"]
    assert report["shape_zyx"] == [6, 6, 5]
    assert "Doe" not in (tmp_path / "out" / "scan.report.json").read_text()


def test_to_nifti_writes_all_volumes_into_a_folder(tmp_path: Path, capsys) -> None:
    phases = repeated(make_series("MR"), 2, lambda plane, time: setattr(plane, "EchoTime", 2.3 * (time + 1)))
    write_series(tmp_path / "a", phases)
    write_series(tmp_path / "b", missing_slice(make_series()))
    assert main(["dicom", "to-nifti", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert names == ["series_01_MR_echo_2.3.nii.gz", "series_02_MR_echo_4.6.nii.gz"]
    second = read_image(tmp_path / "out" / names[1])
    np.testing.assert_array_equal(second.array[0], intensities(phases[6:]))
    one = tmp_path / "one.nii.gz"
    assert main(["dicom", "to-nifti", str(tmp_path / "a"), "--part", "echo 2.3", "-o", str(one)]) == 0
    assert main(["dicom", "to-nifti", str(tmp_path / "a"), "-o", str(tmp_path / "two.nii.gz")]) == 3
    assert "echo 4.6" in capsys.readouterr().err
    assert not (tmp_path / "two.nii.gz").exists()
    assert main(["dicom", "to-nifti", str(tmp_path / "b"), "-o", str(tmp_path / "none")]) == 3


def test_structures_that_do_not_overlap_become_a_label_map(tmp_path: Path, capsys) -> None:
    write_series(tmp_path / "images", make_series(shape=(5, 16, 14)))
    write_series(tmp_path / "images", make_series("MR"), prefix="other")
    labels = block()
    labels[2, 5:8, 5:8] = 2
    volume = read_dicom(tmp_path / "images", series_uid=_ct(tmp_path / "images"))
    write_labels_as_rtstruct(tmp_path / "rt.dcm", labels, volume)
    out = tmp_path / "out"
    assert (
        main(["dicom", "from-rtstruct", str(tmp_path / "rt.dcm"), "--images", str(tmp_path / "images"), "-o", str(out)])
        == 0
    )
    assert "one label map, because no structures overlap" in capsys.readouterr().out
    np.testing.assert_array_equal(read_labels(out / "labels.nii.gz").array, labels)
    rows = list(csv.DictReader((out / "structures.csv").read_text().splitlines()))
    assert [(row["value"], row["name"], row["red"], row["voxels"]) for row in rows] == [
        ("1", "s1", "10", str(int((labels == 1).sum()))),
        ("2", "s2", "10", "9"),
    ]
    assert json.loads((out / "report.json").read_text())["form"] == "one label map"


def _ct(folder: Path) -> str:
    return next(report.series_uid for report in inspect_dicom(folder) if report.modality == "CT")


def test_structures_that_overlap_become_a_mask_each(tmp_path: Path, capsys) -> None:
    write_series(tmp_path / "images", make_series(shape=(5, 16, 14)))
    volume = read_dicom(tmp_path / "images")
    dataset = write_labels_as_rtstruct(tmp_path / "rt.dcm", block(), volume)
    for sequence, keyword in (("StructureSetROISequence", "ROINumber"), ("ROIContourSequence", "ReferencedROINumber")):
        again = copy.deepcopy(getattr(dataset, sequence)[0])
        setattr(again, keyword, 2)
        if "ROIName" in again:
            again.ROIName = "a/b: c"
        getattr(dataset, sequence).append(again)
    dataset.save_as(tmp_path / "rt.dcm")
    out = tmp_path / "out"
    assert (
        main(["dicom", "from-rtstruct", str(tmp_path / "rt.dcm"), "--images", str(tmp_path / "images"), "-o", str(out)])
        == 0
    )
    assert f"structures overlap in {int(block().sum())} voxels" in capsys.readouterr().out
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a_b_c.nii.gz", "s1.nii.gz"]
    np.testing.assert_array_equal(read_labels(out / "masks" / "a_b_c.nii.gz").array, block())


def test_a_multi_frame_file_is_read_like_a_folder(tmp_path: Path) -> None:
    planes = make_series("MR")
    file = write_series(tmp_path / "a", [enhanced(planes)], ending="")[0]
    assert main(["dicom", "to-nifti", str(file), "-o", str(tmp_path / "x.nii.gz")]) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii.gz").array, read_image(file).array)


WITHOUT_PYDICOM = """
import sys
sys.modules["pydicom"] = None
from pathlib import Path
from delineate.cli.main import main
from delineate.errors import UsageError
from delineate.formats.images import read_image
assert main(["dicom", "inspect", sys.argv[1]]) == 2
try:
    read_image(Path(sys.argv[1]))
except UsageError as error:
    print(error, file=sys.stderr)
"""


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    write_series(tmp_path, make_series())
    command = [sys.executable, "-c", WITHOUT_PYDICOM, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr.count("pip install 'delineate[dicom]'") == 2
