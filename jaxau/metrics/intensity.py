"""Agreement of predicted and coded intensities: ICC(3,1), Pearson correlation, mean absolute error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxau import facs
from jaxau.metrics import intervals

IntensityScore = dict[str, Any]
"""What `intensity_score` returns, ready for JSON."""

_NUMBERS = ("icc", "pcc", "mae")


def icc31(ratings: ArrayLike) -> float | None:
    """Intraclass correlation ICC(3,1): consistency of single ratings by fixed raters.

    (BMS - EMS) / (BMS + (r - 1) EMS) of a two-way analysis of variance without replication, where BMS is the
    mean square between targets and EMS that of the residual (Shrout and Fleiss, Psychological Bulletin 86,
    1979, p. 423). A constant difference between raters does not lower it.

    Args:
      ratings: (n, r) of n targets (frames) by r raters (the coder, the detector).

    Returns:
      At most 1; None with fewer than 2 targets or raters, or where no target differs from another.
    """
    values = np.asarray(ratings, np.float64)
    n, raters = values.shape
    if n < 2 or raters < 2 or (np.ptp(values, axis=0) == 0).all():
        return None
    values = values - values.mean(axis=0)  # takes out the raters' own levels
    between = raters * np.square(values.mean(axis=1)).sum() / (n - 1)
    residual = np.square(values - values.mean(axis=1, keepdims=True)).sum() / ((n - 1) * (raters - 1))
    return float((between - residual) / (between + (raters - 1) * residual))


def intensity_score(
    predicted: ArrayLike,
    truth: ArrayLike,
    mask: ArrayLike,
    subject: ArrayLike,
    aus: Sequence[int],
    bootstrap: int = 1000,
    seed: int = 0,
) -> IntensityScore:
    """ICC(3,1), Pearson correlation (PCC) and mean absolute error (MAE) per AU, and their means.

    An AU whose coded intensity never changes has no ICC and no PCC: there is nothing to agree on. PCC is
    undefined for a constant prediction, too; ICC is then 0.

    Args:
      predicted: (n, k) on the scale of the truth; values under a False mask are never read.
      truth: (n, k) coded intensity, 0 to 5.
      mask: (n, k) True where coded and predicted.
      subject: (n,) ids.
      aus: the k AU numbers, in the order of the columns.
      bootstrap, seed: number and seed of the draws of subjects for the 95 % intervals, as of `score`.

    Returns:
      ``per_au``: a list of {au, icc, pcc, mae, coded}; ``mean``: icc, pcc and mae, each over the AUs where
      it is defined, with <name>_low, <name>_high and <name>_aus, over how many AUs.

    Raises:
      ValueError: shapes differ, or a value under a True mask is not finite.
    """
    aus = facs.check_aus(aus)
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    mask = np.asarray(mask).astype(bool)
    if not predicted.shape == truth.shape == mask.shape or predicted.shape[1:] != (len(aus),):
        raise ValueError(
            f"predicted {predicted.shape}, truth {truth.shape} and mask {mask.shape}: all three must be "
            f"(frames, {len(aus)} AUs)"
        )
    wrong = int((~(np.isfinite(predicted) & np.isfinite(truth)) & mask).sum())
    if wrong:
        raise ValueError(f"{wrong} intensities are NaN or infinite; mask what is not coded or not predicted")
    per_au: list[dict[str, Any]] = []
    for column, au in enumerate(aus):
        coded = mask[:, column]
        numbers = _agreement(predicted[coded, column], truth[coded, column])
        per_au.append({"au": int(au)} | numbers | {"coded": int(coded.sum())})
    mean: dict[str, Any] = {}
    draws, subjects = _draws(predicted, truth, mask, subject, bootstrap, seed)
    for name, values in zip(_NUMBERS, draws, strict=True):
        defined = [row[name] for row in per_au if row[name] is not None]
        found = float(np.mean(defined)) if defined else None
        ends = (0.0, np.inf) if name == "mae" else (-1.0, 1.0)
        estimate = np.nan if found is None else found
        low, high = intervals.interval(estimate, intervals.mean_defined(values), subjects, *ends)
        mean |= {name: found, f"{name}_low": low, f"{name}_high": high, f"{name}_aus": len(defined)}
    return {"per_au": per_au, "mean": mean}


def _draws(
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    mask: NDArray[np.bool_],
    subject: ArrayLike,
    bootstrap: int,
    seed: int,
) -> tuple[NDArray[np.float64], int]:
    """ICC, PCC and MAE (3, draws, k) of draws of subjects, nan where undefined, and how many subjects."""
    coded = mask.any(axis=1)
    names, index = np.unique(np.asarray(subject)[coded], return_inverse=True)
    if not bootstrap or len(names) < 2:
        return np.empty((3, 0, mask.shape[1])), len(names)
    p, t, m = (np.where(mask[coded], values[coded], 0) for values in (predicted, truth, mask))
    number = m.sum(axis=0).clip(1)
    p_0, t_0 = (m * (values - values.sum(axis=0) / number) for values in (p, t))  # near 0, for precision
    of_frames = np.stack([m, p_0, t_0, p_0**2, t_0**2, p_0 * t_0, np.abs(p - t)], axis=-1)  # (n, k, 7)
    sums = np.zeros((len(names), *of_frames.shape[1:]))
    np.add.at(sums, index, of_frames)
    weights = intervals.draw_subjects(len(names), bootstrap, seed)
    drawn = np.einsum("bs,skc->cbk", weights.astype(np.float64), sums)
    n, p_1, t_1, pp, tt, pt, error = np.where(drawn[0] > 0, drawn, np.nan)
    spread_p, spread_t, joint = pp - p_1**2 / n, tt - t_1**2 / n, pt - p_1 * t_1 / n
    varies = spread_t > 1e-9 * n
    # Of two raters, ICC(3,1) is twice the covariance over the sum of the variances.
    icc = np.where(varies, 2 * joint / np.where(varies, spread_p + spread_t, 1), np.nan)
    both = varies & (spread_p > 1e-9 * n)
    pcc = np.where(both, joint / np.sqrt(np.where(both, spread_p * spread_t, 1)), np.nan)
    return np.stack([icc, pcc, error / n]), len(names)


def _agreement(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float | None]:
    if not len(truth):
        return dict.fromkeys(_NUMBERS)
    varies = np.ptp(truth) > 0
    return {
        "icc": icc31(np.stack([truth, predicted], axis=1)) if varies else None,
        "pcc": float(np.corrcoef(predicted, truth)[0, 1]) if varies and np.ptp(predicted) > 0 else None,
        "mae": float(np.abs(predicted - truth).mean()),
    }
