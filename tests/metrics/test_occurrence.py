"""Metrics against scikit-learn, against hand-computed cases, and their answers to degenerate folds."""

import json
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from jaxau import facs, metrics

AUS = (1, 2, 4, 12)


def frames(n=2000, subjects=20, aus=AUS, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random((n, len(aus))) < np.linspace(0.1, 0.7, len(aus))
    probability = np.clip(0.35 * truth + 0.65 * rng.random(truth.shape), 0, 1)
    return probability, truth.astype(int), rng.random(truth.shape) < 0.8, np.arange(n) % subjects


@pytest.mark.parametrize("seed", range(30))
def test_equal_to_scikit_learn_on_random_masks(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 3000))  # small ones leave AUs without a class
    probability, truth, mask, subject = frames(n, seed=seed)
    if seed % 2:
        probability = np.round(probability, 1 + seed % 3)  # ties, also at the thresholds
    thresholds = np.round(rng.uniform(0.1, 0.9, 4), 1)
    result = metrics.score(probability, truth, mask, thresholds, subject, AUS, bootstrap=10)
    defined = {name: [] for name in metrics.METRICS}
    for column, row in enumerate(result["per_au"]):
        coded = mask[:, column]
        expected, p = truth[coded, column], probability[coded, column]
        predicted = p >= thresholds[column]
        positives, found, coded = expected.sum(), predicted.sum(), len(expected)
        both = 0 < positives < coded
        # Each frame weighs so much that both classes weigh the same: Jeni's balanced set.
        balanced = np.where(expected, 1 / max(positives, 1), 1 / max(coded - positives, 1))
        for key, function, given, options, has_value in (
            ("f1", sklearn.metrics.f1_score, predicted, {}, positives > 0),
            ("precision", sklearn.metrics.precision_score, predicted, {}, found > 0),
            ("recall", sklearn.metrics.recall_score, predicted, {}, positives > 0),
            ("accuracy", sklearn.metrics.accuracy_score, predicted, {}, coded > 0),
            ("auc", sklearn.metrics.roc_auc_score, p, {}, both),
            ("average_precision", sklearn.metrics.average_precision_score, p, {}, positives > 0),
            ("mcc", sklearn.metrics.matthews_corrcoef, predicted, {}, both and 0 < found < coded),
            ("skew_f1", sklearn.metrics.f1_score, predicted, {"sample_weight": balanced}, both),
        ):
            if has_value:
                assert row[key] == pytest.approx(function(expected, given, **options), abs=1e-6), key
                defined[key].append(row[key])
            else:
                assert row[key] is None, key
        assert (row["coded"], row["positives"]) == (coded, positives)
        assert row["base_rate"] == pytest.approx(expected.mean())
        assert row["threshold"] == thresholds[column]
    for key in metrics.METRICS[:-1]:  # tests/metrics/test_calibration.py has the last
        assert result["mean"][key] == (pytest.approx(np.mean(defined[key])) if defined[key] else None)
    for key, counted in metrics.AU_COUNTS.items():
        assert result["mean"][key] == len(defined[counted])
    json.dumps(result, allow_nan=False)


def test_a_probability_equal_to_the_threshold_counts_as_present():
    result = metrics.score([[0.5], [0.4]], [[1], [0]], [[1], [1]], 0.5, [1, 2], [12], bootstrap=0)
    assert result["per_au"][0]["f1"] == 1


def test_values_under_a_false_mask_do_not_matter():
    probability, truth, mask, subject = frames()
    clean = metrics.score(probability, truth, mask, 0.5, subject, AUS, bootstrap=50)
    probability = np.where(mask, probability, np.resize([np.nan, 7.0, -np.inf], mask.shape))
    truth = np.where(mask, truth, -999)
    assert metrics.score(probability, truth, mask, 0.5, subject, AUS, bootstrap=50) == clean
    padded = [np.concatenate([x, np.zeros_like(x[:40])]) for x in (probability, truth, mask)]
    subjects = np.concatenate([subject, np.full(40, -1)])  # padding is nobody to draw
    assert metrics.score(*padded, 0.5, subjects, AUS, bootstrap=50) == clean
    thresholds = metrics.best_thresholds(*frames()[:3])
    np.testing.assert_array_equal(metrics.best_thresholds(probability, truth, mask).value, thresholds.value)


def test_counts_merged_over_batches_and_subjects_equal_one_pass():
    probability, truth, mask, subject = frames(n=997, subjects=7)
    truth = truth.astype(bool)
    _, whole = metrics.subject_counts(probability, truth, mask, 0.5, subject)
    merged = np.zeros_like(whole)
    for start in range(0, 997, 100):
        part = slice(start, start + 100)
        names, counts = metrics.subject_counts(probability[part], truth[part], mask[part], 0.5, subject[part])
        merged[names] += counts
    np.testing.assert_array_equal(merged, whole)
    everyone = metrics.subject_counts(probability, truth, mask, 0.5, np.zeros(997))[1]
    np.testing.assert_array_equal(whole.sum(axis=0), everyone[0])
    np.testing.assert_array_equal(whole.sum(axis=(0, 2)), mask.sum(axis=0))


def test_bootstrap_of_two_subjects_is_what_a_hand_computes():
    # Subject a: one hit, F1 1. Subject b: one miss and two false alarms, F1 0. Draws: aa (1/4) 1,
    # bb (1/4) 0, ab (1/2) 2*1 / (2*1 + 2 + 1) = .4; the 2.5 and 97.5 percentiles are 0 and 1.
    probability = [[0.9], [0.1], [0.9], [0.9]]
    truth, subject = [[1], [1], [0], [0]], ["a", "b", "b", "b"]
    with pytest.warns(UserWarning, match="may be too narrow: 2 subjects"):
        result = metrics.score(probability, truth, np.ones((4, 1)), 0.5, subject, [12])
    row = result["per_au"][0]
    assert row["f1"] == pytest.approx(0.4)
    assert (row["f1_low"], row["f1_high"]) == (0, 1)
    assert "too narrow" in result["interval_note"]
    # Twenty subjects of one perfect frame each: every draw scores 1.
    ones = np.ones((20, 1))
    row = metrics.score(ones, ones, ones, 0.5, np.arange(20), [12])["per_au"][0]
    assert (row["f1_low"], row["f1_high"]) == (1, 1)


def test_the_interval_is_the_95_percent_one():
    # 100 subjects of one present frame, half of them found: the number found in a draw is binomial.
    subject = np.arange(100)
    found, ones = (subject % 2)[:, None], np.ones((100, 1))
    row = metrics.score(found, ones, ones, 0.5, subject, [12], bootstrap=20_000)["per_au"][0]
    error = scipy.stats.binom(100, 0.5).expect(lambda m: (2 * m / (m + 100) - 2 / 3) ** 2) ** 0.5
    half = 1.984217 * (100 / 99) ** 0.5 * error  # Student's t with 99 degrees of freedom, from a table
    assert row["f1_low"] == pytest.approx(2 / 3 - half, abs=2e-3)
    assert row["f1_high"] == pytest.approx(2 / 3 + half, abs=2e-3)


def test_draws_without_a_positive_of_an_au_leave_its_interval_and_their_mean():
    # AU2 occurs in one or two of 20 subjects (found) and has a false alarm in each other subject, so that
    # its F1 is 2m / (m + 20) for m > 0 copies of them; m = 0 must not add zeros.
    subject, ones = np.arange(20), np.ones((20, 2))
    for showing in (1, 2):
        truth = np.stack([np.ones(20), subject < showing], axis=1)
        result = metrics.score(ones, truth, ones, 0.5, subject, (1, 2), bootstrap=20_000)
        copies = np.arange(1, 21)
        chance = scipy.stats.binom.pmf(copies, 20, showing / 20)
        f1 = 2 * copies / (copies + 20)
        mean = np.average(f1, weights=chance)
        error = np.average((f1 - mean) ** 2, weights=chance) ** 0.5
        row = result["per_au"][1]
        if showing == 1:  # what one subject shows says nothing of others
            assert row["f1"] is not None and row["f1_low"] is row["f1_high"] is None
        else:  # 12.706: Student's t with 1 degree of freedom, as two subjects show it
            assert error * 12.706 * 2**0.5 > 1 and (row["f1_low"], row["f1_high"]) == (0, 1)
        # Mean of an F1 that is always 1 and this one; it is 1 in the draws without a positive of AU2.
        copies = np.arange(21)
        chance = scipy.stats.binom.pmf(copies, 20, showing / 20)
        both = np.where(copies > 0, (1 + 2 * copies / (copies + 20)) / 2, 1)
        error = np.average((both - np.average(both, weights=chance)) ** 2, weights=chance) ** 0.5
        half = 2.093024 * (20 / 19) ** 0.5 * error  # 19 degrees of freedom
        expected = (1 + 2 * showing / (showing + 20)) / 2
        assert result["mean"]["f1_low"] == pytest.approx(expected - half, abs=0.01)
    mask = np.stack([np.ones(20), subject == 0], axis=1)  # now coded in that one subject only
    row = metrics.score(ones, truth, mask, 0.5, subject, (1, 2))["per_au"][1]
    assert (row["f1"], row["f1_low"], row["subjects"]) == (1, None, 1)


def test_the_interval_of_the_mean_is_over_per_draw_means():
    # On AU1 the even subjects are right and on AU2 the odd ones, so that the two F1 move against
    # each other from draw to draw and their mean hardly moves.
    subject = np.arange(40)
    truth, mask = np.ones((40, 2)), np.ones((40, 2))
    probability = np.stack([subject % 2 == 0, subject % 2 == 1], axis=1).astype(float)
    result = metrics.score(probability, truth, mask, 0.5, subject, (1, 2))
    width = [row["f1_high"] - row["f1_low"] for row in result["per_au"]]
    assert result["mean"]["f1_high"] - result["mean"]["f1_low"] < 0.3 * min(width)
    assert result["mean"]["f1"] == pytest.approx(2 / 3)


def test_every_mean_has_the_interval_of_its_per_draw_means():
    probability, truth, mask, subject = frames(n=1500)
    mean = metrics.score(probability, truth, mask, 0.5, subject, AUS, bootstrap=200, seed=3)["mean"]
    draws = {name: [] for name in metrics.METRICS}
    for weights in np.random.default_rng(3).multinomial(20, np.full(20, 0.05), size=200):
        drawn = np.concatenate([np.tile(np.flatnonzero(subject == s), w) for s, w in enumerate(weights)])
        arrays = (probability[drawn], truth[drawn], mask[drawn], 0.5, subject[drawn], AUS)
        for name, value in metrics.score(*arrays, bootstrap=0)["mean"].items():
            if name in draws:
                draws[name].append(value)
    for name, values in draws.items():
        half = 2.093024 * (20 / 19) ** 0.5 * np.std(values, ddof=1)  # Student's t with 19 degrees of freedom
        assert mean[f"{name}_low"] == pytest.approx(mean[name] - half, abs=1e-4), name
        assert mean[f"{name}_high"] == pytest.approx(mean[name] + half, abs=1e-4), name


def test_the_same_seed_draws_the_same_subjects():
    data = frames()
    first, again, other = (
        metrics.score(*data[:3], 0.5, data[3], AUS, bootstrap=100, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_an_au_without_positives_has_no_f1_and_no_auc_and_is_named():
    probability, truth, mask, subject = frames()
    truth[:, 1] = 0
    result = metrics.score(probability, truth, mask, 0.5, subject, AUS, bootstrap=20)
    row = result["per_au"][1]
    undefined = ("f1", "f1_low", "f1_high", "recall", "auc", "average_precision", "mcc", "skew_f1")
    assert [row[key] for key in undefined] == [None] * 8
    assert (row["precision"], row["base_rate"], row["positives"]) == (0, 0, 0)
    assert 0 < row["accuracy"] < 1
    assert (result["mean"]["aus"], result["mean"]["undefined"]) == (3, [2])
    rest = [r["f1"] for r in result["per_au"] if r["au"] != 2]
    assert result["mean"]["f1"] == pytest.approx(np.mean(rest))


def test_an_au_that_is_always_positive_has_an_f1_but_no_auc():
    probability, truth, mask, subject = frames()
    truth[:, 3] = 1
    result = metrics.score(probability, truth, mask, 0.5, subject, AUS, bootstrap=20)
    row, mean = result["per_au"][3], result["mean"]
    assert row["auc"] is row["mcc"] is row["skew_f1"] is None and row["f1"] > 0.5
    assert (row["base_rate"], row["average_precision"]) == (1, 1)
    assert [mean[key] for key in ("aus", "auc_aus", "mcc_aus", "accuracy_aus")] == [4, 3, 3, 4]


def test_nothing_predicted_present_gives_no_precision_but_an_f1_of_zero():
    probability, truth, mask, subject = frames()
    result = metrics.score(probability * 0, truth, mask, 0.5, subject, AUS)
    row, mean = result["per_au"][0], result["mean"]
    assert (row["precision"], row["mcc"], row["recall"], row["f1"], row["skew_f1"]) == (None, None, 0, 0, 0)
    assert [mean[key] for key in ("aus", "precision_aus", "mcc_aus", "auc_aus")] == [4, 0, 0, 4]
    assert mean["precision"] is mean["precision_low"] is mean["mcc"] is mean["mcc_low"] is None


def test_a_masked_au_is_undefined_and_a_fold_without_labels_too():
    probability, truth, mask, subject = frames()
    mask[:, 0] = False
    result = metrics.score(probability, truth, mask, 0.5, subject, AUS, bootstrap=20)
    row = result["per_au"][0]
    assert row["coded"] == row["positives"] == row["subjects"] == 0
    assert all(row[key] is None for key in (*metrics.METRICS, "base_rate"))
    assert result["mean"]["undefined"] == [1]
    nothing = metrics.score(probability, truth, mask & False, 0.5, subject, AUS)["mean"]
    assert all(nothing[key] is nothing[f"{key}_low"] is None for key in metrics.METRICS)
    assert all(nothing[key] == 0 for key in metrics.AU_COUNTS) and nothing["undefined"] == list(AUS)


def test_one_subject_has_no_interval_and_says_so():
    probability, truth, mask, _ = frames()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = metrics.score(probability, truth, mask, 0.5, np.zeros(len(truth)), AUS)
    assert result["interval_note"].startswith("no interval: 1 subject")
    assert all(row["f1_low"] is None and row["f1"] is not None for row in result["per_au"])
    assert all(result["mean"][f"{key}_low"] is None for key in metrics.METRICS)


def test_probabilities_that_are_none_are_refused_by_count_and_au():
    probability, truth, mask, subject = frames()
    mask[:3] = True
    probability[0, 1] = probability[1, 1] = np.nan
    probability[2, 3] = 1.2
    with pytest.raises(ValueError, match=r"3 of \d+ .*2 are NaN.*AU02: 2, AU12: 1.*sigmoid"):
        metrics.score(probability, truth, mask, 0.5, subject, AUS)
    with pytest.raises(ValueError, match="column 1: 2"):
        metrics.best_thresholds(probability, truth, mask)


def test_labels_that_are_intensities_are_refused():
    probability, truth, mask, subject = frames()
    mask[0] = True
    truth[0, 0] = 4
    with pytest.raises(ValueError, match=r"1 of \d+ labels .*AU01: 1.*occurrence"):
        metrics.score(probability, truth, mask, 0.5, subject, AUS)


def test_inputs_of_different_lengths_are_refused():
    probability, truth, mask, subject = frames()
    with pytest.raises(ValueError, match=r"truth \(1999, 4\)"):
        metrics.score(probability, truth[1:], mask, 0.5, subject, AUS)
    with pytest.raises(ValueError, match=r"subject has shape \(1999,\)"):
        metrics.score(probability, truth, mask, 0.5, subject[1:], AUS)
    with pytest.raises(ValueError, match="4 columns for 3 AUs"):
        metrics.score(probability, truth, mask, 0.5, subject, AUS[:3])
    with pytest.raises(ValueError, match=r"threshold of shape \(3,\)"):
        metrics.score(probability, truth, mask, [0.5] * 3, subject, AUS)
    with pytest.raises(ValueError, match="threshold 1.5"):
        metrics.score(probability, truth, mask, 1.5, subject, AUS)


def test_the_bp4d_mean_appears_only_beside_more_aus():
    bp4d = facs.CORPUS_AUS["bp4d"]
    for aus, expected in ((bp4d, False), ((*bp4d, 25), True), (facs.CORPUS_AUS["disfa"], False)):
        probability, truth, mask, subject = frames(aus=aus)
        result = metrics.score(probability, truth, mask, 0.5, subject, aus, bootstrap=50)
        assert ("bp4d_mean" in result) == expected
        if expected:
            alone = metrics.score(
                probability[:, :12], truth[:, :12], mask[:, :12], 0.5, subject, bp4d, bootstrap=50
            )
            assert result["bp4d_mean"].pop("undefined") == alone["mean"].pop("undefined") == []
            assert result["bp4d_mean"] == pytest.approx(alone["mean"])


def test_always_on_has_the_f1_of_its_base_rate():
    _, truth, mask, subject = frames()
    for row in metrics.always_on(truth, mask, subject, AUS)["per_au"]:
        rate = row["base_rate"]
        assert row["f1"] == pytest.approx(2 * rate / (1 + rate))
        assert (row["accuracy"], row["auc"]) == (pytest.approx(rate), 0.5)


def test_best_thresholds_find_the_shifted_optimum_and_beat_a_half():
    rng = np.random.default_rng(0)
    truth = (rng.random((4000, 3)) < 0.2).astype(int)
    logit = 2.5 * truth - 1.25 + rng.normal(size=truth.shape) + np.array([-2.0, 0.0, 2.0])
    probability = 1 / (1 + np.exp(-logit))
    mask = np.ones_like(truth)
    value, kept = metrics.best_thresholds(probability, truth, mask)
    assert not kept.any() and (np.diff(value) > 0.2).all()
    half, best = (
        metrics.score(probability, truth, mask, t, np.arange(4000) % 20, AUS[:3], 0)["mean"]["f1"]
        for t in (0.5, value)
    )
    assert best > half + 0.1


def test_best_thresholds_ignore_a_lone_spike():
    # A broad optimum around .5 and one frame group that makes F1 jump in a sliver at .9.
    rng = np.random.default_rng(0)
    positive = np.concatenate([rng.uniform(0.45, 0.88, 60), np.full(75, 0.905)])
    negative = np.concatenate([rng.uniform(0.05, 0.5, 200), np.full(120, 0.895)])
    probability = np.concatenate([positive, negative])[:, None]
    truth = (np.arange(len(probability)) < len(positive))[:, None]
    value, _ = metrics.best_thresholds(probability, truth, np.ones_like(truth))
    assert 0.35 < value[0] < 0.6


def test_best_thresholds_keep_a_half_where_there_is_too_little_or_no_difference():
    probability, truth, mask, _ = frames()
    truth[:, 0] = 0
    truth[np.flatnonzero(mask[:, 0])[:29], 0] = 1  # one fewer than the least number
    truth[:, 1] = 1
    mask[:, 2] = False
    probability[:, 3] = np.where(truth[:, 3], 0.99, 0.01)  # any threshold between is as good
    value, kept = metrics.best_thresholds(probability, truth, mask)
    assert kept.tolist() == [True, True, True, False]
    np.testing.assert_allclose(value, 0.5)
    assert not metrics.best_thresholds(probability, truth, mask, minimum_frames=29).kept[0]
