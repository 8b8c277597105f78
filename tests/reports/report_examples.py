"""Small made-up cases and reports for the tests of this room."""

import numpy as np

from delineate.case.image import Image, LabelMap
from delineate.case.labels import LabelScheme
from delineate.geometry.grid import Grid
from delineate.metrics.scores import evaluate_case
from delineate.reports.curves import History
from delineate.reports.overlays import picture_case
from delineate.reports.report_data import Fact, FailedCase, Fold, ReportData

SCHEME = LabelScheme.simple("liver", "lesion")
STRUCTURES = tuple((s.name, s.values) for s in SCHEME.structures)


def ball(shape, centre, radius):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < radius**2


def labels_of(shape, shift=0.0, lesion=True):
    """A large ball with a small one inside."""
    centre = [n / 2 for n in shape]
    labels = np.zeros(shape, np.uint8)
    labels[ball(shape, [centre[0] + shift, *centre[1:]], min(shape) / 3)] = 1
    if lesion:
        labels[ball(shape, centre, min(shape) / 8)] = 2
    return labels


def score(case_id="case_0", shift=1.0, shape=(12, 14, 16), lesion=True, patient=None):
    return evaluate_case(
        labels_of(shape, shift, lesion),
        labels_of(shape, lesion=lesion),
        STRUCTURES,
        voxel_volume_mm3=2.0,
        case_id=case_id,
        patient_id=patient or f"patient of {case_id}",
    )


def draw(case_id="case_0", grid=None, shift=1.0, role="best", channels=1, **more):
    grid = grid or Grid.regular((12, 14, 16), (3.0, 1.0, 1.0))
    reference, prediction = labels_of(grid.shape), labels_of(grid.shape, shift)
    noise = np.random.default_rng(0).normal(100, 10, (channels, *grid.shape))
    image = Image(array=(noise + 50 * (reference > 0)).astype(np.float32), grid=grid)
    scores = evaluate_case(
        prediction, reference, STRUCTURES, voxel_volume_mm3=1.0, case_id=case_id, patient_id="Jane Doe"
    )
    maps = (LabelMap(array=array, grid=grid) for array in (reference, prediction))
    return picture_case(scores, image, *maps, SCHEME, role=role, **more)


def full_report(name="case"):
    """A report in which no part is empty; ``name`` goes wherever text from outside can go."""
    scores = tuple(score(f"{name}_{i}", shift=i / 4, lesion=i != 2, patient=f"Jane Doe {i // 2}") for i in range(6))
    records = tuple(
        {"step": i, "seconds": 9.0 * i, "loss": 1 / (i + 1), "learning_rate": 0.1, "dice": {name: i / 9, "b": None}}
        for i in range(8)
    )
    fact = Fact(label=name, value=f"value of {name}")
    return ReportData(
        title=f"Report on {name}",
        lead=name,
        created="2026-11-23",
        evaluation="cross_validation",
        scores=scores,
        dataset=(fact,),
        plan=(name,),
        plan_table=(fact,),
        reasons=(name,),
        run=(fact,),
        folds=(Fold(name=name, case_ids=(scores[0].case_id,)), Fold(name="empty", case_ids=())),
        histories=(History(name=name, records=records),),
        overlays=(draw(name, role="worst"),),
        training_examples=((name, 3), ("never", 0), ("often", 50)),
        failed=(FailedCase(case_id=name, reason=f"reason of {name}"),),
        warnings=(name,),
        caveats=(name,),
        provenance=(fact,),
    )
