"""Reports of what a detector leans on, on detectors whose leaning is known."""

import numpy as np
import pytest

from jaxau import metrics

AUS = (1, 2, 12)


def _world(rng, n, together):
    """AU2 comes with AU1, or on its own; AU12 is always on its own."""
    one = rng.random(n) < 0.4
    two = np.where(rng.random(n) < 0.95, one, ~one) if together else rng.random(n) < 0.4
    return np.stack([one, two, rng.random(n) < 0.4], 1)


def _score(probability, truth):
    n = len(truth)
    return metrics.score(probability, truth, np.ones_like(truth), 0.5, np.arange(n) % 20, AUS)


def test_the_drop_finds_the_au_that_is_read_from_another():
    rng = np.random.default_rng(0)
    usual, independent = _world(rng, 4000, True), _world(rng, 4000, False)

    def detect(truth):  # AU2 is never looked at: it is guessed from AU1
        return np.stack([truth[:, 0], truth[:, 0], truth[:, 2]], 1) * 0.8 + 0.1

    report = metrics.shortcut_drop(
        _score(detect(usual), usual), _score(detect(independent), independent), AUS
    )
    drops = {row["au"]: row for row in report["per_au"]}
    assert drops[1]["skew_f1"] == drops[12]["skew_f1"] == 0
    assert drops[2]["skew_f1"] > 0.35 and drops[2]["auc"] > 0.35
    assert report["mean"] == pytest.approx(drops[2]["skew_f1"] / 3) and report["aus"] == [1, 2, 12]


def test_a_fair_detector_does_not_drop():
    rng = np.random.default_rng(1)
    worlds = [_world(rng, 20_000, together) for together in (True, False)]
    scores = [
        _score(np.clip(0.5 + 0.25 * (2 * w - 1) + rng.normal(0, 0.25, w.shape), 0, 1), w) for w in worlds
    ]
    assert abs(metrics.shortcut_drop(*scores, AUS)["mean"]) < 0.02


def test_what_is_undefined_stays_out_of_the_drop():
    rng = np.random.default_rng(2)
    usual, independent = _world(rng, 500, True), _world(rng, 500, False)
    independent[:, 2] = False
    report = metrics.shortcut_drop(_score(usual * 1.0, usual), _score(independent * 1.0, independent), AUS)
    assert report["aus"] == [1, 2] and report["per_au"][2]["f1"] is None and report["mean"] == 0


def test_groups_are_scored_apart_and_the_worst_is_named():
    rng = np.random.default_rng(3)
    n = 9000
    truth = _world(rng, n, False)
    tone = np.array(["light", "medium", "dark"])[np.arange(n) % 3]
    noise = np.where(tone == "dark", 0.9, 0.2)[:, None]
    probability = np.clip(0.5 + 0.4 * (2 * truth - 1) + noise * rng.normal(0, 1, truth.shape), 0, 1)
    subject = np.arange(n) % 30
    report = metrics.scores_by_group(probability, truth, np.ones_like(truth), 0.5, subject, AUS, tone)
    assert report["worst"] == "dark" and report["gap"] > 0.2
    assert {name: group["frames"] for name, group in report["groups"].items()} == dict.fromkeys(
        ("dark", "light", "medium"), 3000
    )
    rows = tone == "dark"
    alone = metrics.score(probability[rows], truth[rows], np.ones((3000, 3)), 0.5, subject[rows], AUS)
    assert report["groups"]["dark"]["mean"] == alone["mean"]


def test_groups_of_different_base_rates_have_no_gap_of_their_own():
    """F1 follows the base rate; the skew-normalised F1, by which groups are compared, does not."""
    rng = np.random.default_rng(4)
    group = np.repeat(["often", "seldom"], 30_000)
    truth = rng.random((60_000, 3)) < np.where(group == "often", 0.5, 0.1)[:, None]
    probability = np.clip(0.5 + 0.25 * (2 * truth - 1) + rng.normal(0, 0.25, truth.shape), 0, 1)
    report = metrics.scores_by_group(
        probability, truth, np.ones_like(truth), 0.5, np.arange(60_000) % 30, AUS, group
    )
    assert abs(report["gap"]) < 0.02
    f1 = {name: found["mean"]["f1"] for name, found in report["groups"].items()}
    assert f1["often"] > f1["seldom"] + 0.1


def test_one_group_has_no_gap_and_groups_must_fit():
    truth = np.array([[1, 0, 1], [0, 1, 0]] * 10)
    arguments = (truth * 1.0, truth, np.ones_like(truth), 0.5, np.arange(20) % 4, AUS)
    report = metrics.scores_by_group(*arguments, ["yes"] * 20)
    assert report["gap"] is None and report["worst"] is None
    with pytest.raises(ValueError, match="one name for each of 20 frames"):
        metrics.scores_by_group(*arguments, ["yes"] * 19)


def test_pose_bins():
    yaw = [0, -9.9, 10, -24, 25, 80]
    expected = ["frontal", "frontal", "turned", "turned", "far turned", "far turned"]
    assert metrics.pose_bins(yaw).tolist() == expected
    with pytest.raises(ValueError, match="-180 to 180"):
        metrics.pose_bins([np.nan])
