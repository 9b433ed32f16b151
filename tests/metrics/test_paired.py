"""Differences of two models on the same frames, against hand-computed cases and scipy."""

import json
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from jaxau import metrics

AUS = (1, 2, 12)


def two_models(n=3000, subjects=20, seed=0):
    """b is a little better than a; both fail on the same subjects."""
    rng = np.random.default_rng(seed)
    subject = np.arange(n) % subjects
    truth = rng.random((n, len(AUS))) < (0.2, 0.4, 0.6)
    hard = rng.normal(scale=0.8, size=(subjects, len(AUS)))[subject]
    logits = [strength * (truth - 0.5) + hard + rng.normal(size=truth.shape) for strength in (2, 2.4)]
    a, b = (1 / (1 + np.exp(-logit)) for logit in logits)
    return a, b, truth, rng.random(truth.shape) < 0.9, subject


def test_differences_are_those_of_two_scores():
    a, b, truth, mask, subject = two_models()
    found = metrics.paired_difference(a, b, truth, mask, 0.4, [0.5, 0.6, 0.5], subject, AUS, 100)
    scores = [metrics.score(p, truth, mask, t, subject, AUS, 0) for p, t in ((a, 0.4), (b, [0.5, 0.6, 0.5]))]
    for index, row in enumerate(found["per_au"]):
        f1 = [score["per_au"][index]["f1"] for score in scores]
        assert (row["au"], row["f1_a"], row["f1_b"]) == (AUS[index], *f1)
        assert row["difference"] == f1[0] - f1[1]
        assert row["low"] < row["difference"] < row["high"]
    means = [score["mean"]["f1"] for score in scores]
    assert (found["mean"]["f1_a"], found["mean"]["f1_b"]) == pytest.approx(means)
    assert found["mean"]["difference"] == pytest.approx(means[0] - means[1])
    assert (found["mean"]["aus"], found["subjects"], found["interval_note"]) == (3, 20, None)
    json.dumps(found, allow_nan=False)


def test_both_models_get_the_same_draws():
    a, b, truth, mask, subject = two_models()
    same = metrics.paired_difference(a, a, truth, mask, 0.5, 0.5, subject, AUS)
    assert all((row["difference"], row["low"], row["high"]) == (0, 0, 0) for row in same["per_au"])
    assert (same["mean"]["low"], same["mean"]["high"]) == (0, 0)
    assert (same["t_test"]["t"], same["t_test"]["p"], same["t_test"]["n"]) == (None, None, 20)
    # What is hard for both cancels: far narrower than two intervals, and b is found to be better.
    found = metrics.paired_difference(a, b, truth, mask, 0.5, 0.5, subject, AUS)["mean"]
    single = metrics.score(a, truth, mask, 0.5, subject, AUS)["mean"]
    assert found["high"] - found["low"] < 0.5 * (single["f1_high"] - single["f1_low"])
    assert found["high"] < 0
    other = metrics.paired_difference(b, a, truth, mask, 0.5, 0.5, subject, AUS)["mean"]
    assert (other["low"], other["high"]) == pytest.approx((-found["high"], -found["low"]))


def test_the_interval_of_a_difference_is_what_the_binomial_says():
    # 100 subjects of one present frame; a finds all (F1 1), b those m of a draw that are odd: 2m / (m + 100).
    ones, subject = np.ones((100, 1)), np.arange(100)
    found = metrics.paired_difference(
        ones, (subject % 2)[:, None], ones, ones, 0.5, 0.5, subject, [12], bootstrap=20_000
    )["per_au"][0]
    error = scipy.stats.binom(100, 0.5).expect(lambda m: (2 * m / (m + 100) - 2 / 3) ** 2) ** 0.5
    half = 1.984217 * (100 / 99) ** 0.5 * error
    assert (found["low"], found["high"]) == pytest.approx((1 / 3 - half, 1 / 3 + half), abs=2e-3)


def test_the_t_test_pairs_the_mean_f1_of_subjects():
    a, b, truth, mask, subject = two_models()
    truth[subject == 3] = False  # shows nothing: has no F1 and is no pair
    truth[subject == 4, 0] = False  # has a mean over two AUs
    means = []
    for p in (a, b):
        of_model = []
        for one in range(20):
            f1 = []
            for column in range(3):
                use = mask[:, column] & (subject == one)
                if truth[use, column].any():
                    f1.append(sklearn.metrics.f1_score(truth[use, column], p[use, column] >= 0.5))
            if f1:
                of_model.append(np.mean(f1))
        means.append(of_model)
    expected = scipy.stats.ttest_rel(*means)
    found = metrics.paired_difference(a, b, truth, mask, 0.5, 0.5, subject, AUS, bootstrap=10)["t_test"]
    assert (found["t"], found["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found["n"], found["over"]) == (19, "subjects")


def test_an_au_without_positives_has_no_difference():
    a, b, truth, mask, subject = two_models()
    truth[:, 1], mask[:, 2] = False, False
    found = metrics.paired_difference(a, b, truth, mask, 0.5, 0.5, subject, AUS, 50)
    for row in found["per_au"][1:]:
        assert [row[k] for k in ("f1_a", "f1_b", "difference", "low", "high")] == [None] * 5
    assert found["mean"]["aus"] == 1
    assert found["mean"]["difference"] == found["per_au"][0]["difference"]
    nothing = metrics.paired_difference(a, b, truth, mask & False, 0.5, 0.5, subject, AUS, 50)
    assert (nothing["mean"]["difference"], nothing["mean"]["aus"], nothing["t_test"]["n"]) == (None, 0, 0)
    json.dumps([found, nothing], allow_nan=False)


def test_one_subject_has_no_interval_and_no_test_and_few_are_noted():
    a, b, truth, mask, _ = two_models()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.paired_difference(a, b, truth, mask, 0.5, 0.5, np.zeros(len(a)), AUS)
    assert found["mean"]["difference"] is not None and found["mean"]["low"] is None
    assert (found["t_test"]["t"], found["t_test"]["n"]) == (None, 1)
    assert found["interval_note"].startswith("no interval: 1 subject")
    with pytest.warns(UserWarning, match="may be too narrow: 5 subjects"):
        found = metrics.paired_difference(a, b, truth, mask, 0.5, 0.5, np.arange(len(a)) % 5, AUS)
    assert "5 subjects" in found["interval_note"]


def test_bad_predictions_of_either_model_are_refused():
    a, b, truth, mask, subject = two_models()
    mask[0] = True
    b[0, 1] = np.nan
    with pytest.raises(ValueError, match=r"1 are NaN.*AU02: 1"):
        metrics.paired_difference(a, b, truth, mask, 0.5, 0.5, subject, AUS)
    with pytest.raises(ValueError, match="same frames"):
        metrics.paired_difference(a, b[1:], truth, mask, 0.5, 0.5, subject, AUS)


def test_the_interval_of_the_difference_covers_at_its_rate():
    def counts_of(subjects, rng):
        rate = rng.beta(2, 4, subjects)
        positive = rng.binomial(100, rate)
        shift = rng.normal(scale=0.8, size=subjects)
        cells = []
        for better in (0.0, 0.3):
            own = rng.normal(scale=0.3, size=subjects)
            found, false_alarm = scipy.stats.norm.cdf([0.8 + better + shift + own, -0.8 + shift + own])
            tp, fp = rng.binomial(positive, found), rng.binomial(100 - positive, false_alarm)
            cells.append(np.stack([tp, fp, positive - tp, 100 - positive - fp], axis=-1))
        return cells

    def difference(subjects, rng, draws):
        # Frames of a subject are laid out positives first, so that both models have them in one order.
        a, b = (c[:, [0, 2, 1, 3]] for c in counts_of(subjects, rng))
        predictions = []
        for cells in (a, b):
            cell = np.concatenate([np.repeat([0, 2, 1, 3], row) for row in cells])
            predictions.append(np.isin(cell, (0, 1)).astype(float)[:, None])
            truth = np.isin(cell, (0, 2))[:, None]
        subject = np.repeat(np.arange(subjects), 100)
        ones = np.ones_like(truth)
        return metrics.paired_difference(*predictions, truth, ones, 0.5, 0.5, subject, [12], draws)["mean"]

    rng = np.random.default_rng(0)
    expected = difference(5000, rng, 0)["difference"]
    covered = []
    for _ in range(150):
        found = difference(27, rng, 100)
        covered.append(found["low"] <= expected <= found["high"])
    assert 0.9 <= np.mean(covered) <= 0.98
