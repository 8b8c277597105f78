"""Where nnU-Net keeps things: three folders, one sub-folder per dataset, fixed names in it.

Only paths and names; what the files hold is read elsewhere. Which folders there are is decided by the caller: nothing
here looks at the environment.

References
----------
nnU-Net 2.8.1: ``paths.py``, ``utilities/dataset_name_id_conversion.py``, ``utilities/file_path_utilities.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import UsageError

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
"""Names of nnU-Net's environment variables, for messages and for the command line."""
DECLARATION = "dataset.json"
_NAME = re.compile(r"Dataset(\d{3})_(.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class NnunetFolders:
    """nnU-Net's three folders; None where it was not said which."""

    raw: Path | None = None
    """Images and masks as the user arranged them."""
    preprocessed: Path | None = None
    """Fingerprints, plans, splits and prepared cases."""
    results: Path | None = None
    """Trained models."""

    def require(self, variable: str) -> Path:
        """Return the folder of one of the variables :data:`RAW`, :data:`PREPROCESSED`, :data:`RESULTS`.

        Raises
        ------
        UsageError
            If it is not set; names the variable.
        """
        folder = {RAW: self.raw, PREPROCESSED: self.preprocessed, RESULTS: self.results}[variable]
        if folder is None:
            raise UsageError(
                f"The environment variable {variable} is not set, and this command needs that folder. "
                f"Set it, for example: export {variable}=/path/to/{variable}"
            )
        return folder

    @property
    def known(self) -> tuple[Path, ...]:
        """The folders that are set, in nnU-Net's order of looking for names."""
        return tuple(folder for folder in (self.preprocessed, self.raw, self.results) if folder is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class NnunetDataset:
    """The places of one dataset, whether or not there is anything yet."""

    name: str
    """``DatasetXXX_Name``."""
    folders: NnunetFolders

    @property
    def raw(self) -> Path:
        """The images and masks."""
        return self.folders.require(RAW) / self.name

    @property
    def preprocessed(self) -> Path:
        """Parent of everything that planning and preprocessing write."""
        return self.folders.require(PREPROCESSED) / self.name

    @property
    def declaration(self) -> Path:
        """The copy of ``dataset.json`` beside the plans."""
        return self.preprocessed / DECLARATION

    @property
    def fingerprint(self) -> Path:
        """What was measured."""
        return self.preprocessed / "dataset_fingerprint.json"

    @property
    def splits(self) -> Path:
        """Which case is in which fold."""
        return self.preprocessed / "splits_final.json"

    @property
    def references(self) -> Path:
        """Copies of the masks, so that validation works without the raw data."""
        return self.preprocessed / "gt_segmentations"

    def plan(self, plans_name: str) -> Path:
        """Return the plans file of that name.

        Raises
        ------
        UsageError
            If the name leads to another folder.
        """
        _require_plain(plans_name)
        return self.preprocessed / f"{plans_name}.json"

    def prepared(self, data_identifier: str) -> Path:
        """Return the folder of prepared cases."""
        return self.preprocessed / data_identifier

    def model(self, trainer: str, plans_name: str, configuration: str) -> Path:
        """Return the folder of a trained model.

        Raises
        ------
        UsageError
            If one of the names leads to another folder.
        """
        _require_plain(trainer, plans_name, configuration)
        return self.folders.require(RESULTS) / self.name / f"{trainer}__{plans_name}__{configuration}"


def _require_plain(*names: str) -> None:
    wrong = [name for name in names if name in ("", ".", "..") or "/" in name or "\\" in name]
    if wrong:
        raise UsageError(f"'{wrong[0]}' is a path; trainers, plans and configurations are called by a name alone.")


def find_dataset(folders: NnunetFolders, word: str) -> NnunetDataset:
    """Return the dataset that a user calls by its number or by its whole name.

    Raises
    ------
    UsageError
        If the word is neither, no folder holds such a dataset, or several names have the number; names all of them.
    """
    if word.startswith("Dataset"):
        _require_plain(word)
        return NnunetDataset(name=word, folders=folders)
    if not word.isdigit():
        raise UsageError(f"A dataset is called by its number or as DatasetXXX_Name; got '{word}'.")
    names = dataset_names(folders, int(word))
    looked = ", ".join(str(folder) for folder in folders.known) or f"nowhere: set {RAW}, {PREPROCESSED} or {RESULTS}"
    if not names:
        raise UsageError(
            f"There is no dataset with the number {int(word)}; looked in {looked}. Check number and folders."
        )
    if len(names) > 1:
        raise UsageError(
            f"The number {int(word)} belongs to several datasets: {', '.join(names)} (looked in {looked}). Give the "
            "whole name, or rename one of them."
        )
    return NnunetDataset(name=names[0], folders=folders)


def number_of(name: str) -> int:
    """Return the number in a dataset's name.

    Raises
    ------
    UsageError
        If the name is not of the form ``DatasetXXX_Name``.
    """
    match = _NAME.fullmatch(name)
    if match is None or "/" in name:
        raise UsageError(f"A dataset is called DatasetXXX_Name, with three digits; got '{name}'.")
    return int(match[1])


def dataset_names(folders: NnunetFolders, number: int) -> tuple[str, ...]:
    """Return the names of all datasets with that number in any of the folders, sorted."""
    found = {
        path.name
        for folder in folders.known
        if folder.is_dir()
        for path in folder.iterdir()
        if path.is_dir() and (match := _NAME.fullmatch(path.name)) and int(match[1]) == number
    }
    return tuple(sorted(found))


def find_datasets(folders: NnunetFolders, words: Sequence[str]) -> tuple[NnunetDataset, ...]:
    """Return the datasets that the user calls by these words; all wrong words are told at once.

    Raises
    ------
    UsageError
        If one of them is not found.
    """
    found, faults = [], []
    for word in words:
        try:
            found.append(find_dataset(folders, word))
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("\n".join(faults))
    return tuple(found)
