"""Areas of drawn subjects in bins, against scikit-learn on the frames that were drawn."""

import numpy as np
import pytest
import sklearn.metrics

from jaxau import metrics
from jaxau.metrics import intervals, ranking


def frames(n, subjects, decimals, seed=0):
    """Subjects who differ; probabilities rounded to so many decimals, so that many are tied."""
    rng = np.random.default_rng(seed)
    subject = np.arange(n) % subjects
    rate = rng.beta(1, 3, (subjects, 2))[subject]
    truth = rng.random(rate.shape) < rate
    logit = 2 * truth - 2 + rng.normal(size=(subjects, 2))[subject] + rng.normal(size=truth.shape)
    return np.round(1 / (1 + np.exp(-logit)), decimals), truth, rng.random(truth.shape) < 0.9, subject


@pytest.mark.parametrize(
    ("n", "decimals", "tolerance"),
    [(3000, 2, 1e-9), (600, 12, 1e-9), (12_000, 12, 2e-3)],  # the first two have no more values than bins
)
def test_areas_of_draws(n, decimals, tolerance):
    probability, truth, mask, subject = frames(n, 12, decimals)
    weights = intervals.draw_subjects(12, 10, seed=0)
    found = ranking.area_draws(probability, truth, mask, subject, weights)
    for draw in range(10):
        times = weights[draw][subject]
        for column in range(2):
            drawn = np.repeat(np.arange(n), times * mask[:, column])
            arrays = truth[drawn, column], probability[drawn, column]
            for name, function in (
                ("auc", sklearn.metrics.roc_auc_score),
                ("average_precision", sklearn.metrics.average_precision_score),
            ):
                assert found[name][draw, column] == pytest.approx(function(*arrays), abs=tolerance), name


def test_a_draw_without_a_class_has_no_area():
    # Subject 0 shows the AU always, subject 1 never.
    truth, probability = np.array([[True], [False], [False]]), np.array([[0.6], [0.4], [0.7]])
    weights = np.array([[2, 0], [0, 2], [1, 1]])
    found = ranking.area_draws(probability, truth, truth | True, np.array([0, 1, 1]), weights)
    np.testing.assert_allclose(found["auc"][:, 0], [np.nan, np.nan, 0.5])
    np.testing.assert_allclose(found["average_precision"][:, 0], [1, np.nan, 0.5])
    nobody = ranking.area_draws(probability, truth, truth & False, np.array([0, 1, 1]), weights)
    assert np.isnan(nobody["auc"]).all() and np.isnan(nobody["average_precision"]).all()


def test_the_intervals_of_the_areas_are_those_of_exact_draws():
    probability, truth, mask, subject = frames(4000, 20, 12)
    mean = metrics.score(probability, truth, mask, 0.5, subject, (1, 12), bootstrap=60)["mean"]
    weights = intervals.draw_subjects(20, 60, seed=0)
    for name, function in (
        ("auc", sklearn.metrics.roc_auc_score),
        ("average_precision", sklearn.metrics.average_precision_score),
    ):
        means = []
        for draw in weights:
            times = draw[subject][:, None] * mask
            means.append(
                np.mean([function(truth[:, c], probability[:, c], sample_weight=times[:, c]) for c in (0, 1)])
            )
        half = 2.093024 * (20 / 19) ** 0.5 * np.std(means, ddof=1)  # Student's t with 19 degrees of freedom
        assert mean[f"{name}_low"] == pytest.approx(mean[name] - half, abs=1e-4)
        assert mean[f"{name}_high"] == pytest.approx(mean[name] + half, abs=1e-4)
