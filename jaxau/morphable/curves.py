"""Landmarks as a fit sees them: their schemes, the contours among them, and whether a face can be fitted."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxau.morphable.grid import Floats

SCHEMES = {
    68: np.arange(68),
    66: np.r_[0:60, 61:64, 65:68],
    49: np.r_[17:60, 61:64, 65:68],
    98: np.arange(96),
}
"""Number of landmarks -> which of the model's they are; of the 98 the pupils are left out."""

CURVES = (
    tuple(range(17)),  # jaw
    tuple(range(17, 22)), tuple(range(22, 27)),  # brows
    (36, 37, 38, 39), (39, 40, 41, 36), (42, 43, 44, 45), (45, 46, 47, 42),  # lids
    tuple(range(48, 55)), (54, 55, 56, 57, 58, 59, 48),  # outer lips
    (60, 61, 62, 63, 64), (64, 65, 66, 67, 60),  # inner lips
)  # fmt: skip
"""Contours among the 68; their first and last points are compared as points, as are those of the nose."""

_CURVES_98 = (
    tuple(range(33)),
    tuple(range(33, 38)), tuple(range(38, 42)), tuple(range(42, 47)), tuple(range(47, 51)),
    tuple(range(60, 65)), (64, 65, 66, 67, 60), tuple(range(68, 73)), (72, 73, 74, 75, 68),
    tuple(range(76, 83)), (82, 83, 84, 85, 86, 87, 76),
    tuple(range(88, 93)), (92, 93, 94, 95, 88),
)  # fmt: skip

# Points that lie on each other when lids or lips are closed.
_MAY_MEET_68 = {(37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65), (48, 60), (54, 64)}
_MAY_MEET_98 = {
    (61, 67), (62, 66), (63, 65), (69, 75), (70, 74), (71, 73), (89, 95), (90, 94), (91, 93), (76, 88), (82,
    92),
}  # fmt: skip
_FLAT = 0.02  # least ratio of the extents of a face's points


def check_landmarks(landmarks: Floats) -> list[str]:
    """Why faces (b, p, 2) cannot be fitted; "" where they can.

    Reasons: missing points, two points in one place (lids and lips may touch, and a turned jaw's outline be
    one point), all points on one line.

    Raises:
      ValueError: another shape, or a number of points of which no 68 are known.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.ndim != 3 or landmarks.shape[2] != 2 or landmarks.shape[1] not in SCHEMES:
        raise ValueError(
            f"landmarks of shape {landmarks.shape}: a face model is fitted to (faces, points, 2) with "
            f"{', '.join(map(str, SCHEMES))} points"
        )
    names = SCHEMES[landmarks.shape[1]]
    points = landmarks[:, : len(names)]  # without pupils
    missing = np.count_nonzero(~np.isfinite(points).all(-1), axis=1)
    points = np.where(missing[:, None, None] > 0, 0, points)
    centered = points - points.mean(1, keepdims=True)
    extents = np.sqrt(np.maximum(np.linalg.eigvalsh(centered.mT @ centered), 0))  # the smaller first
    within = 1e-6 * np.maximum(extents[:, 1:, None], 1e-300)
    x, y = np.moveaxis(points, 2, 0)
    close = np.abs(x[:, :, None] - x[:, None]) <= within
    close &= np.abs(y[:, :, None] - y[:, None]) <= within
    close &= np.triu(np.ones(close.shape[1:], bool), 1)
    return [_reason(names, *face) for face in zip(missing, extents, close, strict=True)]


def _reason(names: Floats, missing: int, extents: Floats, close: Floats) -> str:
    may_meet, jaw = (_MAY_MEET_98, 33) if len(names) == 96 else (_MAY_MEET_68, 17)
    if missing:
        return f"{missing} of {len(names)} landmarks missing"
    pairs = [(int(names[i]), int(names[j])) for i, j in np.argwhere(close)] if close.any() else []
    same = [pair for pair in pairs if pair not in may_meet and pair[1] >= jaw]
    if same:
        return f"landmarks {same[0][0]} and {same[0][1]} in one place" + (
            f", and {len(same) - 1} more pairs" if len(same) > 1 else ""
        )
    return "landmarks on one line" if extents[0] < _FLAT * extents[1] else ""


class Contour(NamedTuple):
    """Landmarks (k,) inside of contours of m segments each; indices (k, m) of the segments' ends."""

    inner: Floats
    first: Floats
    last: Floats


@lru_cache(maxsize=8)
def contours(points: int) -> tuple[Contour, ...]:
    """The landmarks that are compared with curves and not with points, by how many segments their curve has.

    Args:
      points: of the scheme; indices count the landmarks that it keeps.
    """
    position = {int(name): i for i, name in enumerate(SCHEMES[points])}
    found: dict[int, list[tuple[int, list[int], list[int]]]] = {}
    for curve in _CURVES_98 if points == 98 else CURVES:
        present = [position[name] for name in curve if name in position]
        for inner in present[1:-1]:
            found.setdefault(len(present) - 1, []).append((inner, present[:-1], present[1:]))
    return tuple(
        Contour(*(np.array(column, np.int32) for column in zip(*rows, strict=True)))
        for rows in found.values()
    )
