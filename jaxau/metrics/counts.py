"""Predictions checked and counted: true and false positives and negatives of each subject and AU."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TP, _FP, _FN, _TN = range(4)


def checked(
    probability: ArrayLike, truth: ArrayLike, mask: ArrayLike, names: list[str] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Arrays of one shape (n, k), with the values under a False mask replaced by 0.

    Args:
      probability: (n, k) in [0, 1].
      truth: (n, k) occurrence, 0 or 1.
      mask: (n, k) True where the AU is coded.
      names: of the k columns, for messages.

    Raises:
      ValueError: shapes differ; a coded frame with a probability that is not in [0, 1] (a NaN is not) or a
        truth that is not 0 or 1.
    """
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


def checked_threshold(threshold: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Thresholds (k,), or (n, k) where each frame has its own, for predictions of ``shape`` (n, k).

    Raises:
      ValueError: another shape than (), (k,) or (n, k), or a threshold outside [0, 1].
    """
    values = np.asarray(threshold, np.float64)
    if values.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"threshold of shape {values.shape}: give one number, one per AU ({shape[1]}), or one per frame "
            f"and AU {shape}"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"threshold {values.tolist()}: a probability in [0, 1] is needed")
    return values if values.ndim == 2 else np.broadcast_to(values, shape[1:])


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


def f1_from_counts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """F1 from the counts (..., 4) of `subject_counts`; nan where there is no positive."""
    tp, fp, fn = (counts[..., cell].astype(np.float64) for cell in (_TP, _FP, _FN))
    return _ratio(2 * tp, 2 * tp + fp + fn, tp + fn > 0)


def rates_from_counts(counts: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """All threshold metrics from the counts (..., 4) of `subject_counts`; nan where undefined.

    Returns:
      ``f1`` and ``recall``, undefined without a positive; ``precision``, undefined where nothing was
      predicted present; ``accuracy`` and ``base_rate``, undefined where nothing is coded; ``mcc``, Matthews
      correlation, undefined where truth or prediction has one class only (scikit-learn says 0 there);
      ``skew_f1``, F1 of the counts that a balanced set would have had (Jeni, Cohn and De la Torre, "Facing
      imbalanced data", ACII 2013): with skew s = negatives / positives the counts of the negatives are
      divided by s, so that F1 = 2 TP / (2 TP + FN + FP / s) = 2 TPR / (1 + TPR + FPR), undefined without
      both classes.
    """
    tp, fp, fn, tn = (counts[..., cell].astype(np.float64) for cell in (_TP, _FP, _FN, _TN))
    positives, negatives, found, coded = tp + fn, fp + tn, tp + fp, tp + fp + fn + tn
    both = (positives > 0) & (negatives > 0)
    recall = _ratio(tp, positives, positives > 0)
    false_alarms = _ratio(fp, negatives, negatives > 0)
    marginals = positives * negatives * found * (fn + tn)
    return {
        "f1": f1_from_counts(counts),
        "precision": _ratio(tp, found, found > 0),
        "recall": recall,
        "accuracy": _ratio(tp + tn, coded, coded > 0),
        "mcc": _ratio(tp * tn - fp * fn, np.sqrt(marginals), marginals > 0),
        "skew_f1": _ratio(2 * recall, 1 + recall + false_alarms, both),
        "base_rate": _ratio(positives, coded, coded > 0),
    }


def _ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], defined: NDArray[np.bool_]
) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.full(defined.shape, np.nan), where=defined)
