"""Is one model better than another on the same frames: paired bootstrap and t-test, both over subjects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from jaxau import facs
from jaxau.metrics import counts as count
from jaxau.metrics import intervals


def paired_difference(
    probability_a: ArrayLike,
    probability_b: ArrayLike,
    truth: ArrayLike,
    mask: ArrayLike,
    threshold_a: ArrayLike,
    threshold_b: ArrayLike,
    subject: ArrayLike,
    aus: Sequence[int],
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """F1 of a minus F1 of b per AU and in the mean, with 95 % intervals, and a paired t-test.

    Each draw takes the same subjects for both models, so that what is hard for both cancels; intervals as in
    `score`. An AU without positives has no difference and is not in the mean.

    The t-test pairs, over subjects, the mean F1 of each subject (over the AUs of which it has a positive).
    AUNet's Table XII pairs single predictions: its t of -26.78 with p = 6.33e-158 fits the 1.76 million of
    12 AUs on BP4D's 146,847 frames (5.9e-158) and not the frames themselves (1.3e-157). Frames of a subject
    are not independent, so such a p says little, and no other unit than subjects is offered.

    Args:
      probability_a, probability_b: (n, k) in [0, 1], of the same frames in the same order.
      truth: (n, k) occurrence, 0 or 1.
      mask: (n, k) True where the AU is coded. Values under False are never read.
      threshold_a, threshold_b: in [0, 1], as in `score`.
      subject: (n,) ids.
      aus: the k AU numbers, in the order of the columns.
      bootstrap: number of draws; 0 for no intervals.
      seed: of the draws.

    Returns:
      ``per_au``: a list of {au, f1_a, f1_b, difference, low, high}; ``mean``: the same numbers and ``aus``,
      over how many AUs; ``t_test``: {t, p (two-sided), n (subjects with a positive), over: "subjects"}, t and
      p None under 2 subjects or where all subjects differ by the same; ``subjects``; ``interval_note``.

    Raises:
      ValueError: as in `score`, for either model.
    """
    aus = facs.check_aus(aus)
    names = [facs.column(au) for au in aus]
    counts = []
    for probability, threshold in ((probability_a, threshold_a), (probability_b, threshold_b)):
        probability, checked_truth, checked_mask = count.checked(probability, truth, mask, names)
        threshold = count.checked_threshold(threshold, probability.shape)
        counts.append(count.subject_counts(probability, checked_truth, checked_mask, threshold, subject)[1])
    both = np.stack(counts)  # (2, s, k, 4)
    both = both[:, both[0].sum(axis=(1, 2)) > 0]  # who is never coded is nobody to draw
    subjects = both.shape[1]
    note = intervals.interval_note(subjects, bootstrap)
    f1 = count.f1_from_counts(both.sum(axis=1))  # (2, k)
    draws = None
    if bootstrap and subjects > 1:
        weights = intervals.draw_subjects(subjects, bootstrap, seed)
        f1_draws = count.f1_from_counts(np.einsum("bs,mskc->mbkc", weights, both))
        draws = f1_draws[0] - f1_draws[1]  # (bootstrap, k)

    shown_by = (both[0][..., [0, 2]].sum(axis=2) > 0).sum(axis=0)  # (k,) subjects with a positive
    per_au = []
    for column, au in enumerate(aus):
        of_au = None if draws is None else draws[:, column]
        per_au.append({"au": int(au)} | _difference(f1[:, column], of_au, int(shown_by[column])))
    mean_draws = None if draws is None else intervals.mean_defined(draws)
    mean = _difference(intervals.mean_defined(f1), mean_draws, subjects)
    return {
        "per_au": per_au,
        "mean": mean | {"aus": int((~np.isnan(f1[0])).sum())},
        "t_test": _t_test(intervals.mean_defined(count.f1_from_counts(both))),
        "subjects": subjects,
        "interval_note": note,
    }


def _difference(
    f1: NDArray[np.float64], draws: NDArray[np.float64] | None, subjects: int
) -> dict[str, float | None]:
    """Of the F1 (2,) of both models; all None where they are undefined."""
    if np.isnan(f1).any():
        return dict.fromkeys(("f1_a", "f1_b", "difference", "low", "high"))
    a, b = float(f1[0]), float(f1[1])
    low, high = None, None
    if draws is not None:
        low, high = intervals.interval(a - b, draws, subjects, -1, 1)
    return {"f1_a": a, "f1_b": b, "difference": a - b, "low": low, "high": high}


def _t_test(f1: NDArray[np.float64]) -> dict[str, Any]:
    """Of the mean F1 (2, s) of each subject, nan for a subject without a positive."""
    a, b = f1[:, ~np.isnan(f1[0])]
    result: dict[str, Any] = {"t": None, "p": None, "n": len(a), "over": "subjects"}
    if len(a) > 1 and np.ptp(a - b) > 1e-12:
        found = scipy.stats.ttest_rel(a, b)
        result |= {"t": float(found.statistic), "p": float(found.pvalue)}
    return result
