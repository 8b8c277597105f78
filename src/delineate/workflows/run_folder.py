"""Where the pieces of one run lie on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """The output folder of ``delineate run`` and of the single steps that share it."""

    root: Path

    @property
    def settings(self) -> Path:
        """What was asked for: command, budget, seed, times."""
        return self.root / "run.json"

    @property
    def verification(self) -> Path:
        """All faults that the verifier found."""
        return self.root / "verification.json"

    @property
    def dataset(self) -> Path:
        """The dataset in nnU-Net's words."""
        return self.root / "dataset.json"

    @property
    def fingerprint(self) -> Path:
        """The fingerprint in nnU-Net's words, and our own additions."""
        return self.root / "dataset_fingerprint.json"

    @property
    def plan(self) -> Path:
        """nnU-Net's plans file."""
        return self.root / "plans.json"

    @property
    def splits(self) -> Path:
        """Which case is in which fold."""
        return self.root / "splits_final.json"

    @property
    def recipe(self) -> Path:
        """What is trained and how: the chosen configuration and recipe, with the reasons."""
        return self.root / "recipe.json"

    @property
    def origin(self) -> Path:
        """Which model the training starts from, and what became of its weights; absent if it starts from none."""
        return self.root / "origin.json"

    @property
    def step_cost(self) -> Path:
        """What a training step of the recipe was measured to cost."""
        return self.root / "step_cost.json"

    @property
    def prepared(self) -> Path:
        """Parent of the prepared cases; one folder per data identifier, as nnU-Net has it."""
        return self.root / "prepared"

    def fold(self, fold: str) -> Path:
        """Return the folder of checkpoints and history of a fold (a number, or ``all``)."""
        return self.root / f"fold_{fold}"

    def validation(self, fold: str) -> Path:
        """Return the folder of the predicted validation cases of a fold."""
        return self.fold(fold) / "validation"

    @property
    def model(self) -> Path:
        """The trained model package."""
        return self.root / "model"

    @property
    def test_predictions(self) -> Path:
        """Predictions for the dataset's test images."""
        return self.root / "predictions"

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.root / "report.html"

    @property
    def scores(self) -> Path:
        """All scores as JSON."""
        return self.root / "scores.json"
