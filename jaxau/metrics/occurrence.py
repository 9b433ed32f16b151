"""Occurrence metrics per Action Unit, intervals over subjects, and thresholds from validation frames.

Three rules hold in every function. A label under a False mask never counts, whatever its value. What
is undefined stays undefined (None) and is named; it is never read as 0. Frames of one subject are
not independent, so uncertainty comes from resampling subjects, not frames.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from jaxau import facs

Score = dict[str, Any]
"""What `score` returns: plain dicts, lists, numbers and None, ready for JSON."""

FEW_SUBJECTS = 15
"""Below this many subjects a 95 % percentile interval covers less than about .91 (.87 at 9 subjects)."""

_TP, _FP, _FN, _TN = range(4)


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

    An AU counts as present where ``probability >= threshold``. Undefined numbers are None: F1 and
    recall of an AU without positives, precision where nothing was predicted present, ROC AUC where
    only one class occurs, everything of an AU that is not coded.

    Intervals are percentiles (2.5, 97.5) over draws of subjects with replacement, thresholds held
    fixed. An AU's interval uses the draws that hold a positive of it; a draw's mean F1 is over the
    AUs with positives in that draw. Under 15 subjects they are too narrow: a warning and
    ``interval_note`` say so. With a single subject there is none.

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
      ``per_au``: a list of {au, threshold (None where frames have several), f1, f1_low, f1_high,
      precision, recall, accuracy, auc, base_rate, positives, coded, subjects}; ``mean``: {f1, f1_low,
      f1_high, accuracy, auc, aus, auc_aus, accuracy_aus, undefined} where ``aus``, ``auc_aus`` and
      ``accuracy_aus`` say over how many AUs each mean is and ``undefined`` lists the AUs without F1;
      ``bp4d_mean``: the mean over BP4D's 12 AUs, if ``aus`` holds them and more; ``subjects``,
      ``bootstrap``, ``interval_note``.

    Raises:
      ValueError: lengths differ; a coded frame with a probability that is not in [0, 1] or a truth
        that is not 0 or 1; an unknown AU; a threshold outside [0, 1].
    """
    aus = facs.check_aus(aus)
    probability, truth, mask = _checked(probability, truth, mask, [facs.column(au) for au in aus])
    thresholds = _checked_threshold(threshold, probability.shape)
    _, counts = subject_counts(probability, truth, mask, thresholds, subject)
    counts = counts[counts.sum(axis=(1, 2)) > 0]  # who is never coded is nobody to draw
    subjects = len(counts)
    if bootstrap < 0:
        raise ValueError(f"bootstrap={bootstrap}: a number of draws, 0 for no intervals")

    coded_subjects = (counts.sum(axis=2) > 0).sum(axis=0)  # (k,)
    note = _interval_note(subjects, bootstrap)
    draws = None
    if bootstrap and coded_subjects.max(initial=0) > 1:
        weights = np.random.default_rng(seed).multinomial(
            subjects, np.full(subjects, 1 / subjects), size=bootstrap
        )
        draws = f1_from_counts(np.einsum("bs,skc->bkc", weights, counts))  # (bootstrap, k), nan: no positive

    per_au = []
    for column, au in enumerate(aus):
        used = np.unique(thresholds[..., column])
        row: Score = {"au": int(au), "threshold": float(used[0]) if len(used) == 1 else None}
        row |= _rates(counts[:, column].sum(axis=0))
        coded = mask[:, column]
        if 0 < row["positives"] < row["coded"]:
            area = roc_auc_score(truth[coded, column], probability[coded, column])
            row["auc"] = float(area)
        row["subjects"] = int(coded_subjects[column])
        if draws is not None and row["f1"] is not None and row["subjects"] > 1:
            row["f1_low"], row["f1_high"] = _percentiles(draws[:, column])
        per_au.append(row)

    result: Score = {"per_au": per_au, "mean": _mean(per_au, draws)}
    bp4d = facs.CORPUS_AUS["bp4d"]
    if set(aus) > set(bp4d):
        columns = [aus.index(au) for au in bp4d]
        result["bp4d_mean"] = _mean(
            [per_au[column] for column in columns], None if draws is None else draws[:, columns]
        )
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


def subject_counts(
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    threshold: ArrayLike,
    subject: ArrayLike,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Counts from which every threshold metric follows; sums over batches equal one pass.

    Args:
      probability, truth, mask: (n, k), checked as in `score`.
      threshold: a number, (k,) or (n, k).
      subject: (n,).

    Returns:
      names (s,): the subjects, sorted; counts (s, k, 4): true positives, false positives, false
      negatives and true negatives of each subject and AU.

    Raises:
      ValueError: ``subject`` and ``probability`` have different lengths.
    """
    subject = np.asarray(subject)
    if subject.shape != probability.shape[:1]:
        raise ValueError(
            f"subject has shape {subject.shape}, the predictions {probability.shape}: one subject "
            f"for each of the {len(probability)} frames is needed"
        )
    names, index = np.unique(subject, return_inverse=True)
    present = probability >= np.asarray(threshold)
    counts = np.zeros((len(names), probability.shape[1], 4), np.int64)
    for cell, hit in (
        (_TP, present & truth),
        (_FP, present & ~truth),
        (_FN, ~present & truth),
        (_TN, ~present & ~truth),
    ):
        np.add.at(counts[..., cell], index, hit & mask)
    return names, counts


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
    probability, truth, mask = _checked(probability, truth, mask, None)
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


def _checked(
    probability: ArrayLike, truth: ArrayLike, mask: ArrayLike, names: list[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Arrays of one shape, with the values under a False mask replaced by 0."""
    probability, truth, mask = np.asarray(probability), np.asarray(truth), np.asarray(mask)
    if not probability.shape == truth.shape == mask.shape or probability.ndim != 2:
        raise ValueError(
            f"probability {probability.shape}, truth {truth.shape} and mask {mask.shape}: all three "
            "must be (frames, AUs) of the same frames in the same order"
        )
    if names is not None and len(names) != probability.shape[1]:
        raise ValueError(
            f"{probability.shape[1]} columns for {len(names)} AUs ({', '.join(names)}): give one AU "
            "for each column"
        )
    names = names or [f"column {column}" for column in range(probability.shape[1])]
    mask = mask.astype(bool)
    probability = np.where(mask, probability, 0).astype(np.float64)
    truth = np.where(mask, truth, 0)
    outside = ~((probability >= 0) & (probability <= 1))  # True for nan as well
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {int(mask.sum())} probabilities are not in [0, 1] "
            f"({int(np.isnan(probability).sum())} are NaN): {_per_column(outside, names)}; score "
            "probabilities (sigmoid of the logits), and mask frames without a prediction explicitly"
        )
    other = (truth != 0) & (truth != 1)
    if other.any():
        raise ValueError(
            f"{int(other.sum())} of {int(mask.sum())} labels are neither 0 nor 1: "
            f"{_per_column(other, names)}; turn intensities into occurrence first, and mask what "
            "is not coded"
        )
    return probability, truth.astype(bool), mask


def _per_column(wrong: NDArray[np.bool_], names: list[str]) -> str:
    total = wrong.sum(axis=0)
    return ", ".join(f"{names[column]}: {total[column]}" for column in np.flatnonzero(total))


def _checked_threshold(threshold: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.asarray(threshold, np.float64)
    if values.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"threshold of shape {values.shape}: give one number, one per AU ({shape[1]}), or one per frame "
            f"and AU {shape}"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"threshold {values.tolist()}: a probability in [0, 1] is needed")
    return values if values.ndim == 2 else np.broadcast_to(values, shape[1:])


def f1_from_counts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """F1 from the counts (..., 4) of `subject_counts`; nan where there is no positive."""
    tp, fp, fn = (counts[..., cell].astype(np.float64) for cell in (_TP, _FP, _FN))
    f1 = np.full(tp.shape, np.nan)
    np.divide(2 * tp, 2 * tp + fp + fn, out=f1, where=tp + fn > 0)
    return f1


def _rates(counts: NDArray[np.int64]) -> Score:
    tp, fp, fn, tn = (int(count) for count in counts)
    coded, positives = tp + fp + fn + tn, tp + fn
    return {
        "f1": float(f1_from_counts(counts)) if positives else None,
        "f1_low": None,
        "f1_high": None,
        "precision": tp / (tp + fp) if tp + fp else None,
        "recall": tp / positives if positives else None,
        "accuracy": (tp + tn) / coded if coded else None,
        "auc": None,
        "base_rate": positives / coded if coded else None,
        "positives": positives,
        "coded": coded,
    }


def _mean(per_au: list[Score], draws: NDArray[np.float64] | None) -> Score:
    """Means over the AUs where a number is defined; intervals of the per-draw mean F1."""
    defined = {key: [row[key] for row in per_au if row[key] is not None] for key in _MEANS}
    mean: Score = {key: float(np.mean(values)) if values else None for key, values in defined.items()}
    mean |= {"f1_low": None, "f1_high": None}
    if draws is not None and defined["f1"]:
        held = ~np.isnan(draws)
        total, number = np.where(held, draws, 0).sum(axis=1), held.sum(axis=1)
        mean["f1_low"], mean["f1_high"] = _percentiles(total[number > 0] / number[number > 0])
    return mean | {
        "aus": len(defined["f1"]),
        "auc_aus": len(defined["auc"]),
        "accuracy_aus": len(defined["accuracy"]),
        "undefined": [row["au"] for row in per_au if row["f1"] is None],
    }


_MEANS = ("f1", "accuracy", "auc")


def _percentiles(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(draws[~np.isnan(draws)], (2.5, 97.5))
    return float(low), float(high)


def _interval_note(subjects: int, bootstrap: int) -> str | None:
    if not bootstrap or subjects >= FEW_SUBJECTS:
        return None
    if subjects < 2:
        return f"no interval: {subjects} subject, and the bootstrap resamples subjects"
    note = (
        f"interval too narrow: {subjects} subjects; a 95 % percentile bootstrap over fewer than "
        f"{FEW_SUBJECTS} subjects covers about 87 to 91 %"
    )
    warnings.warn(note, stacklevel=3)
    return note
