import pytest
import torch
from torch.nn import functional
from training_oracle import answers

from delineate.errors import GeometryError, PlanError
from delineate.training.losses import SegmentationLoss, deep_supervision_weights, downsampled, pseudo_counts

REGIONS = ((1, 2, 4), (2,), (4, 3))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def random_labels(highest, *shape, seed=1):
    return torch.randint(-1, highest + 1, shape, generator=generator(seed), dtype=torch.int16)


def reference(logits, target, *, regions=None, ignore=None, batch_dice=False):
    """The textbook form with one-hot targets."""
    target = target.long().clamp(min=0)
    valid = (target != ignore).to(logits.dtype)[:, None] if ignore is not None else torch.ones_like(logits[:, :1])
    axes = (0, *range(2, logits.ndim)) if batch_dice else tuple(range(2, logits.ndim))
    if regions is None:
        truth = torch.stack([target == c for c in range(logits.shape[1])], 1).to(logits.dtype)
        p = logits.softmax(1)
        entropy = -(truth * logits.log_softmax(1) * valid).sum() / valid.sum().clamp(min=1)
        p, truth = p[:, 1:], truth[:, 1:]
    else:
        truth = torch.stack([torch.isin(target, torch.tensor(r)) for r in regions], 1).to(logits.dtype)
        p = logits.sigmoid()
        entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none") * valid
        entropy = entropy.sum() / (valid.sum().clamp(min=1) if ignore is not None else logits.numel())
    overlap, volume = (p * truth * valid).sum(axes), ((p + truth) * valid).sum(axes)
    return entropy - ((2 * overlap + 1e-5) / (volume + 1e-5)).mean()


SETTINGS = [
    {"regions": regions, "ignore": ignore, "batch_dice": batch_dice}
    for regions in (None, REGIONS)
    for ignore in (None, 5)
    for batch_dice in (False, True)
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(4, 3, 5), (6, 7)])
def test_value_and_gradient_are_those_of_the_textbook_form(settings, shape):
    heads = 3 if settings["regions"] else 5
    logits = normal(2, heads, *shape, dtype=torch.float64)
    target = random_labels(5 if settings["ignore"] else 4, 2, *shape)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value, expected = SegmentationLoss(**settings)(ours, target), reference(theirs, target, **settings)
    (2 * value).backward()
    (2 * expected).backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradcheck(settings):
    logits = normal(2, 3, 3, 2, 2, dtype=torch.float64).requires_grad_()
    target = random_labels(2, 2, 3, 2, 2)
    target[0, 0] = 5
    if settings["ignore"] is None:
        target.clamp_(max=2)
    loss = SegmentationLoss(**settings)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits,))


def test_chunks_of_samples_give_the_same(monkeypatch):
    logits, target = normal(5, 3, 4, 4, 4), random_labels(2, 5, 4, 4, 4)
    for batch_dice in (False, True):
        loss = SegmentationLoss(batch_dice=batch_dice)
        found = []
        for voxels in (1, 128, 10**6):
            monkeypatch.setattr("delineate.training.losses.CHUNK_VOXELS", voxels)
            x = logits.clone().requires_grad_()
            value = loss(x, target)
            value.backward()
            found.append((value.detach(), x.grad))
        torch.testing.assert_close(found[0], found[1])
        torch.testing.assert_close(found[0], found[2])


@pytest.mark.oracle
@pytest.mark.parametrize("index", range(10))
def test_equal_to_nnunet(index):
    oracle = answers()
    case = oracle.value("losses")[index]
    regions = tuple(tuple(r) for r in case["regions"]) if case["regions"] else None
    loss = SegmentationLoss(regions=regions, ignore=case["ignore"], batch_dice=case["batch_dice"])
    logits = oracle.tensor(f"loss{index}_logits").requires_grad_()
    value = loss(logits, oracle.tensor(f"loss{index}_target"))
    value.backward()
    torch.testing.assert_close(value.detach(), oracle.tensor(f"loss{index}_value"), rtol=1e-5, atol=1e-6)
    expected = oracle.tensor(f"loss{index}_gradient")
    assert (logits.grad - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.oracle
def test_deep_supervision_equals_nnunet():
    oracle = answers()
    target = oracle.tensor("deep_target")
    outputs = [oracle.tensor(f"deep{level}_logits") for level in range(3)]
    for level, output in enumerate(outputs):
        assert torch.equal(downsampled(target, output.shape[2:]), oracle.tensor(f"deep{level}_target"))
    torch.testing.assert_close(SegmentationLoss()(outputs, target), oracle.tensor("deep_value"))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("regions", [None, REGIONS])
def test_bfloat16_and_layout_are_kept_in_the_gradient(layout, regions):
    logits = normal(2, 3, 6, 5, 4).bfloat16().contiguous(memory_format=layout).requires_grad_()
    target = random_labels(2, 2, 6, 5, 4)
    exact = logits.detach().float().requires_grad_()
    loss = SegmentationLoss(regions=regions)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, target)
    value.backward()
    loss(exact, target).backward()
    assert value.dtype == torch.float32
    assert logits.grad.dtype == torch.bfloat16
    assert logits.grad.is_contiguous(memory_format=layout)
    torch.testing.assert_close(logits.grad.float(), exact.grad, rtol=1e-2, atol=1e-6)


def test_strange_layouts_are_understood():
    logits = normal(3, 2, 4, 5, 6).transpose(2, 4)
    target = random_labels(1, 3, 6, 5, 4)
    x = logits.clone(memory_format=torch.preserve_format).requires_grad_()
    value = SegmentationLoss()(x, target)
    value.backward()
    torch.testing.assert_close(value, reference(logits, target))


def test_a_batch_that_nobody_annotated_gives_no_gradient():
    for regions in (None, REGIONS):
        logits = normal(2, 3, 4, 4).requires_grad_()
        value = SegmentationLoss(ignore=9, regions=regions)(logits, torch.full((2, 4, 4), 9, dtype=torch.int16))
        value.backward()
        assert value.item() == pytest.approx(-1)
        assert not logits.grad.any()


def test_extreme_logits_stay_finite():
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0], logits[:, 1] = 1e4, -1e4
    logits.requires_grad_()
    for regions in (None, REGIONS):
        value = SegmentationLoss(regions=regions)(logits, random_labels(2, 1, 4, 4))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


def test_no_gradient_is_made_where_none_is_wanted():
    logits, target = normal(1, 2, 4, 4), random_labels(1, 1, 4, 4)
    before = logits.clone()
    assert not SegmentationLoss()(logits, target).requires_grad
    assert torch.equal(logits, before)


@pytest.mark.parametrize(("count", "weights"), [(1, (1.0,)), (2, (1.0, 0.0)), (4, (4 / 7, 2 / 7, 1 / 7, 0.0))])
def test_weights_of_deep_supervision(count, weights):
    assert deep_supervision_weights(count) == pytest.approx(weights)


@pytest.mark.parametrize("shape", [(8, 12, 10), (8, 6, 5), (2, 4, 3), (3, 5, 7), (1, 1, 1), (8, 3, 2)])
def test_downsampling_is_nearest_exact(shape):
    target = random_labels(30, 2, 8, 12, 10)
    expected = functional.interpolate(target[:, None].float(), shape, mode="nearest-exact")[:, 0].short()
    assert torch.equal(downsampled(target, shape), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ignore", [None, 5])
@pytest.mark.parametrize("regions", [None, REGIONS])
def test_pseudo_counts(dtype, ignore, regions):
    logits, target = normal(2, 3, 5, 6, 4).to(dtype), random_labels(5 if ignore else 4, 2, 5, 6, 4)
    found = pseudo_counts(logits, target, regions=regions, ignore=ignore)
    valid = target != ignore if ignore is not None else torch.ones_like(target, dtype=torch.bool)
    for row, counts in enumerate(found):
        if regions is None:
            predicted, truth = logits.argmax(1) == row + 1, target == row + 1
        else:
            predicted, truth = logits[:, row] > 0, torch.isin(target, torch.tensor(regions[row]))
        expected = [(a & b & valid).sum() for a, b in [(predicted, truth), (predicted, ~truth), (~predicted, truth)]]
        assert counts.tolist() == [int(e) for e in expected]
    assert len(found) == (2 if regions is None else 3)
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    "settings", [{"regions": ()}, {"regions": ((1,), ())}, {"regions": ((1, 2),), "ignore": 2}], ids=str
)
def test_impossible_regions_are_refused(settings):
    with pytest.raises(PlanError, match="region"):
        SegmentationLoss(**settings)


def test_shapes_that_do_not_fit_are_refused():
    loss = SegmentationLoss(regions=((1,),))
    with pytest.raises(PlanError, match="1 regions"):
        loss(normal(2, 2, 4, 4), random_labels(1, 2, 4, 4))
    for shape in [(1, 1, 4, 4), (2, 1, 4, 5), (2, 1, 4, 4, 1)]:
        with pytest.raises(GeometryError, match="Logits must be"):
            loss(normal(*shape), random_labels(1, 2, 4, 4))
    with pytest.raises(GeometryError, match="Logits must be"):
        loss([], random_labels(1, 2, 4, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_gpu_gives_what_the_cpu_gives(settings):
    logits, target = normal(2, 3, 6, 5, 4), random_labels(2, 2, 6, 5, 4)
    cpu, gpu = logits.clone().requires_grad_(), logits.cuda().requires_grad_()
    SegmentationLoss(**settings)(cpu, target).backward()
    SegmentationLoss(**settings)(gpu, target.cuda()).backward()
    torch.testing.assert_close(gpu.grad.cpu(), cpu.grad, rtol=1e-4, atol=1e-7)
