"""What a network says of pictures whose instances are known: held-out ones, and some that it was trained on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.execution import Cancellation, Progress
from delineate.formats.datasets.instance_dataset import InstanceDataset, InstanceFiles
from delineate.inference.instance_maps import InstancePredictor, whole_maps
from delineate.inference.precision import converted
from delineate.masks.instance_decoding import Decoding
from delineate.metrics.decoding_choice import decoded
from delineate.networks.instance_unet import MAPS, InstanceUNet
from delineate.planning.likeness import is_coloured
from delineate.workflows.run_instances import InstanceRun, instance_image


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnsweredPicture:
    """A picture whose instances are known, and what the network says of it."""

    dataset: InstanceDataset
    files: InstanceFiles
    zoom: float
    kind: str
    """``grey`` or ``coloured``."""
    instances: NDArray[np.int32]
    """(y, x) as the network sees them, zoomed."""
    types: NDArray[np.int64] | None
    """By instance number."""
    maps: NDArray[np.uint8]
    """(map, y, x)."""

    @property
    def group(self) -> str:
        """The data set and the kind of picture: those that are scored together."""
        return f"{self.dataset.name}, {self.kind}"

    def found(self, decoding: Decoding) -> NDArray[np.int32]:
        """Return the instances (y, x) that are decoded."""
        return decoded(self.maps[:MAPS], decoding)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """A network that answers for pictures of a run, one after the other."""

    run: InstanceRun
    predictor: InstancePredictor

    @classmethod
    def of(cls, run: InstanceRun, weights: Mapping[str, Tensor], device: str) -> Answers:
        """Make the network ready."""
        network = InstanceUNet(types=len(run.type_names), widths=run.widths)
        network.load_state_dict(dict(weights))
        last = device.startswith("cpu")
        predictor = InstancePredictor(
            network=converted(network, device=device, precision=run.recipe.precision, channels_last=last),
            decoding=Decoding(),
            device=torch.device(device),
            precision=run.recipe.precision,
            channels_last=last,
        )
        return cls(run=run, predictor=predictor)

    def held_out(self, progress: Progress, cancellation: Cancellation) -> tuple[AnsweredPicture, ...]:
        """Answer for the pictures that were not trained on.

        Raises
        ------
        Interrupted
            If a stop was requested.
        """
        chosen = [
            (index, files)
            for index, names in enumerate(self.run.held_out)
            for files in self.run.datasets[index].cases
            if files.case_id in names
        ]
        progress.start("score", len(chosen))
        answered = []
        for index, files in chosen:
            cancellation.check()
            answered.append(self._one(index, files))
            progress.advance(note=files.case_id)
        progress.finish()
        return tuple(answered)

    def trained_on(
        self, pixels: int, seconds: float, progress: Progress, cancellation: Cancellation
    ) -> Iterator[AnsweredPicture]:
        """Answer for some pictures of every data set that it was trained on: so many pixels each, in so much time.

        The time is that of the whole loop over them.

        Raises
        ------
        Interrupted
            If a stop was requested.
        """
        generator = np.random.default_rng(self.run.recipe.seed)
        known = [
            [files for files in dataset.cases if files.case_id not in names]
            for dataset, names in zip(self.run.datasets, self.run.held_out, strict=True)
        ]
        progress.start("candidates", sum(map(len, known)))
        for index, cases in enumerate(known):
            began, seen = time.monotonic(), 0
            for place in generator.permutation(len(cases)).tolist():
                cancellation.check()
                if seen >= pixels or time.monotonic() - began > seconds / len(known):
                    break
                answer = self._one(index, cases[place])
                seen += answer.instances.size
                yield answer
                progress.advance(note=cases[place].case_id)
        progress.finish()

    def _one(self, index: int, files: InstanceFiles) -> AnsweredPicture:
        dataset, zoom = self.run.datasets[index], self.run.zooms[index]
        case = dataset.load(files)
        seen = instance_image(case, zoom)
        picture = seen.picture
        maps = whole_maps(lambda rows, columns: picture[rows, columns], seen.instances.shape, self.predictor)
        return AnsweredPicture(
            dataset=dataset,
            files=files,
            zoom=zoom,
            kind="coloured" if is_coloured(picture) else "grey",
            instances=seen.instances,
            types=case.types,
            maps=maps,
        )
