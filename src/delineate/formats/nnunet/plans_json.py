"""``plans.json``: a :class:`~delineate.planning.plan.Plan` as nnU-Net spells it, and back.

Written plans equal those of nnU-Net 2.8.1 key for key. Read are these and the older form that has no
``architecture`` (nnU-Net up to 2.4, all TotalSegmentator v2 weights). What Delineate cannot reproduce (another
resampling function, dropout, a foreign network class) is refused by name rather than ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.formats.nnunet.statistics_json import statistics_from_json, statistics_to_json
from delineate.planning.plan import Architecture, Configuration, NetworkKind, Normalization, Plan

PREPROCESSOR = "DefaultPreprocessor"
RESAMPLING = "resample_data_or_seg_to_shape"
RESAMPLING_KWARGS: dict[str, dict[str, Any]] = {
    "data": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "seg": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "probabilities": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}
"""The only resampling that is known: nnU-Net's default (cubic data, linear labels and probabilities)."""
REQUIRES_IMPORT = ["conv_op", "norm_op", "dropout_op", "nonlin"]

CLASS_OF_KIND: dict[NetworkKind, str] = {
    "plain_unet": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual_unet": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "vnet": "delineate.networks.vnet.VNet",
    "mednext": "delineate.networks.mednext.MedNeXt",
}
_KIND_OF_CLASS: dict[str, NetworkKind] = {name.rsplit(".", 1)[1]: kind for kind, name in CLASS_OF_KIND.items()}
"""Only the last part of the path counts: classes moved between modules over nnU-Net's versions."""

NAME_OF_NORMALIZATION: dict[Normalization, str] = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
    "none": "NoNormalization",
}
_NORMALIZATION_OF_NAME = {name: scheme for scheme, name in NAME_OF_NORMALIZATION.items()}

VOLUME_AXES = 3
"""nnU-Net's plans see pictures as volumes of one slice."""
MOST_STAGES = 32
"""More than any patch could be halved; a larger number is a slip of the pen."""

_LEAKY_RELU = ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU")


def write_plan(path: Path, plan: Plan) -> None:
    """Write ``plans.json``, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    write_text(path, json.dumps(plan_to_json(plan), indent=4))


def read_plan(path: Path) -> Plan:
    """Read a ``plans.json`` of nnU-Net (new or old form) or of Delineate.

    Raises
    ------
    PlanError
        If the file is missing, not JSON, incomplete, or asks for something that is not known.
    """
    document = read_document(path)
    return plan_from_json(document.value, source=str(path))


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as nnU-Net's dictionary, keys in nnU-Net's order.

    A configuration that inherits holds only what differs from its parent.

    Raises
    ------
    PlanError
        If a configuration inherits from one that the plan does not have.
    """
    return {
        "dataset_name": plan.dataset_name,
        "plans_name": plan.plans_name,
        "original_median_spacing_after_transp": list(plan.original_median_spacing_mm),
        "original_median_shape_after_transp": [round(n) for n in plan.original_median_shape],
        "image_reader_writer": plan.image_reader,
        "transpose_forward": list(plan.transpose_forward),
        "transpose_backward": list(plan.transpose_backward),
        "configurations": {c.name: _inherited(c, plan) for c in plan.configurations},
        "experiment_planner_used": plan.planner_name,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": statistics_to_json(plan.intensities),
    }


def _inherited(configuration: Configuration, plan: Plan) -> dict[str, Any]:
    whole = configuration_to_json(configuration)
    if configuration.inherits_from is None:
        return whole
    parent = configuration_to_json(plan.configuration(configuration.inherits_from))
    differing = {key: value for key, value in whole.items() if key not in parent or parent[key] != value}
    return {"inherits_from": configuration.inherits_from, **differing}


def configuration_to_json(configuration: Configuration) -> dict[str, Any]:
    """Return one configuration in full, without ``inherits_from``, as nnU-Net's dictionary."""
    data: dict[str, Any] = {
        "data_identifier": configuration.data_identifier,
        "preprocessor_name": PREPROCESSOR,
        "batch_size": configuration.batch_size,
        "patch_size": list(configuration.patch_size),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing_mm),
        "normalization_schemes": [NAME_OF_NORMALIZATION[scheme] for scheme in configuration.normalization],
        "use_mask_for_norm": list(configuration.use_mask_for_norm),
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_data_kwargs": dict(RESAMPLING_KWARGS["data"]),
        "resampling_fn_seg_kwargs": dict(RESAMPLING_KWARGS["seg"]),
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_probabilities_kwargs": dict(RESAMPLING_KWARGS["probabilities"]),
        "architecture": architecture_to_json(configuration.architecture),
        "batch_dice": configuration.batch_dice,
    }
    if configuration.next_stage is not None:
        data["next_stage"] = configuration.next_stage
    if configuration.previous_stage is not None:
        data["previous_stage"] = configuration.previous_stage
    return data


def architecture_to_json(architecture: Architecture) -> dict[str, Any]:
    """Return a network as nnU-Net's ``architecture`` dictionary.

    A MedNeXt, which nnU-Net does not have, gets keys of its own for blocks and expansion ratios.
    """
    if architecture.kind == "mednext":
        return _mednext_to_json(architecture)
    blocks = "n_blocks_per_stage" if architecture.kind == "residual_unet" else "n_conv_per_stage"
    dims = architecture.dims
    return {
        "network_class_name": CLASS_OF_KIND[architecture.kind],
        "arch_kwargs": {
            "n_stages": architecture.stages,
            "features_per_stage": list(architecture.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(kernel) for kernel in architecture.kernel_sizes],
            "strides": [list(stride) for stride in architecture.strides],
            blocks: list(architecture.encoder_blocks),
            "n_conv_per_stage_decoder": list(architecture.decoder_convs),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": list(REQUIRES_IMPORT),
    }


def _mednext_to_json(architecture: Architecture) -> dict[str, Any]:
    dims = architecture.dims
    return {
        "network_class_name": CLASS_OF_KIND["mednext"],
        "arch_kwargs": {
            "n_stages": architecture.stages,
            "features_per_stage": list(architecture.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(kernel) for kernel in architecture.kernel_sizes],
            "strides": [list(stride) for stride in architecture.strides],
            "n_blocks_per_stage": list(architecture.encoder_blocks),
            "n_blocks_per_stage_decoder": list(architecture.decoder_convs),
            "expansion_ratios": list(architecture.expansion_ratios),
        },
        "_kw_requires_import": ["conv_op"],
    }


def plan_from_json(data: Mapping[str, Any], *, source: str = "plans.json") -> Plan:
    """Return the plan of a dictionary in nnU-Net's new or old form.

    Parameters
    ----------
    data
        The parsed file.
    source
        What to call the file in error messages.

    Raises
    ------
    PlanError
        If a key is missing or of the wrong kind, or asks for something that is not known; names file and key.
    """
    root = Node(value=data, source=source)
    intensities = root.get("foreground_intensity_properties_per_channel") or root.child(
        "foreground_intensity_properties_by_modality"
    )
    reader, planner = root.get("image_reader_writer"), root.get("experiment_planner_used")
    spacing = root.child("original_median_spacing_after_transp").numbers()
    forward = root.child("transpose_forward").integers()
    backward = root.child("transpose_backward").integers()
    _check_transposes(root, forward, backward)
    statistics = statistics_from_json(intensities)
    configurations = _configurations(root.child("configurations"))
    if any("ct" in c.normalization and len(c.normalization) > len(statistics) for c in configurations):
        raise intensities.wrong(f"CT images are normalised by the statistics of every channel, found {len(statistics)}")
    return Plan(
        dataset_name=root.child("dataset_name").file_name(),
        plans_name=root.child("plans_name").file_name(),
        planner_name="ExperimentPlanner" if planner is None else planner.text(),
        image_reader="SimpleITKIO" if reader is None else reader.text(),
        transpose_forward=forward,
        transpose_backward=backward,
        original_median_spacing_mm=spacing,
        original_median_shape=root.child("original_median_shape_after_transp").numbers(),
        intensities=statistics,
        configurations=configurations,
    )


def _check_transposes(root: Node, forward: tuple[int, ...], backward: tuple[int, ...]) -> None:
    axes = list(range(VOLUME_AXES))
    if sorted(forward) != axes or sorted(backward) != axes:
        raise root.wrong(
            f"'transpose_forward' {forward} and 'transpose_backward' {backward} must hold each of {axes} once"
        )
    if any(backward[axis] != i for i, axis in enumerate(forward)):
        raise root.wrong(f"'transpose_forward' {forward} and 'transpose_backward' {backward} do not undo each other")


def _configurations(node: Node) -> tuple[Configuration, ...]:
    names = node.keys()
    if not names:
        raise node.wrong("there is no configuration")
    for name in names:
        Node(value=name, source=node.source, path=node.path).file_name()
    return tuple(_configuration(name, _resolved(node, name, ())) for name in names)


def _resolved(configurations: Node, name: str, children: tuple[str, ...]) -> Node:
    """Return a configuration with everything that it inherits, however long the line."""
    if name in children:
        raise configurations.wrong(f"configurations inherit in a circle: {' -> '.join((*children, name))}")
    node = configurations.child(name)
    parent = node.get("inherits_from")
    if parent is None:
        return node
    inherited = _resolved(configurations, parent.text(), (*children, name))
    return Node(value={**inherited.value, **node.value}, source=node.source, path=node.path)


def configuration_from_json(name: str, data: Mapping[str, Any], *, source: str) -> Configuration:
    """Return one configuration that is written in full (inherited keys included).

    Raises
    ------
    PlanError
        If a key is missing or of the wrong kind, or asks for something that is not known; names file and key.
    """
    return _configuration(name, Node(value=data, source=source, path=name))


def _configuration(name: str, node: Node) -> Configuration:
    _check_preparation(node)
    patch = _positive_integers(node.child("patch_size"))
    schemes = tuple(_normalization(n) for n in node.child("normalization_schemes").items())
    masks = tuple(n.flag() for n in node.child("use_mask_for_norm").items())
    spacing = tuple(_positive(n) for n in node.child("spacing").items())
    if len(spacing) != len(patch) or len(schemes) != len(masks):
        raise node.wrong("patch_size and spacing, or normalization_schemes and use_mask_for_norm, differ in length")
    batch_dice, parent = node.get("batch_dice"), node.get("inherits_from")
    return Configuration(
        name=name,
        data_identifier=node.child("data_identifier").file_name(),
        spacing_mm=spacing,
        patch_size=patch,
        batch_size=_positive_integers([node.child("batch_size")])[0],
        median_shape=node.child("median_image_size_in_voxels").numbers(),
        normalization=schemes,
        use_mask_for_norm=masks,
        architecture=_architecture(node, dims=len(patch)),
        batch_dice=False if batch_dice is None else batch_dice.flag(),
        previous_stage=_optional_name(node, "previous_stage"),
        next_stage=_optional_name(node, "next_stage"),
        inherits_from=None if parent is None else parent.text(),
    )


def _positive(node: Node) -> float:
    if node.number() <= 0:
        raise node.wrong(f"expected a number above 0, found {node.value}")
    return node.number()


def _positive_integers(nodes: Node | list[Node]) -> tuple[int, ...]:
    found = list(nodes.items()) if isinstance(nodes, Node) else nodes
    return tuple(min(n.integer(), int(_positive(n))) for n in found)


def _optional_name(node: Node, key: str) -> str | None:
    found = node.get(key)
    if found is None or found.value is None:
        return None
    names = [n.text() for n in found.items()] if isinstance(found.value, list) else [found.text()]
    return names[0] if names else None


def _normalization(node: Node) -> Normalization:
    name = node.text()
    if name not in _NORMALIZATION_OF_NAME:
        raise node.wrong(f"the normalisation '{name}' is not known; known are {', '.join(_NORMALIZATION_OF_NAME)}")
    return _NORMALIZATION_OF_NAME[name]


def _check_preparation(node: Node) -> None:
    preprocessor = node.get("preprocessor_name")
    if preprocessor is not None and preprocessor.text() != PREPROCESSOR:
        raise preprocessor.wrong(f"the preprocessor '{preprocessor.value}' is not known, only {PREPROCESSOR}")
    for what, known in RESAMPLING_KWARGS.items():
        function, kwargs = node.get(f"resampling_fn_{what}"), node.get(f"resampling_fn_{what}_kwargs")
        if function is not None and function.text() != RESAMPLING:
            raise function.wrong(f"the resampling function '{function.value}' is not known, only {RESAMPLING}")
        if kwargs is not None:
            _check_kwargs(kwargs, known)


def _check_kwargs(kwargs: Node, known: Mapping[str, Any]) -> None:
    for key in kwargs.keys():
        found = kwargs.child(key)
        if key not in known or found.value != known[key]:
            raise found.wrong(f"only {known.get(key)!r} is supported, found {found.value!r}")


def _architecture(node: Node, dims: int) -> Architecture:
    declared = node.get("architecture")
    found = _old_architecture(node, dims) if declared is None else _new_architecture(declared, dims)
    _check_lengths(node, found)
    return found


def _new_architecture(node: Node, dims: int) -> Architecture:
    kind = _kind(node.child("network_class_name"))
    kwargs = node.child("arch_kwargs")
    _check_blocks(kwargs, dims)
    stages = kwargs.child("n_stages").integer()
    if not 1 <= stages <= MOST_STAGES:
        raise kwargs.wrong(f"'n_stages' must lie between 1 and {MOST_STAGES}, found {stages}")
    blocks = "n_blocks_per_stage" if kind in ("residual_unet", "mednext") else "n_conv_per_stage"
    decoder = "n_blocks_per_stage_decoder" if kind == "mednext" else "n_conv_per_stage_decoder"
    features = _per_stage(kwargs.child("features_per_stage"), stages)
    if len(features) != stages:
        raise kwargs.wrong(f"'features_per_stage' {features} do not fit n_stages {stages}")
    return Architecture(
        kind=kind,
        dims=dims,
        features=features,
        kernel_sizes=_per_axis(kwargs.child("kernel_sizes"), stages, dims),
        strides=_per_axis(kwargs.child("strides"), stages, dims),
        encoder_blocks=_per_stage(kwargs.child(blocks), stages),
        decoder_convs=_per_stage(kwargs.child(decoder), stages - 1),
        expansion_ratios=_per_stage(kwargs.child("expansion_ratios"), stages) if kind == "mednext" else (),
    )


def _old_architecture(node: Node, dims: int) -> Architecture:
    kind = _kind(node.child("UNet_class_name"))
    blocks = node.child("n_conv_per_stage_encoder").integers()
    stages = len(blocks)
    base, cap = node.child("UNet_base_num_features").integer(), node.child("unet_max_num_features").integer()
    return Architecture(
        kind=kind,
        dims=dims,
        features=tuple(min(base * 2**stage, cap) for stage in range(stages)),
        kernel_sizes=_per_axis(node.child("conv_kernel_sizes"), stages, dims),
        strides=_per_axis(node.child("pool_op_kernel_sizes"), stages, dims),
        encoder_blocks=blocks,
        decoder_convs=node.child("n_conv_per_stage_decoder").integers(),
    )


def _kind(node: Node) -> NetworkKind:
    name = node.text().rsplit(".", 1)[-1]
    if name not in _KIND_OF_CLASS:
        known = ", ".join(_KIND_OF_CLASS)
        raise node.wrong(f"the network class '{node.value}' is not known; known are {known}")
    return _KIND_OF_CLASS[name]


def _check_blocks(kwargs: Node, dims: int) -> None:
    """Refuse building blocks other than convolution with bias, affine instance norm and leaky ReLU."""
    for key, allowed in (
        ("conv_op", (f"torch.nn.modules.conv.Conv{dims}d", f"torch.nn.Conv{dims}d")),
        ("norm_op", (f"torch.nn.modules.instancenorm.InstanceNorm{dims}d", f"torch.nn.InstanceNorm{dims}d")),
        ("nonlin", _LEAKY_RELU),
        ("dropout_op", (None,)),
        ("conv_bias", (True,)),
        ("norm_op_kwargs", ({"eps": 1e-05, "affine": True},)),
    ):
        found = kwargs.get(key)
        if found is not None and found.value not in allowed:
            raise found.wrong(f"only {allowed[0]!r} is supported, found {found.value!r}")


def _per_stage(node: Node, stages: int) -> tuple[int, ...]:
    """Return one number per stage; a single number stands for all stages."""
    return (node.integer(),) * stages if isinstance(node.value, int | float) else node.integers()


def _per_axis(node: Node, stages: int, dims: int) -> tuple[tuple[int, ...], ...]:
    """Return ``dims`` numbers per stage; a single number stands for all axes, or for all stages."""
    if isinstance(node.value, int | float):
        return ((node.integer(),) * dims,) * stages
    return tuple(_per_stage(item, dims) for item in node.items())


def _check_lengths(node: Node, found: Architecture) -> None:
    stages = found.stages
    fits = (
        stages >= 1
        and len(found.kernel_sizes) == len(found.strides) == len(found.encoder_blocks) == stages
        and len(found.decoder_convs) == stages - 1
        and len(found.expansion_ratios) == (stages if found.kind == "mednext" else 0)
        and all(len(axes) == found.dims for axes in (*found.kernel_sizes, *found.strides))
    )
    if not fits:
        raise node.wrong(f"the lists of the network do not fit {stages} stages and {found.dims} axes: {found}")
