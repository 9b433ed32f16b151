"""Occurrence metrics per Action Unit with intervals over subjects, and thresholds from validation frames."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit

from jaxau import facs
from jaxau.metrics import calibration, intervals, ranking
from jaxau.metrics.counts import checked, checked_threshold, rates_from_counts, subject_counts

Score = dict[str, Any]
"""What `score` returns: plain dicts, lists, numbers and None, ready for JSON."""

METRICS = (
    "f1",
    "precision",
    "recall",
    "accuracy",
    "auc",
    "average_precision",
    "mcc",
    "skew_f1",
    "calibration_error",
)
"""What `score` gives for each AU and, with an interval, in the mean."""

AU_COUNTS = {
    "aus": "f1",
    "precision_aus": "precision",
    "accuracy_aus": "accuracy",
    "auc_aus": "auc",
    "mcc_aus": "mcc",
}
"""Keys of a mean that say over how many AUs it is, and the metric that they count."""


class Thresholds(NamedTuple):
    """One threshold for each AU, and which of them kept .5 because there was too little to choose by."""

    value: NDArray[np.float64]  # (k,) in (0, 1)
    kept: NDArray[np.bool_]  # (k,)


def score(
    probability: ArrayLike,
    truth: ArrayLike,
    mask: ArrayLike,
    threshold: ArrayLike,
    subject: ArrayLike,
    aus: Sequence[int],
    bootstrap: int = 1000,
    seed: int = 0,
) -> Score:
    """Scores per AU and their mean, with 95 % intervals from a bootstrap over subjects.

    An AU counts as present where ``probability >= threshold``. Undefined numbers are None: F1, recall and
    average precision of an AU without positives, precision where nothing was predicted present, ROC AUC and
    skew-normalised F1 where only one class occurs, MCC where truth or prediction has one class only,
    everything of an AU that is not coded. `rates_from_counts`, `ranking.areas` and `calibration.reliability`
    define the metrics.

    Intervals come from draws of subjects with replacement, thresholds held fixed, as `intervals.interval`
    says. An AU's interval uses the draws that hold a positive of it, and counts the subjects that show it: an
    AU that a single one shows has none. The mean of a draw is over the AUs that are defined in it. AUC and
    average precision of draws, but not the reported ones, are computed in bins, see `ranking.area_draws`.
    Under 15 subjects a warning and ``interval_note`` say what intervals are worth; with a single subject
    there are none.

    Args:
      probability: (n, k) in [0, 1].
      truth: (n, k) occurrence, 0 or 1.
      mask: (n, k) True where the AU is coded. Values under False are never read.
      threshold: in [0, 1]: a number, (k,), or (n, k) where frames were predicted by several models.
      subject: (n,) ids (ints or names).
      aus: the k AU numbers, in the order of the columns.
      bootstrap: number of draws; 0 for no intervals.
      seed: of the draws; the same seed draws the same subjects for every model.

    Returns:
      ``per_au``: a list of {au, threshold (None where frames have several), those of `METRICS`, f1_low,
      f1_high, base_rate, positives, coded, subjects}; ``mean``: each of `METRICS` with <name>_low and
      <name>_high, ``undefined``, the AUs without F1, and over how many AUs the means are: ``aus`` for F1,
      recall and average precision, ``precision_aus``, ``accuracy_aus`` for accuracy and calibration error,
      ``auc_aus`` for AUC and skew-normalised F1, ``mcc_aus``; ``bp4d_mean``: the mean over BP4D's 12 AUs, if
      ``aus`` holds them and more; ``subjects``, ``bootstrap``, ``interval_note``.

    Raises:
      ValueError: lengths differ; a coded frame with a probability that is not in [0, 1] (a NaN is not) or a
        truth that is not 0 or 1; an unknown AU; a threshold outside [0, 1].
    """
    aus = facs.check_aus(aus)
    probability, truth, mask = checked(probability, truth, mask, [facs.column(au) for au in aus])
    thresholds = checked_threshold(threshold, probability.shape)
    names, counts = subject_counts(probability, truth, mask, thresholds, subject)
    if bootstrap < 0:
        raise ValueError(f"bootstrap={bootstrap}: a number of draws, 0 for no intervals")
    coded = counts.sum(axis=(1, 2)) > 0  # who is never coded is nobody to draw
    number_of = np.cumsum(coded) - 1
    index, counts, subjects = number_of[np.searchsorted(names, subject)], counts[coded], int(coded.sum())
    arrays = (probability, truth, mask)
    sums = calibration.bin_sums(*arrays, index, subjects)

    values = rates_from_counts(counts.sum(axis=0)) | ranking.areas(*arrays)
    values["calibration_error"] = calibration.error_from_sums(sums.sum(axis=0))
    note = intervals.interval_note(subjects, bootstrap)
    draws: dict[str, NDArray[np.float64]] = {}
    if bootstrap and subjects > 1:
        weights = intervals.draw_subjects(subjects, bootstrap, seed)
        draws = rates_from_counts(np.einsum("bs,skc->bkc", weights, counts))
        draws |= ranking.area_draws(*arrays, index, weights)
        flat = weights.astype(np.float64) @ sums.reshape(subjects, -1)
        draws["calibration_error"] = calibration.error_from_sums(flat.reshape(bootstrap, *sums.shape[1:]))

    per_au = []
    for column, au in enumerate(aus):
        used = np.unique(thresholds[..., column])
        row: Score = {"au": int(au), "threshold": float(used[0]) if len(used) == 1 else None}
        row |= {name: _number(values[name][column]) for name in (*METRICS, "base_rate")}
        of_au = counts[:, column]  # (s, 4)
        positives = of_au[:, [0, 2]].sum(axis=1)  # true positives and false negatives
        row |= {"f1_low": None, "f1_high": None}
        if draws:
            shown_by = int((positives > 0).sum())
            f1 = float(values["f1"][column]), draws["f1"][:, column]
            row["f1_low"], row["f1_high"] = intervals.interval(*f1, shown_by, *_range("f1"))
        row |= {"positives": int(positives.sum()), "coded": int(of_au.sum())}
        per_au.append(row | {"subjects": int((of_au.sum(axis=1) > 0).sum())})

    result: Score = {"per_au": per_au, "mean": _mean(aus, list(range(len(aus))), values, draws, subjects)}
    bp4d = facs.CORPUS_AUS["bp4d"]
    if set(aus) > set(bp4d):
        result["bp4d_mean"] = _mean(aus, [aus.index(au) for au in bp4d], values, draws, subjects)
    return result | {"subjects": subjects, "bootstrap": bootstrap, "interval_note": note}


def always_on(
    truth: ArrayLike,
    mask: ArrayLike,
    subject: ArrayLike,
    aus: Sequence[int],
    bootstrap: int = 1000,
    seed: int = 0,
) -> Score:
    """Score of the detector that says "present" on every frame: the floor for any F1.

    Its F1 is 2r / (1 + r) for a base rate r, its accuracy is r and its ROC AUC .5. Arguments, result
    and errors as in `score`.
    """
    ones = np.ones(np.shape(truth))
    return score(ones, truth, mask, 0.5, subject, aus, bootstrap, seed)


def best_thresholds(
    probability: ArrayLike, truth: ArrayLike, mask: ArrayLike, minimum_frames: int = 30
) -> Thresholds:
    """Per-AU thresholds of high F1 on validation frames, chosen so that few subjects do not mislead.

    The raw maximum of the F1 curve sits on whatever spike the validation subjects happen to have.
    Here F1 is computed at 81 candidates equally spaced in logit (.018 to .982, with .5 among them),
    smoothed over logits with a Gaussian of sigma .4 (about .1 in probability near .5), and the
    maximum of the smooth curve is taken; among equals the candidate nearest .5. An AU with fewer
    than ``minimum_frames`` coded positives, or as few coded negatives, keeps .5.

    Args:
      probability: (n, k) in [0, 1], of the validation subjects, never of the test subjects.
      truth: (n, k) occurrence, 0 or 1.
      mask: (n, k) True where coded.
      minimum_frames: least number of positives, and of negatives, to choose by.

    Raises:
      ValueError: as in `score`.
    """
    probability, truth, mask = checked(probability, truth, mask)
    logits = np.linspace(-4, 4, 81)
    candidates = expit(logits)
    value = np.full(probability.shape[1], 0.5)
    kept = np.ones(probability.shape[1], bool)
    for column in range(probability.shape[1]):
        coded = mask[:, column]
        positive = np.sort(probability[coded & truth[:, column], column])
        negative = np.sort(probability[coded & ~truth[:, column], column])
        if min(len(positive), len(negative)) < minimum_frames:
            continue
        true_positives = len(positive) - np.searchsorted(positive, candidates)
        false_positives = len(negative) - np.searchsorted(negative, candidates)
        f1 = 2 * true_positives / (true_positives + false_positives + len(positive))
        smooth = gaussian_filter1d(f1, sigma=0.4 / (logits[1] - logits[0]), mode="nearest")
        best = np.flatnonzero(smooth >= smooth.max() - 1e-9)
        value[column] = candidates[best[np.argmin(np.abs(logits[best]))]]
        kept[column] = False
    return Thresholds(value, kept)


def _mean(
    aus: Sequence[int],
    columns: list[int],
    values: dict[str, NDArray[np.float64]],
    draws: dict[str, NDArray[np.float64]],
    subjects: int,
) -> Score:
    """Means over the AUs of ``columns`` where a number is defined, with the intervals of these means."""
    mean: Score = {}
    for name in METRICS:
        value = intervals.mean_defined(values[name][columns])
        mean |= {name: _number(value), f"{name}_low": None, f"{name}_high": None}
        if draws:
            of_draws = intervals.mean_defined(draws[name][:, columns])
            low, high = intervals.interval(float(value), of_draws, subjects, *_range(name))
            mean |= {f"{name}_low": low, f"{name}_high": high}
    for key, name in AU_COUNTS.items():
        mean[key] = int((~np.isnan(values[name][columns])).sum())
    return mean | {"undefined": [int(aus[c]) for c in columns if np.isnan(values["f1"][c])]}


def _range(metric: str) -> tuple[float, float]:
    return (-1, 1) if metric == "mcc" else (0, 1)


def _number(value: NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)
