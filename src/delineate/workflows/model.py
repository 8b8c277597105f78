"""A trained model in memory: a package whose networks are built and ready to predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap, Result
from delineate.errors import ModelError, ResourceError, UsageError
from delineate.execution import Cancellation, Progress
from delineate.formats.images import label_ending, read_image
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet.trained_model import FINAL_CHECKPOINT
from delineate.geometry.grid import Grid
from delineate.inference import Ensemble, Tiling, make_ensemble
from delineate.networks import build_network, load_weights
from delineate.networks.segmentation_network import SegmentationNetwork
from delineate.planning.machine import Machine
from delineate.planning.quantisation import Range
from delineate.preprocessing import AIR_HU
from delineate.preprocessing.restore import RestoreMode
from delineate.training.allocator import KEPT_BYTES_PREDICTING, keep_memory
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.exchange_models import read_model
from delineate.workflows.segment_case import segment_case
from delineate.workflows.stored_stage import StoredStage

SAMPLE_SEED = 0
"""The weights are overwritten at once; any seed will do."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """A trained model: everything that turns an image into a label map.

    Made by :func:`load_model` or returned by training; predicting changes nothing in it.
    """

    package: ModelPackage
    ensemble: Ensemble
    tiling: Tiling
    machine: Machine
    rounding: RestoreMode = "exact"
    """``exact``: float32 sums. ``nnunet``: with nnU-Net's half-precision sums, voxel for voxel its answer; slower."""
    previous: Model | StoredStage | None = None
    """The stage before, in a cascade: a model, or a folder of its label maps."""
    int8: bool = False
    """Whether convolutions are computed in 8-bit integers."""
    air_below_hu: float | None = None
    """Tiles of which every original voxel is below this are background; None: every tile is predicted."""
    calibrated: bool = True
    """Whether probabilities are at the temperature at which they come true, where the package knows it."""

    @property
    def temperature(self) -> tuple[float, ...]:
        """What logits are divided by before they become probabilities: one, one per head, or empty for none."""
        trust = self.package.trust
        return trust.temperature if trust is not None and self.calibrated else ()

    def predict(
        self,
        image: Image | NDArray[Any] | Path | str | Sequence[Path | str],
        *,
        spacing_mm: tuple[float, ...] | None = None,
        previous: LabelMap | None = None,
        probabilities: bool = False,
        assess: bool = False,
        case_id: str = "",
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> Result:
        """Segment one image.

        Parameters
        ----------
        image
            An :class:`~delineate.case.Image`; a file or one file per channel; or an array (z, y, x), (y, x) or with a
            leading channel axis, for which ``spacing_mm`` is needed.
        spacing_mm
            Voxel spacing of an array, in the order of its axes without the channel.
        previous
            Cascades only: the label map of the stage before on the image's grid; None: that stage is predicted too.
        probabilities
            Also return (head, *grid) float32 probabilities; needs memory for every head at full resolution.
        assess
            Also say how far the result can be trusted (``Result.assessment``).
        case_id
            For messages and the result.
        progress, cancellation
            Where to tell how far it is, and who may stop it.

        Returns
        -------
        Result
            A draft: label map on the image's own grid, and how it was made.

        Raises
        ------
        UsageError
            If an array comes without a fitting spacing, a label map is missing or given in vain, or a result with
            nnU-Net's rounding is to be assessed.
        InputError
            If the image cannot be read or used.
        PlanError
            If the model was trained on another number of channels.
        Interrupted
            If a stop was requested.
        """
        return segment_case(
            as_image(image, spacing_mm, channels=len(self.package.channel_names)),
            self,
            previous=previous,
            probabilities=probabilities,
            assess=assess,
            case_id=case_id,
            progress=progress,
            cancellation=cancellation,
        )

    def only(self, fold: str) -> Model:
        """Return the model of one fold: the one that has not seen this fold's validation cases.

        Raises
        ------
        ModelError
            If the model does not have the fold.
        """
        if fold not in self.package.weights:
            raise ModelError(f"The model has the folds {', '.join(self.package.weights)}; asked for was '{fold}'.")
        position = list(self.package.weights).index(fold)
        return replace(
            self,
            package=replace(self.package, weights={fold: self.package.weights[fold]}),
            ensemble=replace(self.ensemble, networks=(self.ensemble.networks[position],)),
        )

    def without_mirroring(self) -> Model:
        """Return the same model without test-time mirroring: 2^axes times faster, usually a little less exact."""
        return self._changed(lambda model: replace(model, tiling=replace(model.tiling, mirror_axes=())))

    def without_postprocessing(self) -> Model:
        """Return the same model whose label maps are left as the network made them."""
        return replace(self, package=replace(self.package, postprocessing=()))

    def with_previous_from(self, folder: Path) -> Model:
        """Return a cascade that takes the label maps ``{case_id}`` of its first stage from a folder.

        Raises
        ------
        UsageError
            If the model is no cascade.
        """
        package = self.package
        if package.configuration.previous_stage is None:
            raise UsageError(f"A model of {package.configuration.name} takes no label maps of a previous stage.")
        stage = StoredStage(folder=folder, ending=label_ending(package.file_ending), scheme=package.scheme)
        return replace(self, previous=stage)

    def rounded_as_nnunet(self) -> Model:
        """Return the same model with nnU-Net's half-precision sums: its label map voxel for voxel, slower, more memory.

        Meant for float32 precision; see :mod:`delineate.inference.half_sums`.
        """
        return self._changed(lambda model: replace(model, rounding="nnunet"))

    def with_step(self, step: float) -> Model:
        """Return the same model with tiles at most this share of the patch apart; nnU-Net's step is 0.5.

        Raises
        ------
        UsageError
            If the step does not lie in (0, 1].
        """
        return self._changed(lambda model: replace(model, tiling=replace(model.tiling, step=step)))

    def without_temperature(self) -> Model:
        """Return the same model whose probabilities are the plain softmax or sigmoid of its logits."""
        return replace(self, calibrated=False)

    def without_air(self, below_hu: float = AIR_HU) -> Model:
        """Return the same model (for CT) that leaves out tiles of nothing but air, see ``preprocessing.air``."""
        return self._changed(lambda model: replace(model, air_below_hu=below_hu))

    def on_openvino(self, *, int8: bool = False) -> Model:
        """Return the same model run by OpenVINO on the CPU, in bfloat16 where this model would be.

        ``int8`` computes convolutions in 8-bit integers, if that has been checked for this model and was found to cost
        no Dice (:func:`delineate.workflows.quantise_model.quantise_model`).

        Raises
        ------
        ResourceError
            If openvino is not installed, or the model runs on another device.
        UsageError
            If int8 is wanted and has not been checked for this model, or has not passed.
        """
        if int8:
            return self.in_int8(allowed_ranges(self.package))
        from delineate.inference.openvino_backend import OpenVinoBackend

        if self.machine.is_gpu:
            raise ResourceError(f"OpenVINO runs on the CPU here; the model was loaded for {self.machine.device}.")
        backend = OpenVinoBackend(bfloat16=self.tiling.precision == "bfloat16")
        return self._changed(
            lambda model: replace(
                model,
                ensemble=make_ensemble(networks_of(model.package), channels_last=False, backend=backend),
                tiling=replace(model.tiling, precision="float32"),
            )
        )

    def in_int8(self, ranges: Mapping[str, Mapping[str, Range]]) -> Model:
        """Return the same model on OpenVINO with convolutions in integers, whatever that costs; for checking it.

        Parameters
        ----------
        ranges
            Fold -> layer -> range of its input, see :mod:`delineate.inference.quantised`.

        Raises
        ------
        ResourceError
            If openvino is not installed, or the model runs on another device.
        ModelError
            If the ranges are those of another network.
        """
        from delineate.inference.quantised import quantised

        model = self.on_openvino()
        folds = zip(self.package.weights, model.ensemble.networks, strict=True)
        networks = tuple(quantised(network, ranges[fold]) for fold, network in folds)
        return replace(model, ensemble=replace(model.ensemble, networks=networks), int8=True)

    def _changed(self, change: Callable[[Model], Model]) -> Model:
        """Return this model changed, and in a cascade its first stage too if that is a model."""
        stage = self.previous
        return replace(change(self), previous=stage._changed(change) if isinstance(stage, Model) else stage)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How a model is used; plain data, so that a worker elsewhere can use it in the same way."""

    step: float = 0.5
    """Distance of tiles as a share of the patch."""
    openvino: bool = False
    int8: bool = False
    """OpenVINO only: convolutions in 8-bit integers."""
    skip_air: bool = False
    nnunet_rounding: bool = False
    postprocessing: bool = True
    temperature: bool = True
    """Probabilities at the temperature at which they come true."""
    previous: Path | None = None
    """Cascades: folder of the first stage's label maps; None: they are predicted."""

    def of(self, model: Model) -> Model:
        """Return the model that predicts in this manner.

        Raises
        ------
        UsageError
            If the step does not lie in (0, 1], label maps of a first stage are given to a model that takes none, or
            the model may not compute in int8.
        ResourceError
            If openvino is wanted and not installed, or the model runs on another device.
        """
        model = model.with_step(self.step)
        model = model.on_openvino(int8=self.int8) if self.openvino else model
        model = model.without_air() if self.skip_air else model
        model = model.rounded_as_nnunet() if self.nnunet_rounding else model
        model = model if self.postprocessing else model.without_postprocessing()
        model = model if self.temperature else model.without_temperature()
        return model if self.previous is None else model.with_previous_from(self.previous)


def load_model(
    path: Path | str,
    *,
    folds: Sequence[str] | None = None,
    device: str = AUTO,
    mirroring: bool = True,
    precision: str = AUTO,
    checkpoint: str = FINAL_CHECKPOINT,
    configuration: str | None = None,
) -> Model:
    """Read a trained model and make its networks ready to predict.

    Parameters
    ----------
    path
        What training wrote (a folder with ``model.json``, or a zip of it), a trained-model folder of nnU-Net
        (``DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION``; a cascade with its first stage if that lies beside it), or
        a zip that nnU-Net exported.
    folds
        Which folds to average; None: all that the model has.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    mirroring
        Average over mirrored images where the model was trained with mirroring.
    precision
        ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the device computes in it.
    checkpoint
        nnU-Net only: which of a fold's checkpoints.
    configuration
        Which model to take where the path holds several of nnU-Net's: ``3d_fullres``, or the whole folder name.

    Raises
    ------
    ModelError
        If the model is missing, incomplete, damaged, unsafe, or lacks a fold; or it is not clear which one is meant.
    ResourceError
        If the device does not exist here.
    """
    machine = find_machine(device)
    package = read_model(Path(path), folds=folds, checkpoint=checkpoint, configuration=configuration)
    return assemble(package, machine, mirroring=mirroring, precision=precision)


def assemble(package: ModelPackage, machine: Machine, *, mirroring: bool = True, precision: str = AUTO) -> Model:
    """Build the networks of a package and return the model.

    Raises
    ------
    ModelError
        If the weights do not fit the architecture.
    """
    keep_memory(KEPT_BYTES_PREDICTING)
    configuration = package.configuration
    chosen = ("bfloat16" if machine.bfloat16 else "float32") if precision == AUTO else precision
    tiling = Tiling(
        patch_size=configuration.patch_size,
        mirror_axes=package.mirror_axes if mirroring else (),
        precision="bfloat16" if chosen == "bfloat16" else "float32",
    )
    stage = package.previous
    return Model(
        package=package,
        ensemble=make_ensemble(networks_of(package), device=machine.device, precision=tiling.precision),
        tiling=tiling,
        machine=machine,
        previous=None if stage is None else assemble(stage, machine, mirroring=mirroring, precision=precision),
    )


def allowed_ranges(package: ModelPackage) -> Mapping[str, Mapping[str, Range]]:
    """Return how the layers of a model are brought to 8 bits, if it may compute in them.

    Raises
    ------
    UsageError
        If nobody has checked what that costs, or it costs too much; says how much.
    """
    verdict = package.quantisation
    if verdict is None or verdict.weights.keys() != package.weights.keys():
        raise UsageError(
            f"int8 has not been checked for the model {package.name} with the folds {', '.join(package.weights)}; run "
            "`delineate quantise MODEL --check DATASET` first."
        )
    if not verdict.passed:
        raise UsageError(f"{verdict.verdict()} Predict without int8.")
    return verdict.ranges


def networks_of(package: ModelPackage) -> list[SegmentationNetwork]:
    """Return the networks of a package with their weights, in float32 on the CPU.

    Raises
    ------
    ModelError
        If the weights do not fit the architecture.
    """
    networks = []
    for weights in package.weights.values():
        network = build_network(
            package.configuration.architecture,
            in_channels=package.input_channels,
            heads=package.scheme.head_count,
            seed=SAMPLE_SEED,
        )
        load_weights(network, weights)
        networks.append(network)
    return networks


def as_image(
    image: Image | NDArray[Any] | Path | str | Sequence[Path | str],
    spacing_mm: tuple[float, ...] | None,
    *,
    channels: int,
) -> Image:
    """Return whatever a caller may call an image as an :class:`~delineate.case.Image`.

    Raises
    ------
    UsageError
        If an array comes without a fitting spacing.
    """
    if isinstance(image, Image):
        return image
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if not isinstance(image, np.ndarray):
        return read_image([Path(file) for file in image])
    if spacing_mm is None or image.ndim - len(spacing_mm) not in (0, 1):
        raise UsageError(
            f"An array of shape {image.shape} needs `spacing_mm` with one number per spatial axis; got {spacing_mm}."
        )
    array = image if image.ndim == len(spacing_mm) + 1 else image[None]
    if array.shape[0] != channels:
        raise UsageError(f"The model was trained on {channels} channel(s); the array has {array.shape[0]}.")
    return Image(array=array, grid=Grid.regular(array.shape[1:], spacing_mm))
