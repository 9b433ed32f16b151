"""How well relations between AUs are predicted: adjacency matrices, and F1 where another AU is present."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score


def adjacency(values: ArrayLike, mask: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation of every two AUs over the frames where both are coded.

    Args:
      values: (n, k) probabilities or occurrences; values under a False mask are never read.
      mask: (n, k) True where coded.

    Returns:
      (k, k) in [-1, 1]; nan where fewer than 2 frames hold both AUs or one of the two never changes.
    """
    values, mask = np.asarray(values, np.float64), np.asarray(mask).astype(bool)
    return pd.DataFrame(np.where(mask, values, np.nan)).corr(min_periods=2).to_numpy()


def l2_distance(predicted: ArrayLike, truth: ArrayLike, mask: ArrayLike) -> dict[str, Any]:
    """Frobenius norm of the difference between the adjacency of predictions and that of truth.

    Args:
      predicted: (n, k) probabilities or occurrences.
      truth: (n, k) occurrence.
      mask: (n, k) True where coded.

    Returns:
      ``l2_distance``, None where no entry is defined in both; ``pairs``: how many pairs of AUs (i < j) it
      is over, each counted twice in the norm; ``undefined_pairs``: the others.
    """
    difference = adjacency(predicted, mask) - adjacency(truth, mask)
    np.fill_diagonal(difference, np.nan)  # 1 - 1
    defined = np.isfinite(difference)
    pairs, k = int(defined.sum()) // 2, len(difference)
    norm = float(np.linalg.norm(difference[defined])) if pairs else None
    return {"l2_distance": norm, "pairs": pairs, "undefined_pairs": k * (k - 1) // 2 - pairs}


def dependency_f1(present: ArrayLike, truth: ArrayLike, mask: ArrayLike) -> dict[str, Any]:
    """Mean, over ordered pairs of different AUs, of the F1 of one AU where the other truly is present.

    The F1 of AU i is over the frames where AU j is coded and present and AU i is coded.

    Args:
      present: (n, k) predicted occurrence; values under a False mask are never read.
      truth: (n, k) occurrence.
      mask: (n, k) True where coded.

    Returns:
      ``dependency_f1``, None where no pair is defined; ``pairs``: the number of ordered pairs it is over;
      ``undefined_pairs``: those in which the two AUs never occur together, which have no F1.
    """
    present, truth, mask = (np.asarray(values).astype(bool) for values in (present, truth, mask))
    k = truth.shape[1]
    found = []
    for j in range(k):
        given = mask[:, j] & truth[:, j]
        for i in range(k):
            frames = given & mask[:, i]
            if i != j and truth[frames, i].any():
                found.append(f1_score(truth[frames, i], present[frames, i]))
    return {
        "dependency_f1": float(np.mean(found)) if found else None,
        "pairs": len(found),
        "undefined_pairs": k * (k - 1) - len(found),
    }
