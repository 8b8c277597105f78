"""The commands: which words they take, which workflow they call, which words they give back."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli import dicom_prediction
from delineate.cli.instance_run import instance_options, run_instances, verify_instances
from delineate.cli.run_options import (
    configuration_option,
    configurations_option,
    dataset_argument,
    fold_option,
    jobs_option,
    out_option,
    planning_options,
    read_extension,
    read_folds,
    run_folder_argument,
    split_options,
    start_model_option,
)
from delineate.cli.scale_commands import (
    floating_precision,
    manner_of,
    own_folder,
    predict_on_cluster,
    tell_trained,
    train_elsewhere,
)
from delineate.cli.scale_options import cluster_of, cluster_option, devices_option
from delineate.cli.session import Command, Session
from delineate.errors import DatasetError, UsageError
from delineate.execution.quantities import read_budget, read_memory, spoken_seconds

if TYPE_CHECKING:
    from delineate.metrics.summary import Summary


def _run_options(parser: argparse.ArgumentParser) -> None:
    dataset_argument(parser)
    out_option(parser)
    parser.add_argument(
        "--budget", default="standard", help="time for everything: 5min, 2h, ...; default: nnU-Net's own"
    )
    fold_option(parser)
    parser.add_argument("--no-mirroring", action="store_true", help="predict without averaging over mirrored images")
    split_options(parser)
    planning_options(parser)
    start_model_option(parser)
    jobs_option(parser)
    instance_options(parser)


def _run(session: Session) -> int:
    from delineate.workflows.presets import preset_named
    from delineate.workflows.recognise_dataset import holds_instances
    from delineate.workflows.run_dataset import RunSettings, run_dataset
    from delineate.workflows.split_rule import split_rule

    options = session.options
    if holds_instances(options.dataset):
        return run_instances(session, _run_options)
    if options.also or options.mpp or options.licence or options.source:
        raise UsageError(
            f"--also, --mpp, --source and --licence are for pictures with instances; {options.dataset} holds none "
            "(expected images/ and instances/)."
        )
    settings = RunSettings(
        budget_seconds=read_budget(options.budget),
        folds=read_folds(options.fold),
        configuration=options.configuration,
        preset=preset_named(options.preset),
        device=options.device,
        memory_bytes=read_memory(options.memory) if options.memory else None,
        workers=options.jobs,
        repairs=frozenset(options.repair),
        mirroring=not options.no_mirroring,
        command=session.command,
        start_model=options.start_model,
        split=split_rule(options.split_by, options.table),
    )
    outcome = run_dataset(options.dataset, options.out, settings, **session.watched)
    if outcome.test is not None:
        _print_summary("held-out test cases", outcome.test)
    _print_summary("validation cases (not trained on)", outcome.validation)
    print(f"model   {outcome.folder.model}\nreport  {outcome.folder.report}\ntime    {spoken_seconds(outcome.seconds)}")
    return 0


def _verify_options(parser: argparse.ArgumentParser) -> None:
    dataset_argument(parser)
    jobs_option(parser)
    parser.add_argument("--json", action="store_true", help="print the faults as JSON")


def _verify(session: Session) -> int:
    from delineate.workflows.recognise_dataset import holds_instances
    from delineate.workflows.verify_dataset import verify, without_faulty_cases

    options = session.options
    if holds_instances(options.dataset):
        return verify_instances(session, _verify_options)
    dataset, verification = verify(
        options.dataset, repairs=frozenset(options.repair), workers=options.jobs, **session.watched
    )
    if options.json:
        print(json.dumps([fault.text() for fault in verification.faults], indent=1))
    else:
        for fault in verification.warnings:
            print(fault.text())
    left = without_faulty_cases(dataset, verification)
    if not options.json:
        count = len(left.training) + len(left.testing)
        print(
            f"{dataset.name}: {count} of {verification.cases} cases can be used, {len(verification.warnings)} warnings"
        )
    return 0


def _plan_options(parser: argparse.ArgumentParser) -> None:
    dataset_argument(parser)
    out_option(parser)
    parser.add_argument(
        "--budget", default="standard", help="time for training a fold: 20min, 2h, ...; default: nnU-Net's"
    )
    split_options(parser)
    planning_options(parser)
    start_model_option(parser)
    parser.add_argument(
        "--plan-of",
        type=Path,
        metavar="RUN|PLANS",
        help="use the plan of another dataset: a run's folder or plans.json",
    )
    jobs_option(parser)


def _plan(session: Session) -> int:
    from delineate.workflows.presets import preset_named
    from delineate.workflows.run_dataset import RunSettings, plan_run
    from delineate.workflows.split_rule import split_rule

    options = session.options
    settings = RunSettings(
        budget_seconds=read_budget(options.budget),
        configuration=options.configuration,
        preset=preset_named(options.preset),
        device=options.device,
        memory_bytes=read_memory(options.memory) if options.memory else None,
        workers=options.jobs,
        repairs=frozenset(options.repair),
        start_model=options.start_model,
        plan_of=options.plan_of,
        split=split_rule(options.split_by, options.table),
    )
    decision, words = plan_run(options.dataset, options.out, settings, **session.watched)
    print("\n".join((*words, *decision.recipe.reasons)))
    own = options.out if options.configuration is None else options.out / options.configuration
    print(f"plan    {options.out / 'plans.json'}\nrecipe  {own / 'recipe.json'}")
    return 0


def _preprocess_options(parser: argparse.ArgumentParser) -> None:
    run_folder_argument(parser)
    configuration_option(parser)
    jobs_option(parser)
    cluster_option(parser)


def _preprocess(session: Session) -> int:
    from delineate.workflows.prepare_dataset import preprocess_run

    options = session.options
    with cluster_of(options) as cluster:
        count = preprocess_run(
            options.run_folder,
            configuration=options.configuration,
            workers=options.jobs,
            cluster=cluster,
            **session.watched,
        )
    print(f"{count} cases prepared; those that were ready are kept")
    return 0


def _train_options(parser: argparse.ArgumentParser) -> None:
    run_folder_argument(parser)
    configurations_option(parser)
    fold_option(parser)
    parser.add_argument("--extend", metavar="TIME|STEPS", help="train a finished fold longer: 10min, or 2000 (steps)")
    start_model_option(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    jobs_option(parser)
    cluster_option(parser)
    devices_option(parser)


def _train(session: Session) -> int:
    options = session.options
    folds, extension = read_folds(options.fold), read_extension(options.extend)
    if (code := train_elsewhere(session, folds, extension)) is not None:
        return code
    from delineate.workflows.resume_run import train_run

    for configuration in options.configuration or (None,):
        trained = train_run(
            options.run_folder,
            configuration=configuration,
            folds=folds,
            extension=extension,
            device=options.device,
            workers=options.jobs,
            start_model=options.start_model,
            **session.watched,
        )
        tell_trained(own_folder(options.run_folder, configuration), trained.folds)
    return 0


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model package or run, or nnU-Net's model: a folder or a zip")
    parser.add_argument("-i", "--input", type=Path, help="an image, or a folder of images")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the label maps")
    parser.add_argument("--fold", nargs="+", metavar="K", help="folds to average; default: all of the model")
    parser.add_argument(
        "--configuration", metavar="NAME", help="which of nnU-Net's models, if there are several: 3d_fullres, ..."
    )
    parser.add_argument(
        "--nnunet-rounding", action="store_true", help="sum in half precision as nnU-Net does: its voxels, but slower"
    )
    parser.add_argument("--checkpoint", default="checkpoint_final.pth", metavar="FILE", help="nnU-Net's checkpoint")
    parser.add_argument(
        "--step", type=float, default=0.5, help="distance of tiles as a share of the patch; default 0.5"
    )
    parser.add_argument("--no-mirroring", action="store_true", help="do not average over mirrored images: quicker")
    parser.add_argument(
        "--skip-air", action="store_true", help="CT: leave out tiles whose every voxel is below -900 HU; quicker"
    )
    parser.add_argument("--probabilities", action="store_true", help="also write probabilities (.npz)")
    parser.add_argument(
        "--no-temperature", action="store_true", help="probabilities as the network states them, not calibrated"
    )
    parser.add_argument(
        "--assess", action="store_true", help="also say how far each result can be trusted: quality.csv, worst first"
    )
    parser.add_argument(
        "--previous", type=Path, metavar="FOLDER", help="cascade: label maps of its first stage; default: predict them"
    )
    parser.add_argument("--no-postprocessing", action="store_true", help="leave label maps as the network made them")
    parser.add_argument("--overwrite", action="store_true", help="predict again what stands in the output folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16", "int8"),
        help="int8: with openvino, for models that `quantise` allows it",
    )
    cluster_option(parser)
    parser.add_argument(
        "--backend", default="torch", choices=("torch", "openvino"), help="what runs the networks; openvino: CPU only"
    )
    dicom_prediction.declare_prediction(parser)


def _predict(session: Session) -> int:
    dicom_prediction.require_one_source(session.options)
    if session.options.cluster is not None:
        if session.options.assess:
            raise UsageError("--assess works without --cluster: run it here on the images that matter.")
        return predict_on_cluster(session)
    from delineate.cli.trust_commands import print_assessments
    from delineate.workflows.model import load_model
    from delineate.workflows.segment_folder import find_images, segment_files

    options, manner = session.options, manner_of(session.options)
    model = load_model(
        options.model,
        folds=options.fold,
        device=options.device,
        mirroring=not options.no_mirroring,
        precision=floating_precision(options),
        checkpoint=options.checkpoint,
        configuration=options.configuration,
    )
    model = manner.of(model)
    if options.dicom is not None:
        return dicom_prediction.predict_study(session, model)
    cases = find_images(options.input, len(model.package.channel_names))
    written = segment_files(
        model,
        cases,
        options.out,
        probabilities=options.probabilities,
        assess=options.assess,
        overwrite=options.overwrite,
        **session.watched,
    )
    print(f"{len(written)} label maps in {options.out}")
    if options.assess:
        print_assessments(options.out, [case.case_id for case in cases])
    return 0


def _report_options(parser: argparse.ArgumentParser) -> None:
    run_folder_argument(parser)
    configuration_option(parser)
    parser.add_argument("--no-mirroring", action="store_true", help="predict without averaging over mirrored images")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")


def _report(session: Session) -> int:
    from delineate.workflows.resume_run import report_run

    options = session.options
    conclusion = report_run(
        options.run_folder,
        configuration=options.configuration,
        device=options.device,
        mirroring=not options.no_mirroring,
        **session.watched,
    )
    if conclusion.test is not None:
        _print_summary("held-out test cases", conclusion.test)
    _print_summary("validation cases (not trained on)", conclusion.validation)
    print(f"report  {own_folder(options.run_folder, options.configuration) / 'report.html'}")
    return 0


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _doctor(session: Session) -> int:
    from delineate.workflows.inspect_machine import inspect_machine

    facts = inspect_machine(session.options.device)
    if session.options.json:
        print(json.dumps(facts, indent=1))
    else:
        width = max(len(name) for name in facts)
        print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))
    return 0


def _phantoms_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the dataset is written")
    parser.add_argument("--cases", type=int, default=24, help="training cases; default 24")
    parser.add_argument("--held-out", type=int, default=6, help="test cases with references; default 6")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the voxel size; 0.5: eight times the voxels"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scanner", nargs="+", default=[], metavar="NAME", help="soft, sharp, thick, oblique; default: all in turn"
    )
    parser.add_argument("--one-scanner", action="store_true", help="examine every patient on one scanner only")


def _phantoms(session: Session) -> int:
    from delineate.workflows.write_phantoms import write_phantoms

    options = session.options
    dataset = write_phantoms(
        options.folder,
        cases=options.cases,
        held_out=options.held_out,
        scale=options.scale,
        seed=options.seed,
        scanners=options.scanner,
        one_scanner=options.one_scanner,
        progress=session.progress,
    )
    print(f"{len(dataset.training)} training and {len(dataset.testing)} test phantoms in {options.folder}")
    return 0


COMMANDS = (
    Command(name="run", help="all of it: verify, plan, train, predict, report", declare=_run_options, run=_run),
    Command(name="verify", help="look at every file and tell all faults", declare=_verify_options, run=_verify),
    Command(name="plan", help="decide what to train, and say why", declare=_plan_options, run=_plan),
    Command(name="preprocess", help="prepare the cases of a plan", declare=_preprocess_options, run=_preprocess),
    Command(name="train", help="train folds of a plan; resume; extend", declare=_train_options, run=_train),
    Command(name="predict", help="segment images with a trained model", declare=_predict_options, run=_predict),
    Command(name="report", help="score a trained run and write its report again", declare=_report_options, run=_report),
    Command(name="doctor", help="say what this machine can do", declare=_doctor_options, run=_doctor),
    Command(
        name="phantoms", help="write a dataset of phantoms to try things on", declare=_phantoms_options, run=_phantoms
    ),
)


def _print_summary(what: str, summary: Summary) -> None:
    if not summary.structures:
        raise DatasetError(f"No case could be scored among the {what}.")
    width = max(len(s.name) for s in summary.structures)
    print(f"\nmean Dice {summary.foreground_dice:.4f} over {summary.n_cases} {what}")
    for structure in summary.structures:
        print(f"  {structure.name:<{width}}  {structure.dice.mean:.4f}")
