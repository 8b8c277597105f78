"""The plan in words: what a person should know of a plan, a configuration and a recipe. Knows values, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.planning.plan import Configuration, Normalization, Plan
from delineate.planning.recipe import Recipe
from delineate.reports.report_data import Fact

_NETWORKS = {
    "plain_unet": "a U-Net",
    "residual_unet": "a U-Net with residual blocks in its encoder",
    "vnet": "a V-Net",
    "mednext": "a MedNeXt",
}

_NORMALIZATIONS: dict[Normalization, str] = {
    "ct": "clipped to the range of the structures in the training set and scaled (CT)",
    "zscore": "scaled to mean 0 and standard deviation 1 in every image",
    "rescale_to_0_1": "scaled to the range 0 to 1 in every image",
    "rgb_to_0_1": "divided by 255 (colour)",
    "none": "left as they are",
}


def describe_plan(plan: Plan, configuration: Configuration, recipe: Recipe | None = None) -> tuple[str, ...]:
    """Return the plan in sentences for a reader who does not train networks."""
    architecture = configuration.architecture
    sentences = [
        f"Images are resampled to {_product(configuration.spacing_mm)} mm"
        + (" in the plane, slice by slice." if configuration.dims == 2 else ".")
        + f" At this resolution a typical image has {_product(configuration.median_shape)} voxels.",
        _normalization_sentence(configuration),
        f"The network is {_NETWORKS[architecture.kind]} with {architecture.stages} resolution stages and"
        f" {architecture.features[0]} to {max(architecture.features)} feature channels. It sees"
        f" {_product(recipe.patch_size if recipe else configuration.patch_size)} voxels at a time"
        f" ({_product(_patch_mm(configuration, recipe))} mm).",
    ]
    if configuration.previous_stage:
        sentences.append(
            f"It refines the result of a first network at coarser resolution ({configuration.previous_stage})."
        )
    if recipe:
        sentences.append(_training_sentence(recipe))
    sentences.append(f"The choices follow the rules of {plan.planner_name}.")
    return tuple(sentences)


def tabulate_plan(configuration: Configuration, recipe: Recipe | None = None) -> tuple[Fact, ...]:
    """Return the numbers of the plan, in the order of the axes after transposing."""
    architecture = configuration.architecture
    facts = [
        Fact(label="Configuration", value=configuration.name),
        Fact(label="Spacing", value=f"{_product(configuration.spacing_mm)} mm"),
        Fact(label="Median image", value=f"{_product(configuration.median_shape)} voxels"),
        Fact(label="Patch", value=f"{_product(recipe.patch_size if recipe else configuration.patch_size)} voxels"),
        Fact(label="Batch", value=str(recipe.batch_size if recipe else configuration.batch_size)),
        Fact(label="Features per stage", value=", ".join(map(str, architecture.features))),
        Fact(label="Strides", value=", ".join(_product(s) for s in architecture.strides)),
        Fact(label="Kernels", value=", ".join(_product(k) for k in architecture.kernel_sizes)),
    ]
    if recipe:
        facts += _recipe_facts(recipe)
    return tuple(facts)


def _recipe_facts(recipe: Recipe) -> list[Fact]:
    average = "none" if recipe.ema_decay is None else f"decay {recipe.ema_decay:g}"
    return [
        Fact(label="Iterations", value=f"{recipe.iterations:,}".replace(",", "\u202f")),
        Fact(label="Optimiser", value=f"{recipe.optimizer}, learning rate {recipe.learning_rate:g}, {recipe.schedule}"),
        Fact(label="Weight average", value=average),
        Fact(label="Augmentation", value=recipe.augmentation),
        Fact(label="Precision", value=recipe.precision),
        Fact(label="Seed", value=str(recipe.seed)),
    ]


def _normalization_sentence(configuration: Configuration) -> str:
    kinds = tuple(dict.fromkeys(configuration.normalization))
    if len(kinds) == 1:
        return f"Intensities are {_NORMALIZATIONS[kinds[0]]}."
    each = (f"channel {i} {_NORMALIZATIONS[kind]}" for i, kind in enumerate(configuration.normalization, start=1))
    return f"Intensities: {'; '.join(each)}."


def _training_sentence(recipe: Recipe) -> str:
    steps = f"{recipe.iterations:,}".replace(",", "\u202f")
    if recipe.budget_seconds is None:
        return f"It is trained for {steps} steps of {recipe.batch_size} such pieces."
    return (
        f"It is trained for {_duration(recipe.budget_seconds)}, which is about {steps} steps of {recipe.batch_size} "
        "such pieces."
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def _patch_mm(configuration: Configuration, recipe: Recipe | None) -> tuple[float, ...]:
    patch = recipe.patch_size if recipe else configuration.patch_size
    return tuple(math.prod(pair) for pair in zip(patch, configuration.spacing_mm, strict=True))


def _product(sizes: Sequence[float]) -> str:
    return " × ".join(f"{size:.3g}" if size < 1000 else f"{size:.0f}" for size in sizes)
