"""Reference statistics, behaviours and assessments on disk: round trips, and files that are wrong."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from test_model_package import package as example

from delineate.errors import ImageReadError, ModelError, PlanError
from delineate.formats.assessment_files import (
    read_assessment,
    worst_first,
    write_assessment,
    write_quality_table,
)
from delineate.formats.behaviour_file import RecordedBehaviour, read_behaviour, write_behaviour
from delineate.formats.model_package import TRUST, read_package, write_package
from delineate.formats.trust_json import trust_from_json, trust_to_json
from delineate.geometry.grid import Grid
from delineate.metrics.trust import (
    Agreement,
    Assessment,
    Behaviour,
    HonestCase,
    Observation,
    Population,
    TrustScore,
    Uncertainty,
    assess_case,
    fit_reference,
    image_statistics,
    measure_shapes,
)


def observation(seed):
    rng = np.random.default_rng(seed)
    grid = Grid.regular((8, 12, 10), (2.0, 1.0, 1.0))
    image = rng.normal(100, 20 + seed % 3, (1, *grid.shape))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:6, 3:9, 2 : 7 + seed % 2] = 1
    labels[2:6, 3:9, 8:] = 2
    statistics = image_statistics(image, grid)
    shapes = measure_shapes(labels, grid, (("whole", (1, 2)), ("core", (2,))))
    quality = rng.uniform(0.7, 0.95)
    behaviour = Behaviour(
        agreement=Agreement(flips=(quality, math.nan), folds=(math.nan, math.nan)),
        uncertainty=Uncertainty(expected_dice=(quality, quality), boundary_entropy=1 - quality, confidence=quality),
        features={"0": tuple(rng.standard_normal(n).astype(np.float32) for n in (6, 12))},
    )
    return Observation(behaviour=behaviour, image=statistics, shapes=shapes), quality


def reference(n=20):
    found = [observation(i) for i in range(n)]
    rng = np.random.default_rng(9)
    cases = [
        HonestCase(
            observation=o,
            dice=q - 0.05,
            logits=rng.standard_normal((30, 2)).astype(np.float32),
            truths=rng.integers(0, 2, (30, 2)),
        )
        for o, q in found
    ]
    return fit_reference(
        [Population(image=o.image, shapes=o.shapes) for o, _ in found], cases, origin="held out", regions=True
    )


@pytest.fixture(scope="module")
def trust():
    return reference()


def test_a_package_carries_what_is_ordinary(tmp_path, trust):
    written = write_package(tmp_path / "model", replace(example(), trust=trust))
    found = read_package(tmp_path / "model")
    assert found.trust is not None
    new, _ = observation(77)
    before, after = (assess_case(new, t, case_id="x") for t in (trust, found.trust))
    assert after.quality == pytest.approx(before.quality, rel=1e-3)
    assert after.outlier == pytest.approx(before.outlier, rel=1e-3)
    assert after.reasons == before.reasons
    assert found.trust.temperature == pytest.approx(trust.temperature, rel=1e-5)
    assert len(trust.temperature) == 2
    bare = write_package(tmp_path / "bare", example())
    assert bare.network_identity == written.network_identity
    assert bare.identity != written.identity
    assert read_package(tmp_path / "bare").trust is None


def test_a_zip_carries_it_too(tmp_path, trust):
    write_package(tmp_path / "model.zip", replace(example(), trust=trust))
    assert read_package(tmp_path / "model.zip").trust is not None


def test_writing_what_was_read_changes_nothing(trust):
    text = trust_to_json(trust)
    assert trust_to_json(trust_from_json(text, source="x")) == text


@pytest.mark.parametrize("damage", [lambda t: t[:-20], lambda t: t.replace(b"0.", b"1.", 1)])
def test_damaged_statistics_are_refused(tmp_path, trust, damage):
    write_package(tmp_path / "model", replace(example(), trust=trust))
    file = tmp_path / "model" / TRUST
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match=r"trust\.json"):
        read_package(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(format_version=2),
        lambda c: c.update(origin="somewhere"),
        lambda c: c.update(temperature=[0]),
        lambda c: c["quality"].update(weights=[1]),
        lambda c: c["image"].update(axes=[[1, 2]]),
        lambda c: c["image"].update(rest=-1),
        lambda c: c["structures"][0]["log_volume"].update(std=0),
        lambda c: c.pop("ordinary"),
    ],
)
def test_wrong_statistics_are_refused(trust, change):
    content = json.loads(trust_to_json(trust))
    change(content)
    with pytest.raises(PlanError):
        trust_from_json(json.dumps(content), source="x")


def test_no_json_is_refused():
    with pytest.raises(PlanError, match="no JSON"):
        trust_from_json("{", source="x")


def test_behaviours_come_back(tmp_path):
    new, _ = observation(3)
    recorded = RecordedBehaviour(
        behaviour=new.behaviour, logits=np.ones((4, 2), np.float32), truths=np.array([0, 1, 1, 0])
    )
    write_behaviour(tmp_path / "a.npz", recorded)
    found = read_behaviour(tmp_path / "a.npz")
    for one, other in zip(found.behaviour.features["0"], new.behaviour.features["0"], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.behaviour.uncertainty == new.behaviour.uncertainty
    assert math.isnan(found.behaviour.agreement.flips[1])
    np.testing.assert_array_equal(found.truths, recorded.truths)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:50])
    with pytest.raises(ImageReadError, match="Remove it"):
        read_behaviour(tmp_path / "a.npz")


def assessment(case_id, quality, *reasons):
    return Assessment(
        case_id=case_id,
        verdict="review with care" if reasons else "nothing unusual",
        quality=quality,
        quality_error=0.02,
        outlier=math.nan,
        scores=(TrustScore(name="doubt", value=0.1, rarity=math.nan),),
        reasons=reasons,
    )


def test_assessments_come_back_and_the_worst_is_first(tmp_path):
    given = [assessment("good", 0.5), assessment("bad", 0.7, "too large", "too bright"), assessment("worse", 0.6, "a")]
    for one in given:
        write_assessment(tmp_path, one)
    found = [read_assessment(tmp_path, one.case_id) for one in given]
    assert [f.words for f in found] == [g.words for g in given]
    assert [a.case_id for a in worst_first(found)] == ["worse", "bad", "good"]
    rows = write_quality_table(tmp_path, found).read_text().splitlines()
    assert rows[0] == "case_id,verdict,expected_dice,outlier,doubt,reasons"
    assert rows[2] == "bad,review with care,0.7,,0.1,too large; too bright"
    (tmp_path / "assessment" / "bad.json").write_text("[]")
    with pytest.raises(ImageReadError, match="--overwrite"):
        read_assessment(tmp_path, "bad")
