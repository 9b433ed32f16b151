"""Reliability against scikit-learn's calibration curve and against hand-computed bins."""

import warnings

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from jaxau import metrics


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_equal_to_scikit_learns_calibration_curve(bins):
    rng = np.random.default_rng(bins)
    probability = np.round(rng.beta(0.5, 0.5, (3000, 3)), 2)  # many at 0, 1 and on the edges of bins
    truth = rng.random(probability.shape) < probability**1.5
    mask = rng.random(probability.shape) < 0.7
    found = metrics.reliability(probability, truth, mask, bins)
    np.testing.assert_allclose(found.edges, np.arange(bins + 1) / bins)
    for column in range(3):
        coded = mask[:, column]
        p, present = probability[coded, column], truth[coded, column]
        observed, predicted = calibration_curve(present, p, n_bins=bins)
        held = found.frames[column] > 0
        np.testing.assert_allclose(found.observed[column, held], observed, atol=1e-12)
        np.testing.assert_allclose(found.probability[column, held], predicted, atol=1e-12)
        assert np.isnan(found.observed[column, ~held]).all()
        assert found.frames[column].sum() == coded.sum()
        expected = np.average(np.abs(observed - predicted), weights=found.frames[column, held])
        assert found.error[column] == pytest.approx(expected, abs=1e-12)


def test_two_bins_by_hand():
    # (0, .5]: .2 and .4, one of two present, gap |.3 - .5|; (.5, 1]: .9, present, gap .1.
    probability = np.array([[0.2], [0.4], [0.9], [0.7]])
    truth, mask = [[0], [1], [1], [0]], [[1], [1], [1], [0]]
    found = metrics.reliability(probability, truth, mask, 2)
    assert found.frames.tolist() == [[2, 1]]
    np.testing.assert_allclose(found.probability, [[0.3, 0.9]])
    np.testing.assert_allclose(found.observed, [[0.5, 1.0]])
    assert found.error[0] == pytest.approx((2 * 0.2 + 0.1) / 3)


def test_what_an_error_says():
    rng = np.random.default_rng(0)
    probability = rng.random((40_000, 3))
    truth = rng.random(probability.shape) < probability
    confident = np.where(probability > 0.5, 0.99, 0.01)  # right three times in four
    ones = np.ones(probability.shape)
    assert (metrics.reliability(probability, truth, ones).error < 0.02).all()
    np.testing.assert_allclose(metrics.reliability(confident, truth, ones).error, 0.24, atol=0.02)
    np.testing.assert_allclose(metrics.reliability(ones, truth, ones).error, 1 - truth.mean(axis=0))


def test_an_au_that_is_not_coded_has_no_error():
    values = np.full((4, 2), 0.3)
    found = metrics.reliability(values, values > 1, [[1, 0]] * 4)
    assert found.error[0] == pytest.approx(0.3) and np.isnan(found.error[1])
    assert found.frames[1].sum() == 0 and np.isnan(found.observed[1]).all()


def test_score_has_the_error_of_each_au_and_their_mean():
    rng = np.random.default_rng(0)
    probability = rng.random((3000, 3))
    truth, mask = rng.random((3000, 3)) < probability**2, rng.random((3000, 3)) < 0.8
    mask[:, 2] = False
    expected = metrics.reliability(probability, truth, mask).error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = metrics.score(probability, truth, mask, 0.5, np.arange(3000) % 20, (1, 2, 12))
    *errors, missing = [row["calibration_error"] for row in result["per_au"]]
    assert errors == pytest.approx(expected[:2]) and missing is None
    mean = result["mean"]
    assert mean["calibration_error"] == pytest.approx(expected[:2].mean())
    assert mean["calibration_error_low"] < mean["calibration_error"] < mean["calibration_error_high"]
    assert mean["accuracy_aus"] == 2


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="bins=0"):
        metrics.reliability([[0.5]], [[1]], [[1]], 0)
    with pytest.raises(ValueError, match="sigmoid"):
        metrics.reliability([[1.5]], [[1]], [[1]])
