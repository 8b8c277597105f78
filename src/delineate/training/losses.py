"""The loss of a segmentation network: cross-entropy plus soft Dice, as nnU-Net defines it, fused.

Label mode (heads are labels, background first): softmax, cross-entropy, Dice of the foreground. Region mode (heads are
regions that may overlap): sigmoid, binary cross-entropy, Dice of all heads. Both take the integer label map as it is:
classes are compared one at a time, so no one-hot target and no 64-bit copy is ever made, and the gradient is computed
together with the value and kept in the dtype and memory layout of the logits.

Knows no networks, files or schedules. Shape letters: B sample, C head, V voxel (all spatial axes flattened).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from delineate.errors import GeometryError, PlanError

DICE_SMOOTHING = 1e-5
"""Added to numerator and denominator of the soft Dice (nnU-Net's trainer)."""
CHUNK_VOXELS = 1 << 17
"""Voxels that a CPU works on at a time, so that the buffers of one class stay in its second-level cache."""


Total = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes that share the batch."""


def _alone(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationLoss:
    """Cross-entropy minus soft Dice between logits and an integer label map.

    Attributes
    ----------
    regions
        Region mode: the label values of each head. None: label mode, head ``i`` is label ``i``.
    ignore
        Value of voxels that nobody annotated; they count neither in the value nor in the gradient.
    batch_dice
        Dice over the voxels of the whole batch instead of per sample (nnU-Net's ``batch_dice``).
    total
        Sums over the processes that share the batch. Value and gradient are then those of the loss of the whole batch;
        the gradient of the weights is the sum over the processes. The default is for one process.

    Raises
    ------
    PlanError
        If regions are declared but empty, or a region contains the ignore label.

    Notes
    -----
    As in nnU-Net, binary cross-entropy is a mean over voxels and heads, but with an ignore label a sum over heads and a
    mean over annotated voxels.
    """

    regions: tuple[tuple[int, ...], ...] | None = None
    ignore: int | None = None
    batch_dice: bool = False
    total: Total = _alone

    def __post_init__(self) -> None:
        if self.regions is not None and (not self.regions or not all(self.regions)):
            raise PlanError(f"Every region of the loss needs at least one label value; got {self.regions}.")
        if self.regions is not None and any(self.ignore in values for values in self.regions):
            raise PlanError(f"The ignore label {self.ignore} cannot be part of a region; got {self.regions}.")

    def __call__(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the scalar loss (float32; float64 for float64 logits).

        Parameters
        ----------
        outputs
            Logits (B, C, *patch), or a sequence of them for deep supervision, highest resolution first.
        target
            (B, *patch) label map of an integer dtype on the grid of the first output; negative values are background.

        Raises
        ------
        GeometryError
            If an output and the target disagree in the number of samples or axes, or the first one in shape.
        PlanError
            If the number of heads is not the number of regions.
        """
        heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        _check(heads, target, self.regions)
        terms = [
            self._single(logits, downsampled(target, tuple(logits.shape[2:])), weight)
            for logits, weight in zip(heads, deep_supervision_weights(len(heads)), strict=True)
            if weight > 0
        ]
        return torch.stack(terms).sum() if len(terms) > 1 else terms[0]

    def _single(self, logits: Tensor, target: Tensor, weight: float) -> Tensor:
        loss: Tensor = _Fused.apply(logits, target, self, weight)  # type: ignore[no-untyped-call]
        return loss


def deep_supervision_weights(outputs: int) -> tuple[float, ...]:
    """Return one weight per output, highest resolution first: ``2**-i``, the lowest 0, normalised to sum 1.

    A single output has weight 1 (nnU-Net would divide by zero).
    """
    raw = [0.5**i for i in range(max(outputs - 1, 1))] + [0.0] * (outputs > 1)
    return tuple(weight / sum(raw) for weight in raw)


def downsampled(target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the label map (B, *patch) on the grid of ``shape``, as ``interpolate`` does in "nearest-exact" mode.

    Whole-numbered strides are plain slicing; the dtype is kept.
    """
    for axis, (size, wanted) in enumerate(zip(target.shape[1:], shape, strict=True), start=1):
        if size == wanted:
            continue
        if size % wanted == 0:
            step = size // wanted
            target = target[(slice(None),) * axis + (slice(step // 2, None, step),)]
        else:
            centres = (torch.arange(wanted, device=target.device, dtype=torch.float32) + 0.5) * (size / wanted)
            target = target.index_select(axis, centres.long().clamp_(max=size - 1))
    return target


@torch.no_grad()
def pseudo_counts(
    logits: Tensor,
    target: Tensor,
    *,
    regions: tuple[tuple[int, ...], ...] | None = None,
    ignore: int | None = None,
) -> Tensor:
    """Count true positive, false positive and false negative voxels of a batch, for the online Dice.

    Parameters
    ----------
    logits
        (B, C, *patch).
    target
        (B, *patch) label map of an integer dtype; negative values are background.
    regions, ignore
        As in :class:`SegmentationLoss`.

    Returns
    -------
    Tensor
        (classes, 3) int64 on the device of the logits: TP, FP, FN for each foreground label (background is left out)
        or each region.

    Raises
    ------
    GeometryError
        If logits and target disagree in shape.
    PlanError
        If the number of heads is not the number of regions.
    """
    _check([logits], target, regions)
    valid = None if ignore is None else target != ignore
    if regions is None:
        winner = _winner(logits)
        masks = [(winner == c, target == c) for c in range(1, logits.shape[1])]
    else:
        masks = [(logits[:, r] > 0, _members(target, values)) for r, values in enumerate(regions)]
    return torch.stack([_counts(predicted, reference, valid) for predicted, reference in masks])


def _counts(predicted: Tensor, reference: Tensor, valid: Tensor | None) -> Tensor:
    if valid is not None:
        predicted = predicted & valid
    both = (predicted & reference).sum()
    return torch.stack([both, predicted.sum() - both, reference.sum() - both])


def _winner(logits: Tensor) -> Tensor:
    """Return the argmax over heads, (B, *patch) int16; a running maximum beats ``argmax`` over a long stride."""
    best = logits[:, 0].clone()
    winner = torch.zeros(best.shape, dtype=torch.int16, device=logits.device)
    for c in range(1, logits.shape[1]):
        winner.masked_fill_(logits[:, c] > best, c)
        torch.maximum(best, logits[:, c], out=best)
    return winner


def _check(outputs: Sequence[Tensor], target: Tensor, regions: tuple[tuple[int, ...], ...] | None) -> None:
    if (
        not outputs
        or outputs[0].shape[2:] != target.shape[1:]
        or any(o.ndim != target.ndim + 1 or o.shape[0] != target.shape[0] for o in outputs)
    ):
        found = [tuple(o.shape) for o in outputs]
        raise GeometryError(f"Logits must be (B, heads, *patch) for a target of {tuple(target.shape)}; got {found}.")
    if regions is not None and any(o.shape[1] != len(regions) for o in outputs):
        raise PlanError(f"A loss with {len(regions)} regions needs as many heads; got {outputs[0].shape[1]}.")


class _Fused(torch.autograd.Function):
    """Value and gradient in one go; the backward pass only scales the saved gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, settings: SegmentationLoss, weight: float) -> Tensor:
        kernel = _softmax if settings.regions is None else _sigmoid
        logits = _flattenable(logits)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        flat = None if gradient is None else gradient.flatten(2)
        with torch.autocast(logits.device.type, enabled=False):
            loss = kernel(logits.flatten(2), target.flatten(1), settings, weight, flat)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None, None


def _flattenable(logits: Tensor) -> Tensor:
    """Return logits whose spatial axes can be seen as one, channels first or last, without a copy if they are so."""
    layout = torch.channels_last_3d if logits.ndim == 5 else torch.channels_last
    if logits.is_contiguous() or (logits.ndim in (4, 5) and logits.is_contiguous(memory_format=layout)):
        return logits
    return logits.contiguous()


def _softmax(
    logits: Tensor, target: Tensor, settings: SegmentationLoss, weight: float, gradient: Tensor | None
) -> Tensor:
    """Return cross-entropy plus Dice loss times ``weight`` for (B, C, V) logits and (B, V) labels; fill the gradient.

    With p the probabilities, y the truth of a class, n the number of annotated voxels and h = dDice/dp, the gradient
    with respect to the logit of class c is ``p_c * (1/n + h_c - sum_k p_k h_k) - y_c / n``.
    """
    chunks = _chunks(logits)
    parts = [_forward(logits[chunk], target[chunk], settings.ignore) for chunk in chunks]
    n = settings.total(sum((part.annotated for part in parts), start=parts[0].annotated.new_zeros(()))).clamp_(min=1)
    sums = torch.cat([part.sums for part in parts], 1)
    dice, on_intersection, on_predicted = _dice_loss(sums[:, :, 1:], settings)
    if gradient is not None:
        slopes = functional.pad(torch.stack([on_intersection, on_predicted]) * weight, (1, 0))  # 0 for background
        for chunk, part in zip(chunks, parts, strict=True):
            _softmax_gradient(part.probabilities, target[chunk], slopes[:, chunk], weight / n, gradient[chunk])
    own = sum((part.log_likelihood for part in parts), start=parts[0].log_likelihood.new_zeros(()))
    return (dice - settings.total(own) / n) * weight


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """What the samples of one chunk contribute."""

    probabilities: Tensor
    """(b, C, V), 0 where nobody annotated."""
    sums: Tensor
    """(3, b, C): intersection, predicted and reference volume."""
    log_likelihood: Tensor
    """Sum over the annotated voxels, scalar."""
    annotated: Tensor
    """Number of annotated voxels, scalar."""


def _forward(logits: Tensor, target: Tensor, ignore: int | None) -> _Part:
    p = _floating(logits)
    p.sub_(p.amax(1, keepdim=True))
    y, product = torch.empty_like(p[:, 0]), torch.empty_like(p[:, 0])
    own = p.new_zeros(())
    for c in range(p.shape[1]):
        _indicator(target, c, out=y)
        own += torch.mul(y, p[:, c], out=product).sum()
    normalizer = p.exp_().sum(1)
    p.div_(normalizer[:, None])
    normalizer.log_()
    annotated = p.new_full((), target.numel())
    if ignore is not None:
        torch.ne(target, ignore, out=y)
        p.mul_(y[:, None])
        normalizer.mul_(y)
        annotated = y.sum()
    sums = p.new_empty((3, *p.shape[:2]))
    torch.sum(p, 2, out=sums[1])
    for c in range(p.shape[1]):
        _indicator(target, c, out=y)
        sums[0, :, c] = torch.mul(y, p[:, c], out=product).sum(1)
        sums[2, :, c] = y.sum(1)
    return _Part(probabilities=p, sums=sums, log_likelihood=own - normalizer.sum(), annotated=annotated)


def _softmax_gradient(p: Tensor, target: Tensor, slopes: Tensor, rate: Tensor, out: Tensor) -> None:
    """Write the gradient with respect to the logits (b, C, V); see :func:`_softmax`.

    ``slopes`` is (2, b, C), the slopes of the Dice loss on intersection and predicted volume; ``rate`` is 1/n.
    """
    on_intersection, on_predicted = slopes[..., None].unbind(0)
    rest = rate.expand(target.shape).clone()  # becomes 1/n - sum_k p_k h_k
    y, slope = torch.empty_like(rest), torch.empty_like(rest)
    for c in range(1, p.shape[1]):
        _indicator(target, c, out=y)
        torch.mul(y, on_intersection[:, c], out=slope)
        rest.addcmul_(p[:, c], slope.add_(on_predicted[:, c]), value=-1)
    for c in range(p.shape[1]):
        _indicator(target, c, out=y)
        torch.mul(y, on_intersection[:, c], out=slope)
        slope.add_(on_predicted[:, c]).add_(rest).mul_(p[:, c])
        out[:, c] = slope.addcmul_(y, rate, value=-1)


def _sigmoid(
    logits: Tensor, target: Tensor, settings: SegmentationLoss, weight: float, gradient: Tensor | None
) -> Tensor:
    """Return binary cross-entropy plus Dice loss, times ``weight``, of (B, R, V) logits; fill the gradient.

    Heads do not depend on each other: with p the probability and h = dDice/dp the gradient is
    ``(p - y) / n + p (1 - p) h``.
    """
    regions, chunks = settings.regions or (), _chunks(logits)
    masks = [None if settings.ignore is None else target[chunk] != settings.ignore for chunk in chunks]
    annotated = [
        target[chunk].numel() if mask is None else mask.sum() for chunk, mask in zip(chunks, masks, strict=True)
    ]
    n = settings.total(torch.as_tensor(sum(annotated), device=logits.device)).clamp(min=1)
    if settings.ignore is None:
        n = n * len(regions)
    terms = []
    for r, values in enumerate(regions):
        parts = [_head(logits[c, r], _members(target[c], values), m) for c, m in zip(chunks, masks, strict=True)]
        sums = torch.cat([part.sums for part in parts], 1)[:, :, None]
        dice, on_intersection, on_predicted = _dice_loss(sums, settings)
        entropy = sum((part.entropy for part in parts), start=parts[0].entropy.new_zeros(()))
        terms.append(dice / len(regions) + settings.total(entropy) / n)
        if gradient is not None:
            slopes = torch.stack([on_intersection, on_predicted]) * (weight / len(regions))
            for chunk, part in zip(chunks, parts, strict=True):
                gradient[chunk, r] = _sigmoid_gradient(part, slopes[:, chunk], weight / n)
    return torch.stack(terms).sum() * weight


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Head:
    """One region in the samples of one chunk."""

    probability: Tensor
    """(b, V), 0 where nobody annotated."""
    truth: Tensor
    """(b, V), 1 inside the region."""
    sums: Tensor
    """(3, b): intersection, predicted and reference volume."""
    entropy: Tensor
    """Binary cross-entropy, summed over the annotated voxels."""


def _head(logits: Tensor, truth: Tensor, annotated: Tensor | None) -> _Head:
    x = _floating(logits)
    y, p = truth.to(x.dtype), x.sigmoid()
    certainty = (p - 0.5).abs_().add_(0.5).log_()  # log sigmoid(|x|), so that softplus(x) = relu(x) - certainty
    if annotated is not None:
        for values in (p, x, certainty):
            values.mul_(annotated)
    product = torch.mul(p, y)
    sums = torch.stack([product.sum(1), p.sum(1), y.sum(1)])
    entropy = torch.sub(x.clamp(min=0), certainty, out=certainty).sub_(x.mul_(y)).sum()
    return _Head(probability=p, truth=y, sums=sums, entropy=entropy)


def _sigmoid_gradient(head: _Head, slopes: Tensor, rate: Tensor) -> Tensor:
    """Return the gradient (b, V) of one region; ``slopes`` is (2, b, 1), ``rate`` 1/n, as for softmax."""
    p, y = head.probability, head.truth
    slope = torch.mul(y, slopes[0]).add_(slopes[1])
    slope.mul_(torch.addcmul(p, p, p, value=-1))
    return slope.addcmul_(p.sub_(y), rate)


def _floating(logits: Tensor) -> Tensor:
    """Return a fresh contiguous float32 copy (float64 for float64)."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.empty(logits.shape, dtype=dtype, device=logits.device).copy_(logits)


def _chunks(logits: Tensor) -> list[slice]:
    """Return groups of samples that are worked on at a time: all on a GPU, what the cache holds on a CPU."""
    samples, voxels = logits.shape[0], logits.shape[2]
    step = max(1, CHUNK_VOXELS // voxels) if logits.device.type == "cpu" else samples
    return [slice(first, first + step) for first in range(0, samples, step)]


def _dice_loss(sums: Tensor, settings: SegmentationLoss) -> tuple[Tensor, Tensor, Tensor]:
    """Return minus the mean soft Dice and its slopes (B, C) with respect to intersection and predicted volume.

    ``sums`` is (3, B, C): intersection, predicted and reference volume of the samples of this process.
    """
    shape = sums.shape[1:]
    if not settings.batch_dice:
        part = shape[0] / settings.total(sums.new_tensor(shape[0]))  # of the samples of all processes
        value, on_intersection, on_predicted = _dice_parts(sums)
        return settings.total(value * part), on_intersection * part, on_predicted * part
    value, on_intersection, on_predicted = _dice_parts(settings.total(sums.sum(1, keepdim=True)))
    return value, on_intersection.expand(shape), on_predicted.expand(shape)


def _dice_parts(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    intersection, predicted, reference = sums
    numerator = 2 * intersection + DICE_SMOOTHING
    denominator = predicted + reference + DICE_SMOOTHING
    share = 1 / math.prod(numerator.shape)
    on_intersection = (-2 * share) / denominator
    on_predicted = share * numerator / denominator.square()
    return -(numerator / denominator).mean(), on_intersection, on_predicted


def _indicator(target: Tensor, label: int, *, out: Tensor) -> None:
    """Write 1 where the target is the label, else 0; background takes the negative values (outside the image) too."""
    if label == 0:
        torch.le(target, 0, out=out)
    else:
        torch.eq(target, label, out=out)


def _members(target: Tensor, values: tuple[int, ...]) -> Tensor:
    """Return the bool mask of the label values; runs of consecutive values cost one comparison of each end."""
    inside: Tensor | None = None
    for low, high in _runs(values):
        run = target == low if low == high else (target >= low) & (target <= high)
        inside = run if inside is None else inside.logical_or_(run)
    return torch.zeros_like(target, dtype=torch.bool) if inside is None else inside


def _runs(values: tuple[int, ...]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in sorted(set(values)):
        if runs and runs[-1][1] == value - 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs
