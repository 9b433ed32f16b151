"""Gate 10: what a reader that learned where AUs occur together loses where each comes on its own.

The reader knows the exact landmarks, so nothing has to be drawn. Every AU must be visible itself: one that is
only in the labels is read from its company, and that company is gone in the profile "factorial".
"""

from typing import Any

import numpy as np
import pytest
from exact_landmarks import exact_landmarks

from data_pipelines.synthetic import Person, SynthConfig, SynthFaces
from data_pipelines.synthetic.ladder import AUS, Samples, landmarks, linear
from jaxau import metrics
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Floats

pytestmark = pytest.mark.filterwarnings("ignore:interval may be too narrow")

LEARNED = 24  # people of the profile "balanced" that the reader learns from; 12 others test it
UNSEEN = 1000  # added to the numbers of the people who test it in "factorial"


def _read() -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """``metrics.shortcut_drop`` and the scores of each AU in "factorial", of a new data set."""
    usual = exact_landmarks(SynthConfig(subjects=LEARNED + 12, clips=2))
    alone = exact_landmarks(SynthConfig(profile="factorial", seed=100, clips=1, subjects=24))
    parts = zip(usual, alone._replace(subject=alone.subject + UNSEEN), strict=True)
    both = Samples(*(np.concatenate(pair) for pair in parts))
    test = both.subject >= LEARNED
    probability = linear(landmarks(both), both.occurs, test, 0.1)
    truth, subject = both.occurs[test], both.subject[test]
    scores = [
        metrics.score(probability[rows], truth[rows], np.ones_like(truth[rows]), 0.5, subject[rows], AUS)
        for rows in (subject < UNSEEN, subject >= UNSEEN)
    ]
    return metrics.shortcut_drop(*scores, AUS), {row["au"]: row for row in scores[1]["per_au"]}


def _drop(report: dict[str, Any]) -> dict[int, float]:
    return {row["au"]: row["skew_f1"] for row in report["per_au"]}


def passes(drop: dict[str, Any], alone: dict[int, dict[str, Any]]) -> bool:
    """Gate 10: each AU is read where it comes alone, and none leans on the rest more than AU12 does."""
    return min(row["auc"] for row in alone.values()) > 0.63 and max(_drop(drop).values()) < 0.38


@pytest.fixture(scope="module")
def intact() -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    return _read()


def test_each_au_is_read_where_it_comes_alone(intact) -> None:
    drop, alone = intact
    print(f"synthetic skew-normalised F1 lost in factorial: {drop['mean']:.2f} in the mean, {_drop(drop)}")
    assert passes(drop, alone)
    assert 0.05 < drop["mean"] < 0.2  # readers do lean on what occurs together


def test_an_au_that_is_only_in_the_labels_does_not_pass(intact, monkeypatch: pytest.MonkeyPatch) -> None:
    """AU2 moves nothing: where AU1 brings it along it is still read, above half of what it was."""
    weights = Person.weights

    def without(person: Person, drive: Floats, scale: str = "linear") -> Floats:
        applied = weights(person, drive, scale)
        applied[..., SYNTHETIC_AUS.index(2)] = 0
        return applied

    monkeypatch.setattr(Person, "weights", without)
    drop, alone = _read()
    usual = alone[2]["auc"] + next(row["auc"] for row in drop["per_au"] if row["au"] == 2)
    assert not passes(drop, alone)
    assert usual > 0.75 and alone[2]["auc"] < 0.6
    assert _drop(drop)[2] > _drop(intact[0])[2] + 0.08


def test_nods_that_go_with_smiles_do_not_pass(intact, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one profile people nod with AU12, as if all had been filmed while they agreed."""
    make = SynthFaces._clip

    def nodding(drawn: SynthFaces, subject: int, clip: int) -> Any:
        is_new = (subject, clip) not in drawn._clips
        state = make(drawn, subject, clip)
        if is_new and drawn.config.profile == "balanced":
            state.moments.poses[:, 1] += 8 * state.labels[:, SYNTHETIC_AUS.index(12)]
        return state

    monkeypatch.setattr(SynthFaces, "_clip", nodding)
    drop, alone = _read()
    assert not passes(drop, alone)
    assert _drop(drop)[12] > _drop(intact[0])[12] + 0.08
