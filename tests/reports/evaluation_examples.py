"""Evaluations of synthetic masks, computed with the real metrics, in which no part is empty."""

from dataclasses import replace
from functools import cache

import numpy as np

from delineate.metrics.agreement import leave_one_rater_out, majority, non_inferiority, pairwise_dice, staple
from delineate.metrics.calibration import reliability
from delineate.metrics.cohort import CaseRows, summarise_rows
from delineate.metrics.comparison import holm, paired_difference, permutation_test, wilcoxon_signed_rank
from delineate.metrics.evaluation.evaluation import Evaluation, FailedPrediction
from delineate.metrics.evaluation.model_comparison import ModelComparison, PairedRow
from delineate.metrics.evaluation.rater_study import RaterSkill, RaterStudy, StructureRaters
from delineate.metrics.evaluation.site_shift import SiteShift
from delineate.metrics.evaluation.subgroups import Group, Subgrouping
from delineate.metrics.evaluation.thresholds import judge, published_thresholds, read_threshold
from delineate.metrics.evaluation.trust_study import FailureDetection, ShiftDetection, TrustStudy
from delineate.metrics.evaluation.volume_agreement import agree_on_volumes
from delineate.metrics.overlap import confusion, dice, overlap_of
from delineate.metrics.ranking import rank_stability
from delineate.metrics.statistics import Interval, bootstrap, mean_or_nan
from delineate.metrics.table import evaluate_structures

METRICS = ("dice", "hd95", "nsd", "volume_error", "relative_volume_error")
STRUCTURES = ("liver", "lung_nodule", "spleen")
SHAPE = (10, 20, 24)
SITES = ("Bergen", "Lyon", "Turin", "Graz")


def ball(centre, radius):
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    scaled = zip(axes, centre, (2.5, 1.0, 1.0), strict=True)
    return sum(((axis - c) * step) ** 2 for axis, c, step in scaled) < radius**2


def label_map(centres, radii):
    labels = np.zeros(SHAPE, np.uint8)
    for value, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        labels[ball(centre, radius)] = value
    return labels


def pair(generator, error):
    """A reference and a prediction that is off by about ``error`` voxels; the nodule is small and sometimes absent."""
    centres = np.array([(5.0, 9.0, 7.0), (5.0, 15.0, 12.0), (5.0, 9.0, 18.0)])
    centres += generator.normal(0, 0.5, centres.shape)
    radii = np.array([5.6, generator.choice([0.0, 1.9, 2.6], p=[0.15, 0.45, 0.4]), 4.4]) * generator.uniform(
        0.9, 1.1, 3
    )
    moved = centres + generator.normal(0, error, centres.shape) * (0.3, 1, 1)
    grown = np.maximum(0.0, radii + generator.normal(0, 0.5 * error, 3)) * (generator.random(3) > (0, 0.1, 0))
    return label_map(centres, radii), label_map(moved, grown)


def rows_of(prediction, reference, names, metrics=METRICS):
    structures = [(name, (value,)) for value, name in enumerate(names, start=1)]
    return evaluate_structures(prediction, reference, structures, spacing_mm=(2.5, 1.0, 1.0), metrics=metrics)


def cohort(n=36, *, names=STRUCTURES, error=0.45, seed=0, prefix="case"):
    generator = np.random.default_rng(seed)
    cases = []
    for i in range(n):
        reference, prediction = pair(generator, error * (1 + 0.8 * (i % 4 == 3)))
        rows = rows_of(prediction, reference, names)
        cases.append(CaseRows(case_id=f"{prefix}_{i:03d}", patient_id=f"Jane Doe {i // 2 if i < 8 else i}", rows=rows))
    return tuple(cases)


def values_of(cases, structure, metric):
    return np.array([next(row.values[metric] for row in case.rows if row.name == structure) for case in cases])


def patients_of(cases):
    return [case.patient_id for case in cases]


def subgroupings(cases, column, groups, metrics=("dice", "hd95"), least=20):
    found = []
    for structure in [row.name for row in cases[0].rows]:
        for metric in metrics:
            values = values_of(cases, structure, metric)
            found.append(_subgrouping(column, structure, metric, values, patients_of(cases), groups, least))
    return tuple(found)


def _subgrouping(column, structure, metric, values, patients, groups, least):
    members = {name: np.array([g == name for g in groups]) for name in dict.fromkeys(groups)}
    tests = {}
    for name, inside in members.items():
        share = np.where(inside, values, np.nan)
        tests[name] = permutation_test(share, np.full(len(values), np.nanmean(values[~inside])), patients, seed=0)
    adjusted = holm({name: test.p_value for name, test in tests.items()})
    made = []
    for name, inside in members.items():
        owners = [p for p, keep in zip(patients, inside, strict=True) if keep]
        mean = bootstrap(values[inside], owners, seed=0)
        gap = mean_or_nan(values[inside]) - mean_or_nan(values[~inside])
        half = (mean.interval.high - mean.interval.low) / 1.6
        made.append(
            Group(
                name=name,
                n_cases=int(inside.sum()),
                n_patients=len(set(owners)),
                mean=mean,
                gap=gap,
                gap_interval=Interval(low=gap - half, high=gap + half),
                test=tests[name],
                p_adjusted=adjusted[name],
                sufficient=bool(inside.sum() >= least),
            )
        )
    enough = [g for g in made if g.sufficient]
    sign = 1 if metric != "hd95" else -1
    worst = min(enough, key=lambda g: sign * g.mean.value).name if len(enough) > 1 else None
    return Subgrouping(
        column=column, structure=structure, metric=metric, groups=tuple(made), worst=worst, least_cases=least, seed=0
    )


def shifts_of(known, unseen, sites, metrics=("dice", "hd95")):
    found = []
    for structure in [row.name for row in known[0].rows]:
        for metric in metrics:
            first, second = (values_of(cases, structure, metric) for cases in (known, unseen))
            factor = 100 if metric == "dice" else -1
            by_site = tuple(
                (site, int(sum(s == site for s in sites)), *_site_means(first, second, sites, site)) for site in SITES
            )
            found.append(
                SiteShift(
                    structure=structure,
                    metric=metric,
                    known=bootstrap(first, patients_of(known), seed=0),
                    unseen=bootstrap(second, patients_of(known), seed=0),
                    drop_points=bootstrap(factor * (first - second), patients_of(known), seed=0),
                    by_site=by_site,
                )
            )
    return tuple(found)


def _site_means(first, second, sites, site):
    inside = np.array([s == site for s in sites])
    return mean_or_nan(first[inside]), mean_or_nan(second[inside])


def comparison_of(models, metrics=("dice", "hd95")):
    names = tuple(models)
    first = models[names[0]]
    rows = tuple((other, _paired_rows(first, models[other], metrics)) for other in names[1:])
    ranks = tuple((metric, _ranks(models, metric)) for metric in metrics)
    sentences = tuple(f"On liver {names[0]} and {other} differ by little." for other in names[1:])
    return ModelComparison(names=names, rows=rows, ranks=ranks, sentences=sentences, seed=0)


def _paired_rows(first, second, metrics):
    patients, rows = patients_of(first), []
    for metric in metrics:
        made = []
        for structure in [row.name for row in first[0].rows]:
            one, other = values_of(first, structure, metric), values_of(second, structure, metric)
            made.append(
                PairedRow(
                    structure=structure,
                    metric=metric,
                    first=bootstrap(one, patients, seed=0),
                    second=bootstrap(other, patients, seed=0),
                    difference=paired_difference(one, other, patients, seed=0),
                    permutation=permutation_test(one, other, patients, seed=0, permutations=2000),
                    wilcoxon=wilcoxon_signed_rank(one, other, patients),
                    p_adjusted=0.0,
                )
            )
        adjusted = holm({row.structure: row.permutation.p_value for row in made})
        rows += [replace(row, p_adjusted=adjusted[row.structure]) for row in made]
    return tuple(rows)


def _ranks(models, metric):
    scores = {
        name: [mean_or_nan([row.values[metric] for row in case.rows]) for case in cases]
        for name, cases in models.items()
    }
    patients = patients_of(next(iter(models.values())))
    return rank_stability(scores, patients, seed=0, higher_is_better=metric == "dice", resamples=500)


def mask_dice(one, other):
    return dice(overlap_of(confusion(one.astype(np.uint8), other.astype(np.uint8), 2), (1,)))


def rater_study(n=8, people=("Ana", "Bo", "Chi", "Dev"), structure="liver"):
    generator = np.random.default_rng(5)
    pairs, people_scores, left_out, majorities, staples, skills = [], [], [], [], [], []
    for _ in range(n):
        centre = np.array((5.0, 9.0, 10.0))
        masks = [ball(centre + generator.normal(0, 0.25, 3), generator.uniform(5.2, 5.8)) for _ in people]
        model = ball(centre + generator.normal(0, 0.2, 3), 5.5)
        found = leave_one_rater_out(model, masks, mask_dice)
        hidden = staple(masks)
        pairs.append(pairwise_dice(masks))
        left_out.append(found)
        majorities.append(mask_dice(model, majority(masks)))
        staples.append(mask_dice(model, hidden.consensus))
        skills.append((hidden.sensitivity, hidden.specificity))
        people_scores.append(found.raters)
    patients = [f"p{i}" for i in range(n)]
    upper = np.triu_indices(len(people), 1)
    raters = tuple(
        RaterSkill(
            name=name,
            n_cases=n,
            against_consensus=bootstrap([scores[i] for scores in people_scores], patients, seed=0),
            sensitivity=float(np.mean([s[i] for s, _ in skills])),
            specificity=float(np.mean([s[i] for _, s in skills])),
        )
        for i, name in enumerate(people)
    )
    one = StructureRaters(
        structure=structure,
        metric="dice",
        pairwise=np.mean(pairs, axis=0),
        between_people=bootstrap([p[upper].mean() for p in pairs], patients, seed=0),
        raters=raters,
        model_against_majority=bootstrap(majorities, patients, seed=0),
        model_against_staple=bootstrap(staples, patients, seed=0),
        model_against_left_out=bootstrap([np.mean(found.model) for found in left_out], patients, seed=0),
        verdict=non_inferiority([found.difference for found in left_out], patients, margin=0.03, seed=0),
    )
    return RaterStudy(
        rater_names=tuple(people),
        structures=(one,),
        margin=0.03,
        consensus="majority",
        left_out_cases=(("case_090", "only two people drew it"),),
        seed=0,
    )


def failure_detection(cases, score, noise, population="all"):
    generator = np.random.default_rng(len(score))
    risk = 1 - np.array([mean_or_nan([row.values["dice"] for row in case.rows]) for case in cases])
    doubt = risk + generator.normal(0, noise, len(risk))
    order = np.argsort(doubt)
    n = np.arange(1, len(risk) + 1)
    curve, ideal = np.cumsum(risk[order]) / n, np.cumsum(np.sort(risk)) / n
    return FailureDetection(
        score=score,
        population=population,
        aurc=float(curve.mean()),
        aurc_ideal=float(ideal.mean()),
        aurc_random=float(risk.mean()),
        failure_auroc=0.9,
        failure_below=0.7,
        coverage=n / len(risk),
        risk=curve,
        spearman=float(np.corrcoef(np.argsort(np.argsort(doubt)), np.argsort(np.argsort(risk)))[0, 1]),
        n_cases=len(risk),
    )


def trust_study(cases, label="entropy"):
    generator = np.random.default_rng(3)
    stated = generator.beta(4, 1, 4000)
    true = generator.random(4000) < stated**1.6
    scores = (label, "mean softmax", "fold disagreement")
    shifts = ("another site", "noise, 20 % of the range", "flipped left-right")
    detections = tuple(
        ShiftDetection(
            shift=shift,
            score=score,
            auroc=0.6 + 0.1 * i + 0.08 * j,
            interval=Interval(low=0.52 + 0.1 * i + 0.08 * j, high=min(1.0, 0.68 + 0.1 * i + 0.08 * j)),
            n_ordinary=20,
            n_shifted=20,
        )
        for j, shift in enumerate(shifts)
        for i, score in enumerate(scores)
    )
    return TrustStudy(
        shifts=detections,
        failures=tuple(failure_detection(cases, score, 0.04 + 0.08 * i) for i, score in enumerate(scores)),
        temperature=1.62,
        reliability_before=reliability(stated, true),
        reliability_after=reliability(stated**1.55, true),
        seed=0,
    )


@cache
def plain_evaluation(n=12, **more):
    cases = cohort(n, **more)
    return Evaluation(name="Plain", cases=cases, table=summarise_rows(cases), metrics=METRICS)


@cache
def full_evaluation(text="Abdomen CT"):
    """Every part of an evaluation; ``text`` goes wherever text from outside can go."""
    structures = STRUCTURES if text == "Abdomen CT" else (f"{text} 1", f"{text} 2", f"{text} 3")
    outside = "" if text == "Abdomen CT" else text
    cases = cohort(names=structures, prefix=outside or "case")
    other, third = cohort(names=structures, error=0.55, seed=1), cohort(names=structures, error=0.7, seed=2)
    table = summarise_rows(cases)
    sites = [SITES[i % 4] for i in range(len(cases))]
    sexes = [("F", "M", "F", "M", "F", "not recorded")[i % 6] if i < 24 else "FM"[i % 2] for i in range(len(cases))]
    site_names = [f"{outside}{site}" for site in sites]
    groupings = subgroupings(cases, f"site{outside}", site_names, least=8) + subgroupings(cases, "sex", sexes, least=16)
    declared = (read_threshold(f"{structures[2]}:dice=0.80"), read_threshold(f"{structures[0]}:hd95=1"))
    cited = published_thresholds(structures, modality="CT")
    return Evaluation(
        name=text,
        cases=cases,
        table=table,
        metrics=METRICS,
        failed=(FailedPrediction(case_id=cases[3].case_id, reason=f"the file is truncated {outside}"),),
        without_reference=(f"extra{outside}",),
        resampled=(cases[1].case_id,),
        volumes=agree_on_volumes(cases, seed=0),
        thresholds=judge(table, (*cited, *declared)),
        subgroups=groupings,
        shifts=shifts_of(cases, other, sites),
        comparison=comparison_of({f"Delineate{outside}": cases, f"nnU-Net{outside}": other, "Atlas": third}),
        raters=rater_study(people=tuple(f"{name}{outside}" for name in ("Ana", "Bo", "Chi", "Dev"))),
        trust=trust_study(cases, label=outside or "entropy"),
        notices=(f"lung_nodule: in 4 training cases only{outside}.",),
    )


@cache
def many_structures(n=118, cases=3):
    """A label map of very many small structures, one of them in no case."""
    generator = np.random.default_rng(0)
    reference = np.zeros((4, 48, 60), np.uint8)
    for i in range(n - 1):
        y, x = divmod(i, 15)
        reference[1:3, y * 6 : y * 6 + 4, x * 4 : x * 4 + 3] = i + 1
    made = []
    for i in range(cases):
        prediction = np.where(generator.random(reference.shape) < 0.1 + 0.02 * i, 0, reference).astype(np.uint8)
        names = [f"vertebra_or_organ_with_a_long_name_{k}" for k in range(n)]
        made.append(CaseRows(case_id=f"s{i}", patient_id=f"p{i}", rows=rows_of(prediction, reference, names)))
    volumes = agree_on_volumes(made, seed=0)
    return Evaluation(
        name="Whole body", cases=tuple(made), table=summarise_rows(made), metrics=METRICS, volumes=volumes
    )
