"""Where the pieces of one run lie on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INSTANCE_PLAN = "instances.json"
"""In the folder of a run on pictures with objects, which is arranged otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """The output folder of ``delineate run`` and of the single steps that share it.

    What belongs to the data set (fingerprint, plan, splits, prepared cases) stands in the root, whatever is trained.
    What belongs to a training stands there too if the configuration was left to the planner; for a configuration that
    was asked for by name it stands in a sub-folder of that name. So all configurations of a data set, and the two
    stages of a cascade, share one root.
    """

    root: Path
    configuration: str | None = None
    """Name of the plan's configuration that was asked for; None: the planner chose."""

    @property
    def own(self) -> Path:
        """Where the training's own files stand."""
        return self.root if self.configuration is None else self.root / self.configuration

    @property
    def settings(self) -> Path:
        """What was asked for: command, budget, seed, times."""
        return self.own / "run.json"

    @property
    def shared_settings(self) -> Path:
        """What was asked for that every training in the root has in common."""
        return self.root / "dataset_of_run.json"

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
    def fold_groups(self) -> Path:
        """Which group (site) each fold holds out; absent where folds are made by patient."""
        return self.root / "fold_groups.json"

    @property
    def recipe(self) -> Path:
        """What is trained and how: the chosen configuration and recipe, with the reasons."""
        return self.own / "recipe.json"

    @property
    def origin(self) -> Path:
        """Which model the training starts from, and what became of its weights; absent if it starts from none."""
        return self.root / "origin.json"

    @property
    def step_cost(self) -> Path:
        """What a training step of the recipe was measured to cost."""
        return self.own / "step_cost.json"

    @property
    def prepared(self) -> Path:
        """Parent of the prepared cases; one folder per data identifier, as nnU-Net has it."""
        return self.root / "prepared"

    def fold(self, fold: str) -> Path:
        """Return the folder of checkpoints and history of a fold (a number, or ``all``)."""
        return self.own / f"fold_{fold}"

    def validation(self, fold: str) -> Path:
        """Return the folder of the predicted validation cases of a fold."""
        return self.fold(fold) / "validation"

    def next_stage(self, configuration: str) -> Path:
        """Return the folder of label maps for another configuration, the second stage of a cascade."""
        return self.own / "predicted_next_stage" / configuration

    def crossval(self, folds: Sequence[str]) -> Path:
        """Return the folder of the merged scores of folds and of the post-processing chosen on them."""
        return self.own / f"crossval_results_folds_{'_'.join(folds)}"

    @property
    def model(self) -> Path:
        """The trained model package."""
        return self.own / "model"

    @property
    def test_predictions(self) -> Path:
        """Predictions for the dataset's test images."""
        return self.own / "predictions"

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.own / "report.html"

    @property
    def scores(self) -> Path:
        """All scores as JSON."""
        return self.own / "scores.json"
