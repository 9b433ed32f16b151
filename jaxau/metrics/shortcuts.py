"""What a detector leans on that is not the AU: AUs that occur together, pose, skin, glasses."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxau.metrics.occurrence import Score, score

POSE_BINS = {"frontal": (0.0, 10.0), "turned": (10.0, 25.0), "far turned": (25.0, 180.0)}
"""Degrees of |yaw|, from and below."""


def pose_bins(yaw: ArrayLike) -> np.ndarray:
    """(n,) names in ``POSE_BINS`` for degrees (n,) of yaw.

    Raises:
      ValueError: an angle outside -180..180 or none.
    """
    angle = np.abs(np.asarray(yaw, float))
    if not (angle <= 180).all():
        raise ValueError(f"yaw from {np.min(yaw)} to {np.max(yaw)}: give degrees from -180 to 180")
    limits = [low for low, _ in POSE_BINS.values()][1:]
    return np.array(list(POSE_BINS))[np.searchsorted(limits, angle, side="right")]


def scores_by_group(
    probability: ArrayLike,
    truth: ArrayLike,
    mask: ArrayLike,
    threshold: ArrayLike,
    subject: ArrayLike,
    aus: Sequence[int],
    group: ArrayLike,
) -> dict[str, Any]:
    """The same scores for each group of frames, and how far the groups are apart.

    Args:
      probability, truth, mask, threshold, subject, aus: as for ``score``.
      group: (n,) name of the group of each frame: a skin tone, a bin of poses, "yes" or "no" ...

    Returns:
      ``groups``: name -> ``score`` with the number of ``frames``; ``worst`` and ``best``: names of the groups
      with the lowest and highest mean skew-normalised F1 over the AUs that every group has, ``aus`` (F1
      follows how often an AU occurs, which differs between groups); ``gap``: their difference. Worst, best
      and gap are None if fewer than two groups or no common AU are left.

    Raises:
      ValueError: not one group name for each frame.
    """
    names = np.asarray(group)
    probability, truth, mask, subject = (np.asarray(x) for x in (probability, truth, mask, subject))
    if names.shape != (len(probability),):
        raise ValueError(f"group of shape {names.shape}: give one name for each of {len(probability)} frames")
    thresholds = np.broadcast_to(threshold, probability.shape)
    groups: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few subjects; each group's score says so itself
        for name in sorted(set(names.tolist())):
            rows = names == name
            found = score(probability[rows], truth[rows], mask[rows], thresholds[rows], subject[rows], aus)
            groups[str(name)] = found | {"frames": int(rows.sum())}
    common, means = _means_over_common(list(groups.values()), aus)
    report: dict[str, Any] = {"groups": groups, "aus": common, "worst": None, "best": None, "gap": None}
    if common and len(groups) > 1:
        ranked = [list(groups)[i] for i in np.argsort(means, kind="stable")]
        report |= {"worst": ranked[0], "best": ranked[-1], "gap": float(max(means) - min(means))}
    return report


def shortcut_drop(usual: Score, independent: Score, aus: Sequence[int]) -> dict[str, Any]:
    """How much worse a detector is where AUs no longer occur together as they did in training.

    Args:
      usual: its ``score`` on faces like those it was trained on (profile "balanced").
      independent: its ``score`` where every AU comes on its own (profile "factorial").
      aus: the k AU numbers of both.

    Returns:
      ``per_au``: ``{"au", "f1", "skew_f1", "auc"}``, each usual less independent, None where either is
      undefined; ``mean``: of the skew-normalised F1 over the AUs that have one, ``aus``; None if none has.
      Skew-normalised F1 and AUC do not follow how often an AU occurs; F1 does.
    """
    metrics = ("f1", "skew_f1", "auc")
    per_au = []
    for number, one, other in zip(aus, usual["per_au"], independent["per_au"], strict=True):
        drops = {m: None if None in (one[m], other[m]) else one[m] - other[m] for m in metrics}
        per_au.append({"au": int(number), **drops})
    common, means = _means_over_common([usual, independent], aus)
    return {"per_au": per_au, "mean": float(means[0] - means[1]) if common else None, "aus": common}


def _means_over_common(scores: Sequence[Score], aus: Sequence[int]) -> tuple[list[int], list[float]]:
    """The AUs whose skew-normalised F1 is defined in all of them, and its mean over these in each."""
    values = np.array([[row["skew_f1"] for row in one["per_au"]] for one in scores], float)
    defined = np.isfinite(values).all(0)
    return [int(au) for au, kept in zip(aus, defined, strict=True) if kept], [
        float(row[defined].mean()) if defined.any() else float("nan") for row in values
    ]
