"""Training on several corpora at once, and on a fraction of one."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxau.faces.landmarks import to_49


def columns(aus: Sequence[int], coded: Sequence[int]) -> np.ndarray:
    """(k,) column of each AU in a corpus's labels, -1 where it does not code that AU."""
    return np.array([coded.index(au) if au in coded else -1 for au in aus], np.intp)


def take(values: np.ndarray, at: np.ndarray, missing: float) -> np.ndarray:
    """``values`` (..., n) in the columns ``at`` (k,), ``missing`` where that is -1."""
    padded = np.concatenate([values, np.full((*values.shape[:-1], 1), missing, values.dtype)], axis=-1)
    return padded[..., at]


def common_scheme(points: Sequence[int]) -> int:
    """The number of landmarks that all corpora of a mixture can be brought to.

    Raises:
      ValueError: there is none.
    """
    if len(set(points)) == 1:
        return points[0]
    if set(points) <= {49, 66, 68}:
        return 49
    raise ValueError(
        f"config.data.mixture: corpora with {list(points)} landmarks cannot be batched together; 49, 66 and "
        "68 can (as 49), or prepare them with the same detector or landmarks"
    )


def to_scheme(landmarks: np.ndarray, points: int) -> np.ndarray:
    """Landmarks (t, p, 2) as ``points`` of them."""
    return landmarks if landmarks.shape[-2] == points else to_49(landmarks)


def fewer_subjects(subjects: Sequence[str], fraction: float, seed: int) -> tuple[str, ...]:
    """A fraction of the subjects, at least one; a smaller fraction's are among a larger one's."""
    order = sorted(subjects, key=lambda name: _uniform(f"subject {seed} {name}"))
    return tuple(sorted(order[: max(1, math.ceil(fraction * len(order) - 1e-9))]))


def fewer_frames(video: Mapping[str, Any], fraction: float, seed: int) -> np.ndarray:
    """(n,) bool: which frames of a video of the manifest belong to that fraction; nested as "
    "`fewer_subjects`."""
    name = f"{video['subject_name']} {video['video']}"
    words = hashlib.sha256(f"frame {seed} {name}".encode()).digest()
    return np.random.default_rng(list(words)).random(len(video["frames"])) < fraction


def _uniform(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
