"""Do probabilities mean what they say: observed rates per bin, and the expected calibration error."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxau.metrics.counts import checked

BINS = 15


class Reliability(NamedTuple):
    """A reliability diagram per AU; bins of equal width hold their upper edge, the first 0 as well."""

    edges: NDArray[np.float64]  # (bins + 1,) from 0 to 1
    frames: NDArray[np.int64]  # (k, bins), coded
    probability: NDArray[np.float64]  # (k, bins) their mean probability, nan in an empty bin
    observed: NDArray[np.float64]  # (k, bins) the share of them that are positive, nan in an empty bin
    error: NDArray[np.float64]  # (k,) expected calibration error, nan where the AU is not coded


def reliability(probability: ArrayLike, truth: ArrayLike, mask: ArrayLike, bins: int = BINS) -> Reliability:
    """Mean probability against observed rate, per AU and bin of probability.

    The error is the mean over frames of |mean probability - observed rate| of their bin (Guo et al., "On
    calibration of modern neural networks", 2017, equation 3), here of the probability that the AU is present,
    in [0, 1]. It is never below 0, so that a calibrated model has a small positive one.

    Args:
      probability: (n, k) in [0, 1].
      truth: (n, k) occurrence, 0 or 1.
      mask: (n, k) True where the AU is coded.
      bins: how many.

    Raises:
      ValueError: as in `score`, or fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins={bins}: at least one is needed")
    probability, truth, mask = checked(probability, truth, mask)
    sums = bin_sums(probability, truth, mask, np.zeros(len(mask), np.int64), 1, bins)[0]
    count, total, positives = np.moveaxis(sums, -1, 0)
    empty = np.full(count.shape, np.nan)
    return Reliability(
        edges=np.linspace(0, 1, bins + 1),
        frames=count.astype(np.int64),
        probability=np.divide(total, count, out=empty.copy(), where=count > 0),
        observed=np.divide(positives, count, out=empty.copy(), where=count > 0),
        error=error_from_sums(sums),
    )


def bin_sums(
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    subject: NDArray[np.int64],
    subjects: int,
    bins: int = BINS,
) -> NDArray[np.float64]:
    """Of each subject, AU and bin: coded frames, sum of probabilities, positives (subjects, k, bins, 3).

    Args:
      probability, truth, mask: (n, k), checked.
      subject: (n,) numbers of the subjects, from 0.
      subjects: how many.
      bins: how many.
    """
    columns = probability.shape[1]
    within = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability)
    cell = (subject[:, None] * columns + np.arange(columns)) * bins + within
    weights: list[Any] = [None, probability[mask], truth[mask]]
    sums = [np.bincount(cell[mask], weight, subjects * columns * bins) for weight in weights]
    return np.stack(sums, axis=-1).reshape(subjects, columns, bins, 3).astype(np.float64)


def error_from_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The expected calibration error (...) from sums (..., bins, 3); nan where nothing is coded."""
    coded = sums[..., 0].sum(axis=-1)
    gap = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
    return np.divide(gap, coded, out=np.full(coded.shape, np.nan), where=coded > 0)
