import logging

import pytest
from pydicom.config import WARN
from pydicom.valuerep import validate_value

from delineate.cli.log_lines import log_to_terminal


def warn_often(times):
    for number in range(times):
        logging.getLogger("delineate.somewhere").warning("%s: value %d read as 1", f"case_{number}", 255)


def test_many_messages_of_a_kind_become_a_few_and_a_number(capsys):
    with log_to_terminal(verbose=False):
        warn_often(100)
        logging.getLogger("delineate.elsewhere").warning("another kind")
        logging.getLogger("delineate.elsewhere").debug("not shown")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *(f"WARNING case_{n}: value 255 read as 1" for n in range(3)),
        "WARNING another kind",
        "WARNING 97 more like 'case_0: value 255 read as 1' (--verbose shows all)",
    ]


def test_verbose_shows_all(capsys):
    with log_to_terminal(verbose=True):
        warn_often(5)
        logging.getLogger("delineate.elsewhere").debug("shown")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "DEBUG shown"


def test_the_logging_of_the_caller_is_left_as_it_was(capsys):
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with log_to_terminal(verbose=True):
        pass
    assert (root.level, list(root.handlers)) == before


def test_a_library_that_sets_its_own_level_tells_no_more_than_warnings(capsys):
    library = logging.getLogger("some_library.scheduler")
    library.setLevel(logging.INFO)
    with log_to_terminal(verbose=False):
        library.info("not shown")
        library.warning("shown")
    assert capsys.readouterr().err.splitlines() == ["WARNING shown"]


def test_what_pydicom_logs_is_not_shown_a_second_time_as_its_warning(capsys):
    with log_to_terminal(verbose=False):
        validate_value("IS", "255x0", WARN)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("WARNING Invalid value for VR IS: '255x0'")
    with pytest.raises(UserWarning):
        validate_value("IS", "255x0", WARN)
