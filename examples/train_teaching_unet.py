"""Train a small 3-D U-Net on phantoms and print how well it segments phantoms that it has never seen.

The tutorial ``docs/tutorials/unet3d.md`` explains every part. Run with ``python examples/train_teaching_unet.py``.
"""

from __future__ import annotations

import time

import torch
from torch.nn import functional as F

from delineate.case import Case
from delineate.networks import UNet3D, initialize
from delineate.phantoms import make_torso

STRUCTURES = ("liver", "spleen", "kidneys", "aorta")
PATCH = (32, 40, 48)  # voxels z, y, x of one training example; each a multiple of 8
TRAINING_SEEDS = range(10)
TEST_SEEDS = range(100, 103)


def tensors(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image (1, Z, Y, X), about -1 to 1, and the labels (Z, Y, X) of a case."""
    hounsfield = torch.as_tensor(case.image.array).float()
    image = (hounsfield.clamp(-200, 300) - 50) / 250  # the window in which soft tissue differs
    return image, torch.as_tensor(case.labels.array).long()


def random_patch(
    image: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the same random box of PATCH voxels out of an image and its labels."""
    box = []
    for size, wanted in zip(labels.shape, PATCH, strict=True):
        start = int(torch.randint(0, max(1, size - wanted + 1), (), generator=generator))
        box.append(slice(start, start + wanted))
    return image[(slice(None), *box)], labels[tuple(box)]


def soft_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the Dice overlap of probabilities and labels, averaged over the classes without background."""
    probability = logits.softmax(1)[:, 1:]
    truth = F.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:]
    axes = (0, 2, 3, 4)
    overlap = (probability * truth).sum(axes)
    return ((2 * overlap + 1) / (probability.sum(axes) + truth.sum(axes) + 1)).mean()


def train(network: UNet3D, cases: list[tuple[torch.Tensor, torch.Tensor]], steps: int, seed: int = 0) -> None:
    """Fit the network to random patches of the cases."""
    generator = torch.Generator().manual_seed(seed)
    initialize(network, generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    network.train()
    for step in range(1, steps + 1):
        chosen = torch.randint(0, len(cases), (2,), generator=generator).tolist()
        patches = [random_patch(*cases[index], generator) for index in chosen]
        images = torch.stack([image for image, _ in patches])
        target = torch.stack([labels for _, labels in patches])
        logits = network(images)
        loss = F.cross_entropy(logits, target) + 1 - soft_dice(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}")


@torch.no_grad()
def segment(network: UNet3D, image: torch.Tensor) -> torch.Tensor:
    """Return the most probable class of every voxel (Z, Y, X) of an image (1, Z, Y, X) of any size."""
    network.eval()
    missing = [-size % 8 for size in image.shape[1:]]  # three poolings: every axis must be a multiple of 8
    padded = F.pad(image, [0, missing[2], 0, missing[1], 0, missing[0]], value=-1.0)
    best = network(padded[None]).argmax(1)[0]
    return best[tuple(slice(0, size) for size in image.shape[1:])]


def dice(predicted: torch.Tensor, truth: torch.Tensor, value: int) -> float:
    """Return the Dice overlap of one label: 1 is perfect, 0 is none."""
    a, b = predicted == value, truth == value
    return 2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))


def main(steps: int = 240) -> float:
    """Train, test, print; return the mean Dice over test cases and structures."""
    started = time.monotonic()
    training = [tensors(make_torso(seed, structures=STRUCTURES)) for seed in TRAINING_SEEDS]
    network = UNet3D(in_ch=1, out_ch=len(STRUCTURES) + 1, features=(8, 16, 32, 64))
    train(network, training, steps)
    scores = []
    for seed in TEST_SEEDS:
        image, truth = tensors(make_torso(seed, structures=STRUCTURES))
        predicted = segment(network, image)
        for value, name in enumerate(STRUCTURES, start=1):
            scores.append(dice(predicted, truth, value))
            print(f"phantom {seed}  {name:<8s} Dice {scores[-1]:.3f}")
    mean = sum(scores) / len(scores)
    print(f"mean Dice {mean:.3f} after {time.monotonic() - started:.0f} s")
    return mean


if __name__ == "__main__":
    main()
