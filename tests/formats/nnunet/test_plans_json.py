import json
from dataclasses import replace

import pytest

from delineate.errors import PlanError
from delineate.formats.nnunet import plan_from_json, plan_to_json, read_plan, write_plan
from delineate.planning.plan import Architecture
from delineate.planning.planner import plan_dataset
from delineate.planning.presets import PRESETS, RESENC_M
from planning.datasets import DATASETS


def _plan(name="lowres", **kwargs):
    return plan_dataset(DATASETS[name].fingerprint(), DATASETS[name].facts(), **kwargs)


@pytest.mark.parametrize("name", ["isotropic", "cine", "planes", "lowres", "masked", "regions_ignore", "tiny"])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_round_trip(name, preset, tmp_path):
    plan = _plan(name, preset=preset)
    write_plan(tmp_path / "plans.json", plan)
    assert read_plan(tmp_path / "plans.json") == plan


def test_keys_of_nnunet_in_its_order():
    data = plan_to_json(_plan())
    assert list(data) == [
        "dataset_name", "plans_name", "original_median_spacing_after_transp", "original_median_shape_after_transp",
        "image_reader_writer", "transpose_forward", "transpose_backward", "configurations", "experiment_planner_used",
        "label_manager", "foreground_intensity_properties_per_channel",
    ]  # fmt: skip
    assert list(data["configurations"]) == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    assert data["configurations"]["3d_cascade_fullres"] == {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }
    assert data["label_manager"] == "LabelManager"
    architecture = data["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    assert architecture["arch_kwargs"]["conv_op"] == "torch.nn.modules.conv.Conv3d"
    assert architecture["_kw_requires_import"] == ["conv_op", "norm_op", "dropout_op", "nonlin"]


def test_a_budget_configuration_is_written_as_what_differs():
    plan = _plan("isotropic")
    small = replace(plan.configuration("3d_fullres"), name="mine", batch_size=3, inherits_from="3d_fullres")
    extended = replace(plan, configurations=(*plan.configurations, small))
    data = plan_to_json(extended)
    assert data["configurations"]["mine"] == {"inherits_from": "3d_fullres", "batch_size": 3}
    assert plan_from_json(data) == extended


def test_inheritance_over_several_generations():
    data = plan_to_json(_plan("isotropic"))
    data["configurations"]["child"] = {"inherits_from": "3d_fullres", "batch_size": 3}
    data["configurations"]["grandchild"] = {"inherits_from": "child", "patch_size": [64, 64, 64]}
    found = plan_from_json(data).configuration("grandchild")
    assert (found.batch_size, found.patch_size, found.inherits_from) == (3, (64, 64, 64), "child")


def test_vnet_survives():
    plan = _plan("hippocampus_208")
    full = plan.configuration("3d_fullres")
    vnet = replace(full, architecture=replace(full.architecture, kind="vnet"))
    changed = replace(plan, configurations=(vnet,))
    assert plan_from_json(plan_to_json(changed)) == changed


OLD = {
    "data_identifier": "nnUNetPlans_3d_fullres",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 2,
    "patch_size": [128, 128, 128],
    "median_image_size_in_voxels": [236.0, 223.0, 224.5],
    "spacing": [1.5, 1.5, 1.5],
    "normalization_schemes": ["CTNormalization"],
    "use_mask_for_norm": [False],
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 32,
    "n_conv_per_stage_encoder": [2, 2, 2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2, 2, 2, 2],
    "num_pool_per_axis": [5, 5, 5],
    "pool_op_kernel_sizes": [[1, 1, 1], *[[2, 2, 2]] * 5],
    "conv_kernel_sizes": [[3, 3, 3]] * 6,
    "unet_max_num_features": 320,
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "batch_dice": True,
}


def _old_plan():
    data = plan_to_json(_plan("isotropic"))
    data["foreground_intensity_properties_by_modality"] = data.pop("foreground_intensity_properties_per_channel")
    data["configurations"] = {"3d_fullres": dict(OLD)}
    return data


def test_old_plans_are_read():
    full = plan_from_json(_old_plan()).configuration("3d_fullres")
    assert full.architecture == Architecture(
        kind="plain_unet",
        dims=3,
        features=(32, 64, 128, 256, 320, 320),
        kernel_sizes=((3, 3, 3),) * 6,
        strides=((1, 1, 1), *((2, 2, 2),) * 5),
        encoder_blocks=(2,) * 6,
        decoder_convs=(2,) * 5,
    )
    assert full.median_shape == (236.0, 223.0, 224.5)
    residual = _old_plan()
    residual["configurations"]["3d_fullres"]["UNet_class_name"] = "ResidualEncoderUNet"
    assert plan_from_json(residual).configurations[0].architecture.kind == "residual_unet"


def test_single_numbers_stand_for_all_stages_and_axes():
    data = plan_to_json(_plan("hippocampus_208"))
    kwargs = data["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    expected = plan_from_json(data)
    kwargs |= {"kernel_sizes": 3, "strides": [1, 2, 2, 2], "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    assert plan_from_json(data) == expected


def _drop(data, *path):
    for key in path[:-1]:
        data = data[key]
    del data[path[-1]]


def _set(data, value, *path):
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


FULL = ("configurations", "3d_fullres")
KWARGS = (*FULL, "architecture", "arch_kwargs")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("configurations",), [], "at 'configurations': expected an object"),
        (("configurations",), {}, "there is no configuration"),
        (("transpose_forward",), [0, 0, 1], r"must hold each of \[0, 1, 2\] once"),
        (("transpose_backward",), [2, 0, 1], "do not undo each other"),
        (
            (*FULL, "patch_size"),
            [40, 56, "x"],
            "'configurations.3d_fullres.patch_size\\[2\\]': expected a whole number",
        ),
        ((*FULL, "patch_size"), [40, 56], "differ in length"),
        ((*FULL, "batch_size"), 2.5, "expected a whole number"),
        ((*FULL, "spacing"), [1.0, float("nan"), 1.0], "expected a finite number"),
        ((*FULL, "normalization_schemes"), ["MyNorm"], "the normalisation 'MyNorm' is not known"),
        ((*FULL, "use_mask_for_norm"), ["no"], "expected true or false"),
        ((*FULL, "preprocessor_name"), "Other", "the preprocessor 'Other' is not known"),
        ((*FULL, "resampling_fn_seg"), "resample_torch", "the resampling function 'resample_torch' is not known"),
        ((*FULL, "resampling_fn_data_kwargs", "order"), 1, "order': only 3 is supported, found 1"),
        ((*FULL, "inherits_from"), "3d_fullres", "inherit in a circle"),
        ((*FULL, "inherits_from"), "nothing", "the key 'nothing' is missing"),
        ((*FULL, "architecture", "network_class_name"), "a.b.SwinUNETR", "network class 'a.b.SwinUNETR' is not known"),
        ((*KWARGS, "dropout_op"), "torch.nn.Dropout3d", "only None is supported"),
        ((*KWARGS, "norm_op"), "torch.nn.BatchNorm3d", "only 'torch.nn.modules.instancenorm.InstanceNorm3d'"),
        ((*KWARGS, "n_stages"), 5, "do not fit"),
        ((*KWARGS, "strides"), [[1, 1, 1], [2, 2]], "do not fit"),
        (("foreground_intensity_properties_per_channel",), {"1": {}}, "numbered from 0"),
    ],
)
def test_faults_name_file_and_key(path, value, message):
    data = json.loads(json.dumps(plan_to_json(_plan("hippocampus_208"))))
    _set(data, value, *path)
    with pytest.raises(PlanError, match=message) as caught:
        plan_from_json(data, source="folder/plans.json")
    assert str(caught.value).startswith("folder/plans.json")


@pytest.mark.parametrize(
    "path", [("dataset_name",), ("configurations",), (*FULL, "patch_size"), (*KWARGS, "strides"), (*FULL, "spacing")]
)
def test_missing_keys_are_named(path):
    data = plan_to_json(_plan("hippocampus_208"))
    _drop(data, *path)
    with pytest.raises(PlanError, match=f"the key '{path[-1]}' is missing"):
        plan_from_json(data)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(PlanError, match="does not exist"):
        read_plan(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_text(json.dumps(plan_to_json(_plan("tiny")))[:100])
    with pytest.raises(PlanError, match="not valid JSON"):
        read_plan(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_text("[]")
    with pytest.raises(PlanError, match="expected an object"):
        read_plan(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan(tmp_path / "plans.json")


def test_residual_blocks_have_nnunets_key():
    kwargs = plan_to_json(_plan(preset=RESENC_M))["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert "n_blocks_per_stage" in kwargs
    assert "n_conv_per_stage" not in kwargs
