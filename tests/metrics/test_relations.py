"""Relations of AUs against numpy and scikit-learn, pair by pair."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from jaxau.metrics import relations


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    n, k = 500, 5
    common = rng.normal(size=(n, 1))
    truth = (common + rng.normal(size=(n, k)) > 0.8).astype(int)
    truth[:, 3] = 0  # never present
    probability = np.clip(0.5 * truth + 0.25 + 0.2 * rng.normal(size=(n, k)), 0, 1)
    mask = rng.random((n, k)) < 0.7
    mask[:, 4] = False  # not coded
    return probability, truth, mask


def correlation(values, mask, i, j):
    both = mask[:, i] & mask[:, j]
    x, y = values[both, i], values[both, j]
    return np.nan if len(x) < 2 or x.std() == 0 or y.std() == 0 else np.corrcoef(x, y)[0, 1]


def test_adjacency_is_numpys_correlation_of_jointly_coded_frames(arrays):
    probability, truth, mask = arrays
    for values in (probability, truth):
        found = relations.adjacency(values, mask)
        expected = [[correlation(values, mask, i, j) for j in range(5)] for i in range(5)]
        np.testing.assert_allclose(found, expected, atol=1e-10)
    poisoned = np.where(mask, probability, np.nan)
    np.testing.assert_array_equal(relations.adjacency(poisoned, mask), relations.adjacency(probability, mask))


def test_adjacency_needs_two_frames_and_change():
    values = np.array([[0.1, 0.2, 0.3], [0.1, 0.5, 0.9], [0.1, 0.1, 0.2]])
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 0]], bool)
    found = relations.adjacency(values, mask)
    assert np.isnan(found[0]).all(), "a constant AU"
    assert np.isnan(found[2]).all(), "an AU of one frame"
    assert found[1, 1] == pytest.approx(1)


def test_l2_distance_over_pairs_defined_in_both(arrays):
    probability, truth, mask = arrays
    found = relations.l2_distance(probability, truth, mask)
    total = 0.0
    for i in range(3):  # AUs 3 and 4 have no relation in the truth
        for j in range(3):
            if i != j:
                total += (correlation(probability, mask, i, j) - correlation(truth, mask, i, j)) ** 2
    assert found["l2_distance"] == pytest.approx(np.sqrt(total)) and total > 0
    assert (found["pairs"], found["undefined_pairs"]) == (3, 7)
    assert relations.l2_distance(truth, truth, mask)["l2_distance"] == 0


def test_dependency_f1_is_scikit_learns_where_the_other_au_is_present(arrays):
    probability, truth, mask = arrays
    present = probability >= 0.5
    values, undefined = [], 0
    for i in range(5):
        for j in range(5):
            frames = [f for f in range(500) if mask[f, i] and mask[f, j] and truth[f, j] == 1]
            if i != j and any(truth[f, i] for f in frames):
                values.append(f1_score(truth[frames, i], present[frames, i]))
            elif i != j:
                undefined += 1
    found = relations.dependency_f1(present, truth, mask)
    assert found["dependency_f1"] == pytest.approx(np.mean(values), abs=1e-12)
    assert (found["pairs"], found["undefined_pairs"]) == (len(values), undefined) == (6, 14)


def test_dependency_f1_by_hand():
    truth = np.array([[1, 1], [1, 0], [1, 1], [0, 1]])
    present = np.array([[1, 0], [0, 0], [0, 1], [1, 1]])
    # AU 0 where AU 1 is present (frames 0, 2, 3): 1 hit, 1 false alarm, 1 miss: .5.
    # AU 1 where AU 0 is present (frames 0, 1, 2): 1 hit, 1 miss: 2/3.
    assert relations.dependency_f1(present, truth, np.ones((4, 2)))["dependency_f1"] == pytest.approx(7 / 12)


def test_nothing_defined_is_none():
    ones = np.ones((4, 2), int)
    assert relations.l2_distance(ones, ones, ones) == {"l2_distance": None, "pairs": 0, "undefined_pairs": 1}
    nothing = relations.dependency_f1(ones, ones * 0, ones)
    assert nothing == {"dependency_f1": None, "pairs": 0, "undefined_pairs": 2}
