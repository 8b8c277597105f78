"""A prediction that is watched: the same logits, and what they and the networks show on the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap, LabelScheme
from delineate.execution import Watched
from delineate.formats.behaviour_file import RecordedBehaviour
from delineate.inference import EmptyTiles, stream_logits
from delineate.inference.observer import Observer, observed
from delineate.metrics.trust import (
    Agreement,
    Behaviour,
    Observation,
    UncertaintySums,
    VoxelSample,
    choose_voxels,
    image_statistics,
    measure_shapes,
)

if TYPE_CHECKING:
    from delineate.workflows.model import Model


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Watch:
    """What looks on while one volume is predicted."""

    model: Model
    observer: Observer
    sums: UncertaintySums
    samples: list[VoxelSample] = field(default_factory=list)

    def stream(
        self,
        array: NDArray[Any],
        *,
        skip: EmptyTiles | None = None,
        voxels: NDArray[np.int64] | None = None,
        **watched: Unpack[Watched],
    ) -> Iterator[NDArray[np.float32]]:
        """Hand out the logits of a prepared volume (channel, z, y, x) as ``stream_logits`` does.

        ``voxels`` are flat indices, ascending, whose logits are kept in ``samples``.
        """
        slabs = stream_logits(
            self.model.ensemble, array, self.model.tiling, skip=skip, observer=self.observer, **watched
        )
        if voxels is not None:
            self.samples.append(VoxelSample(voxels, array.shape[2:]))
        for slab in slabs:
            self.sums.add(slab)
            for sample in self.samples:
                sample.add(slab)
            yield slab

    def behaviour(self) -> Behaviour:
        """Return what was seen, once the stream is used up."""
        found = {fold: self.observer.features(m) for m, fold in enumerate(self.model.package.weights)}
        return Behaviour(
            agreement=Agreement(flips=self.observer.agreement("flips"), folds=self.observer.agreement("folds")),
            uncertainty=self.sums.result(),
            features={fold: values for fold, values in found.items() if values is not None},
        )

    def recorded(self, labels: NDArray[Any], voxels: NDArray[np.int64]) -> RecordedBehaviour:
        """Return what was seen with the logits of ``voxels`` and what is true there.

        Parameters
        ----------
        labels
            (z, y, x) reference on the prepared grid; negative values are background.
        voxels
            (n,) the flat indices that were given to :meth:`stream`.
        """
        truths = np.maximum(labels.reshape(-1)[voxels], 0).astype(np.int64)
        scheme = self.model.package.scheme
        if scheme.has_regions:
            truths = np.stack([np.isin(truths, s.values) for s in scheme.structures], 1).astype(np.int64)
        return RecordedBehaviour(behaviour=self.behaviour(), logits=self.samples[0].logits, truths=truths)


def voxels_to_watch(labels: NDArray[Any], scheme: LabelScheme, case_id: str) -> NDArray[np.int64]:
    """Return the voxels (n,) of a case, flat indices, whose logits calibrate; the same for the same case.

    Parameters
    ----------
    labels
        (z, y, x) reference on the prepared grid.
    scheme
        Says which label is to be ignored.
    case_id
        Seeds the draw.
    """
    generator = np.random.default_rng(zlib.crc32(case_id.encode()))
    return choose_voxels(labels, generator, ignore=scheme.ignore)


@contextmanager
def watching(model: Model) -> Iterator[Watch]:
    """Yield what watches one prediction; the stream must be used up within the block."""
    regions = model.package.scheme.has_regions
    with observed(model.ensemble, regions=regions) as observer:
        yield Watch(model=model, observer=observer, sums=UncertaintySums(regions=regions))


def observation_of(behaviour: Behaviour, image: Image, labels: LabelMap, model: Model) -> Observation:
    """Return everything that is known of a case without a reference.

    Parameters
    ----------
    behaviour
        What was seen during the prediction.
    image
        As it was read.
    labels
        The result on the image's grid.
    model
        Whose structures are measured.
    """
    structures = [(s.name, s.values) for s in model.package.scheme.structures]
    return Observation(
        behaviour=behaviour,
        image=image_statistics(image.array, image.grid),
        shapes=measure_shapes(labels.array, labels.grid, structures),
    )
