"""Every trouble alone and in pairs: its code every time, and never a silent volume."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from messy_faults import FAULTS, Fault
from messy_series import intensities, make_series, write_series
from pydicom import Dataset

from delineate.errors import ImageReadError
from delineate.formats.dicom.reading import inspect_dicom, read_dicom

STAY_WHOLE = [fault for fault in FAULTS if fault.severity != "refused" and fault.parts == 1]


def reports_of(folder: Path, *faults: Fault):
    planes = make_series()
    for fault in sorted(faults, key=lambda fault: fault.turn):
        planes = fault.apply(planes)
    write_series(folder, planes)
    for fault in faults:
        if fault.spoil is not None:
            fault.spoil(folder)
    return inspect_dicom(folder)


def is_refused(folder: Path) -> bool:
    try:
        read_dicom(folder)
    except ImageReadError:
        return True
    return False


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_each_fault_alone_has_its_code(fault: Fault, tmp_path: Path) -> None:
    reports = reports_of(tmp_path, fault)
    found = {one.code: one.severity for report in reports for one in report.findings}
    if fault.parts > 1:
        found.pop("SINGLE_PLANE", None)
    assert found == {fault.code: fault.severity}
    assert len(reports) == fault.parts
    assert all(one.words for report in reports for one in report.findings)
    if fault.severity == "refused" or fault.parts > 1:
        with pytest.raises(ImageReadError) as told:
            read_dicom(tmp_path)
        assert fault.code in str(told.value) or fault.parts > 1
    else:
        volume = read_dicom(tmp_path)
        assert volume.report.accepted
        assert fault.code in {one.code for one in volume.report.findings}


def wrong_pairs(folder: Path, pairs: Iterable[tuple[Fault, Fault]]) -> list[object]:
    """Pairs that are read as if nothing were wrong, or that are told as something else."""
    wrong = []
    for number, (one, other) in enumerate(pairs):
        place = folder / str(number)
        reports = reports_of(place, one, other)
        codes = {found.code for report in reports for found in report.findings}
        whole = len(reports) == 1 and reports[0].accepted
        if "refused" in (one.severity, other.severity) or one.parts + other.parts > 2:
            # the whole series is refused, or it falls into parts that must be asked for by name
            good = not whole and bool(codes & {one.code, other.code}) and is_refused(place)
        else:
            good = whole and codes >= {one.code, other.code}
        if not good:
            wrong.append((one, other, sorted(codes), len(reports)))
    return wrong


PAIRS = list(combinations(FAULTS, 2))


def test_faults_in_some_pairs_are_never_silent(tmp_path: Path) -> None:
    assert not wrong_pairs(tmp_path, PAIRS[::11])


@pytest.mark.slow
def test_faults_in_all_pairs_are_never_silent(tmp_path: Path) -> None:
    assert not wrong_pairs(tmp_path, PAIRS)


@pytest.mark.parametrize(("one", "other"), list(combinations(STAY_WHOLE, 2)), ids=repr)
def test_repairs_together_give_the_volume_without_faults(one: Fault, other: Fault, tmp_path: Path) -> None:
    planes = make_series()
    expected = [*copy.deepcopy(planes)]
    for fault in sorted((one, other), key=lambda fault: fault.turn):
        expected = fault.apply(expected)
    clean = expected[: len(planes)]
    reports_of(tmp_path, one, other)
    volume = read_dicom(tmp_path)
    values = intensities(clean)
    if "padded" in (repr(one), repr(other)):
        held = np.stack([np.array(plane.PixelPaddingValue) == _stored(plane) for plane in clean])
        for plane, hidden in zip(values, held, strict=True):
            plane[hidden] = plane[~hidden].min()
    np.testing.assert_allclose(volume.image.array[0], values)


def _stored(plane: Dataset) -> np.ndarray:
    return np.frombuffer(plane.PixelData, np.uint16).reshape(plane.Rows, plane.Columns)


def test_parts_are_read_by_their_names(tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if repr(fault) == "other_size")
    reports = reports_of(tmp_path, fault)
    assert [report.part for report in reports] == ["6 x 5 pixels", "6 x 7 pixels"]
    assert [report.n_planes for report in reports] == [6, 1]
    with pytest.raises(ImageReadError, match="6 x 7 pixels"):
        read_dicom(tmp_path)
    assert read_dicom(tmp_path, part="6 x 5 pixels").image.grid.shape == (6, 6, 5)


def test_the_complete_phase_of_an_incomplete_series_can_be_read(tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if repr(fault) == "incomplete_phase")
    reports = reports_of(tmp_path, fault)
    assert [(report.part, report.accepted) for report in reports] == [
        ("temporal position 1", True),
        ("temporal position 2", False),
    ]
    assert read_dicom(tmp_path, part="temporal position 1").image.grid.shape[0] == 6
    with pytest.raises(ImageReadError, match="INCOMPLETE_PART"):
        read_dicom(tmp_path, part="temporal position 2")


@pytest.mark.parametrize("share", [0.004, 0.02, 0.049, 0.051, 0.2])
def test_nearly_regular_spacing_is_repaired_up_to_a_twentieth(share: float, tmp_path: Path) -> None:
    planes = make_series(spacing_mm=(4.0, 1.0, 1.0))
    planes[2].ImagePositionPatient[2] += share * 4.0
    write_series(tmp_path, planes)
    report = inspect_dicom(tmp_path)[0]
    codes = [one.code for one in report.findings]
    if share < 0.01:
        assert codes == []
    elif share <= 0.05:
        assert codes == ["NEARLY_REGULAR_SPACING"]
        assert f"{share * 4.0:.3g} mm" in report.findings[0].words
        assert report.spacing_mm == pytest.approx((4.0, 1.0, 1.0))
    else:
        assert codes == ["IRREGULAR_SPACING"]


def test_small_errors_that_add_up_are_refused(tmp_path: Path) -> None:
    planes = make_series(shape=(40, 6, 5))
    for number, plane in enumerate(planes):  # first half 1 % closer, second half 1 % farther apart
        plane.ImagePositionPatient[2] = 2.5 * (0.99 * number if number < 20 else 0.99 * 20 + 1.01 * (number - 20))
    write_series(tmp_path, planes)
    assert [one.code for one in inspect_dicom(tmp_path)[0].findings] == ["IRREGULAR_SPACING"]


def test_a_missing_slice_of_a_nearly_regular_series_is_found(tmp_path: Path) -> None:
    planes = make_series()
    planes[1].ImagePositionPatient[2] += 0.05
    write_series(tmp_path, [*planes[:3], *planes[5:]])
    report = inspect_dicom(tmp_path)[0]
    assert [one.code for one in report.findings] == ["MISSING_SLICES"]
    assert "2 planes are missing at 1 places" in report.findings[0].words
