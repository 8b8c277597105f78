"""nnU-Net's commands that work on label maps and scores: evaluate, compare, average, post-process."""

from __future__ import annotations

from pathlib import Path

from delineate.cli.nnunet_words import counted, nnunet_folders, print_summary
from delineate.cli.session import Session


def run_evaluate_folder(session: Session) -> int:
    """Score label maps with the labels of a dataset.json."""
    from delineate.workflows.compare_folders import compare_folders, declared_comparison

    options = session.options
    comparison = declared_comparison(options.gt_folder, options.pred_folder, options.djfile, some=options.chill)
    print_summary(compare_folders(comparison, options.o, workers=counted(options.np), **session.watched))
    return 0


def run_evaluate_simple(session: Session) -> int:
    """Score label maps for some label values."""
    from delineate.workflows.compare_folders import compare_folders, labelled_comparison

    options = session.options
    comparison = labelled_comparison(
        options.gt_folder, options.pred_folder, options.l, ignore=options.il, some=options.chill
    )
    print_summary(compare_folders(comparison, options.o, workers=counted(options.np), **session.watched))
    return 0


def run_accumulate(session: Session) -> int:
    """Merge and score the validation of all folds."""
    from delineate.workflows.nnunet_crossvalidation import merge_folds
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    place = find_dataset(nnunet_folders(), options.dataset_name_or_id)
    model = place.model(options.tr, options.p, options.c)
    out = Path(options.o) if options.o else None
    print_summary(merge_folds(place, model, [str(fold) for fold in options.f], out, **session.watched))
    return 0


def run_find_best(session: Session) -> int:
    """Compare trained configurations and their pairs."""
    from delineate.workflows.nnunet_find_best import Comparison, TrainedConfiguration, find_best_configuration
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    candidates = tuple(
        TrainedConfiguration(trainer=trainer, plans_name=plans, configuration=configuration)
        for trainer in options.tr
        for plans in options.p
        for configuration in options.c
    )
    comparison = Comparison(
        place=find_dataset(nnunet_folders(), options.dataset_name_or_id),
        candidates=candidates,
        folds=tuple(str(fold) for fold in options.f),
        ensembles=not options.disable_ensembling,
        workers=counted(options.np),
    )
    print("\n".join(find_best_configuration(comparison, **session.watched)))
    return 0


def run_ensemble(session: Session) -> int:
    """Average folders of probabilities."""
    from delineate.workflows.nnunet_crossvalidation import average_folders

    options = session.options
    folders = [Path(folder) for folder in options.i]
    written = average_folders(folders, Path(options.o), probabilities=options.save_npz, **session.watched)
    print(f"{len(written)} label maps written to {options.o}")
    return 0


def run_determine_postprocessing(session: Session) -> int:
    """Choose post-processing where it improves."""
    from delineate.workflows.nnunet_crossvalidation import determine_postprocessing

    options = session.options
    choice = determine_postprocessing(
        options.i,
        options.ref,
        Path(options.dataset_json) if options.dataset_json else options.i / "dataset.json",
        keep=not options.remove_postprocessed,
        workers=counted(options.np),
        **session.watched,
    )
    print("\n".join(choice.reasons))
    return 0


def run_apply_postprocessing(session: Session) -> int:
    """Post-process a folder of label maps."""
    from delineate.workflows.nnunet_crossvalidation import apply_postprocessing

    options = session.options
    written = apply_postprocessing(
        options.i, options.o, options.pp_pkl_file, workers=counted(options.np), **session.watched
    )
    print(f"{len(written)} label maps written to {options.o}")
    return 0
