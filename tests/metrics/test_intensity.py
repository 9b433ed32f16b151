"""Intensity agreement against a published example, scipy, and an analysis of variance in plain loops."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from scipy.stats import t as student

from jaxau.metrics import intensity

# Shrout and Fleiss (1979), Table 2: six targets rated by four judges; ICC(3,1) = .71 (Table 4).
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


SUBJECT = np.repeat(np.arange(10), 30)


def icc_in_loops(ratings):
    n, r = len(ratings), len(ratings[0])
    grand = sum(map(sum, ratings)) / (n * r)
    rows = [sum(row) / r for row in ratings]
    columns = [sum(row[j] for row in ratings) / n for j in range(r)]
    total = sum((x - grand) ** 2 for row in ratings for x in row)
    between = r * sum((m - grand) ** 2 for m in rows)
    raters = n * sum((m - grand) ** 2 for m in columns)
    bms, ems = between / (n - 1), (total - between - raters) / ((n - 1) * (r - 1))
    return (bms - ems) / (bms + (r - 1) * ems)


def test_icc_of_the_published_example():
    assert intensity.icc31(JUDGES) == pytest.approx(0.7148, abs=5e-5)
    assert intensity.icc31(JUDGES) == pytest.approx(icc_in_loops(JUDGES), abs=1e-12)


def test_icc_where_there_is_nothing_to_agree_on():
    assert intensity.icc31([[1, 2]]) is None
    assert intensity.icc31([[1, 2], [1, 2], [1, 2]]) is None
    assert intensity.icc31([[0.1, 5], [1.1, 6], [3.1, 8]]) == pytest.approx(
        1
    )  # a constant shift costs nothing
    assert intensity.icc31([[0, 1], [1, 0]]) == pytest.approx(-1)


def simulated(k=3, n=300):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 6, (n, k)).astype(float)
    predicted = 0.6 * truth + 0.5 + rng.normal(size=(n, k))
    mask = rng.random((n, k)) < 0.8
    truth[~mask] = np.nan
    predicted[~mask & (rng.random((n, k)) < 0.5)] = np.inf
    return predicted, truth, mask


def test_each_number_on_masked_frames():
    predicted, truth, mask = simulated()
    found = intensity.intensity_score(predicted, truth, mask, SUBJECT, [1, 12, 25])
    for column, row in enumerate(found["per_au"]):
        coded = mask[:, column]
        p, t = predicted[coded, column], truth[coded, column]
        assert row["coded"] == coded.sum()
        assert row["icc"] == pytest.approx(icc_in_loops(np.stack([t, p], 1).tolist()), abs=1e-10)
        assert row["pcc"] == pytest.approx(pearsonr(p, t).statistic, abs=1e-12)
        assert row["mae"] == pytest.approx(sum(abs(a - b) for a, b in zip(p, t, strict=True)) / len(p))
        assert row["icc"] < row["pcc"]  # the smaller spread of the prediction costs only the ICC
    for name in ("icc", "pcc", "mae"):
        values = [row[name] for row in found["per_au"]]
        assert found["mean"][name] == pytest.approx(np.mean(values)) and found["mean"][f"{name}_aus"] == 3


def test_what_is_undefined_is_none():
    truth = np.array([[0, 1, 0, 2], [0, 2, 3, 2]], float)
    predicted = np.array([[1, 1, 1, 0], [2, 1, 4, 0]], float)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], bool)
    found = intensity.intensity_score(predicted, truth, mask, [0, 0], [1, 2, 4, 12])
    constant_truth, constant_prediction, shifted, uncoded = found["per_au"]
    assert (constant_truth["icc"], constant_truth["pcc"], constant_truth["mae"]) == (None, None, 1.5)
    assert constant_prediction["pcc"] is None and constant_prediction["icc"] == pytest.approx(0)
    assert shifted["icc"] == pytest.approx(1) and shifted["mae"] == 1
    assert uncoded == {"au": 12, "icc": None, "pcc": None, "mae": None, "coded": 0}
    mean = found["mean"]
    assert (mean["icc_aus"], mean["pcc_aus"], mean["mae_aus"]) == (2, 1, 3)
    assert mean["icc"] == pytest.approx(0.5) and mean["mae"] == pytest.approx((1.5 + 0.5 + 1) / 3)


def test_errors():
    predicted, truth, mask = simulated()
    with pytest.raises(ValueError, match="intensities are NaN or infinite; mask"):
        intensity.intensity_score(predicted, truth, np.ones_like(mask), SUBJECT, [1, 12, 25])
    with pytest.raises(ValueError, match=r"must be \(frames, 2 AUs\)"):
        intensity.intensity_score(predicted, truth, mask, SUBJECT, [1, 12])


def test_intervals_are_those_of_drawn_subjects():
    """Draws by hand: the frames of a subject come as often as it is drawn."""
    predicted, truth, mask = simulated()
    mask[SUBJECT == 3, 0] = False
    found = intensity.intensity_score(predicted, truth, mask, SUBJECT, [1, 12, 25], bootstrap=200)["mean"]
    draws = []
    for weights in np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=200):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(SUBJECT == s), w) for s, w in enumerate(weights)]
        ).astype(int)
        of_au = []
        for column in range(3):
            coded = rows[mask[rows, column]]
            p, t = predicted[coded, column], truth[coded, column]
            icc = icc_in_loops(np.stack([t, p], 1).tolist())
            of_au.append((icc, np.corrcoef(p, t)[0, 1], np.abs(p - t).mean()))
        draws.append(np.mean(of_au, axis=0))
    half = student.ppf(0.975, 9) * np.std(draws, axis=0, ddof=1) * np.sqrt(10 / 9)
    for name, expected in zip(("icc", "pcc", "mae"), half, strict=True):
        assert found[f"{name}_high"] - found[name] == pytest.approx(expected, rel=1e-9), name
        assert found[name] - found[f"{name}_low"] == pytest.approx(expected, rel=1e-9), name


def test_an_au_that_one_subject_shows_is_undefined_in_draws_without_it():
    predicted, truth, mask = simulated()
    truth[SUBJECT != 3, 0], predicted[SUBJECT != 3, 0] = 0, 0
    found = intensity.intensity_score(predicted, truth, mask, SUBJECT, [1, 12, 25], bootstrap=100)["mean"]
    assert found["icc_aus"] == 3 and found["icc_low"] < found["icc"] < found["icc_high"]
    only = intensity.intensity_score(predicted, truth, mask, SUBJECT * 0, [1, 12, 25])["mean"]
    assert only["icc_low"] is None and only["icc"] == pytest.approx(found["icc"])
