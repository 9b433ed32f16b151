"""Landmark schemes: five points, mirroring, and the centres of the Action Units.

A scheme is known by its number of points:

===  =====================================================================================
  5  subject's right eye centre, left eye centre, nose tip, right and left mouth corner
 49  68 without the jaw and without the inner mouth corners (60 and 64)
 66  68 without the inner mouth corners (DISFA)
 68  iBUG / Multi-PIE
 98  WFLW
===  =====================================================================================

Coordinates are pixels, (0, 0) is the centre of the top-left pixel, x to the right, y down. Left and
right are the subject's: the right eye is on the left of the picture. Indices count from 0.
"""

import functools
from collections.abc import Iterable

import numpy as np

SCHEMES = (5, 49, 66, 68, 98)

# Where the 49 points are among the 68; the 66 points are the 68 without 60 and 64.
_OF_68 = np.array([*range(17, 60), 61, 62, 63, 65, 66, 67])
_OF_66 = np.arange(17, 66)

_SWAPPED_PAIRS_68 = (
    [(i, 16 - i) for i in range(8)]  # jaw
    + [(17 + i, 26 - i) for i in range(5)]  # brows
    + [(31, 35), (32, 34)]  # nose base
    + [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]  # eyes
    + [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58)]  # outer lip
    + [(60, 64), (61, 63), (65, 67)]  # inner lip
)
_SWAPPED_PAIRS_98 = (
    [(i, 32 - i) for i in range(16)]  # jaw
    + [(33 + i, 46 - i) for i in range(5)]  # upper edges of the brows
    + [(38 + i, 50 - i) for i in range(4)]  # lower edges of the brows
    + [(55, 59), (56, 58)]  # nose base
    + [(60 + i, 72 - i) for i in range(5)]  # upper lids
    + [(65, 75), (66, 74), (67, 73)]  # lower lids
    + [(76, 82), (77, 81), (78, 80), (83, 87), (84, 86)]  # outer lip
    + [(88, 92), (89, 91), (93, 95)]  # inner lip
    + [(96, 97)]  # pupils
)


def _order_from_pairs(points: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    order = np.arange(points)
    for a, b in pairs:
        order[a], order[b] = b, a
    return order


_MIRROR_68 = _order_from_pairs(68, _SWAPPED_PAIRS_68)


def _restrict(order: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The permutation of the kept points alone."""
    position = {int(point): i for i, point in enumerate(kept)}
    return np.array([position[int(point)] for point in order[kept]])


_MIRROR_ORDERS = {
    5: np.array([1, 0, 2, 4, 3]),
    49: _restrict(_MIRROR_68, _OF_68),
    66: _restrict(_MIRROR_68, np.array([i for i in range(68) if i not in (60, 64)])),
    68: _MIRROR_68,
    98: _order_from_pairs(98, _SWAPPED_PAIRS_98),
}

# JAA-Net's centres on the 49 points: two points, and how far they are moved down, in units of the
# horizontal distance between the inner eye corners (negative = up).
_JAA_CENTERS: dict[int, tuple[int, int, float]] = {
    1: (4, 5, -1 / 2),
    2: (1, 8, -1 / 3),
    4: (2, 7, 1 / 3),
    6: (24, 29, 1.0),
    7: (21, 26, 0.0),
    9: (15, 17, -1 / 2),
    10: (43, 45, 0.0),
    12: (31, 37, 0.0),
    14: (31, 37, 0.0),
    15: (31, 37, 0.0),
    17: (39, 41, 1 / 2),
    23: (34, 40, 0.0),
    24: (34, 40, 0.0),
    25: (34, 40, 0.0),
    26: (39, 41, 1 / 2),
}

# LAC's Table I on the 98 points: for each of the two centres the points over which x is averaged
# and the points over which y is averaged.
_RIGHT_EYE, _LEFT_EYE = tuple(range(60, 68)), tuple(range(68, 76))
_Side = tuple[tuple[int, ...], tuple[int, ...]]


def _mean_of(*points: int) -> _Side:
    return points, points


_LAC_CENTERS: dict[int, tuple[_Side, _Side]] = {
    1: (_mean_of(37), _mean_of(42)),
    2: (_mean_of(40), _mean_of(48)),
    4: (((37, 51), (37,)), ((42, 51), (42,))),
    6: (((67,), (52,)), ((73,), (52,))),
    7: (_mean_of(*_RIGHT_EYE), _mean_of(*_LEFT_EYE)),
    9: (_mean_of(51), _mean_of(53)),
    10: (_mean_of(77, 78), _mean_of(80, 81)),
    12: (_mean_of(88), _mean_of(92)),
    14: (_mean_of(88), _mean_of(92)),
    15: (_mean_of(88), _mean_of(92)),
    17: (_mean_of(15, 86), _mean_of(17, 84)),
    23: (_mean_of(89, 95), _mean_of(91, 93)),
    24: (_mean_of(89, 95), _mean_of(91, 93)),
    25: (_mean_of(89, 95), _mean_of(91, 93)),
    26: (_mean_of(83), _mean_of(87)),
}


def check_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Return ``landmarks`` as a floating-point array, or say why they are none.

    Args:
      landmarks: (..., p, 2) pixels, p one of `SCHEMES`.

    Raises:
      ValueError: another shape or number of points, or points that are missing (NaN) or infinite.
    """
    landmarks = np.asarray(landmarks)
    if landmarks.ndim < 2 or landmarks.shape[-1] != 2 or landmarks.shape[-2] not in SCHEMES:
        raise ValueError(
            f"landmarks of shape {landmarks.shape}: must be (..., points, 2) with one of "
            f"{SCHEMES} points; convert them to one of these schemes"
        )
    if not np.issubdtype(landmarks.dtype, np.floating):
        landmarks = landmarks.astype(np.float64)
    missing = int(np.count_nonzero(~np.isfinite(landmarks).all(-1)))
    if missing:
        total = landmarks.size // 2
        raise ValueError(
            f"landmarks with {missing} of {total} points missing (NaN or infinite): all points "
            "must be finite pixels; leave such a frame out, or mark it as one without a face"
        )
    return landmarks


def to_49(landmarks: np.ndarray) -> np.ndarray:
    """The 49 points that 49, 66 and 68 landmarks (..., p, 2) have in common."""
    points = landmarks.shape[-2]
    if points == 49:
        return landmarks
    return landmarks[..., _OF_66 if points == 66 else _OF_68, :]


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip and mouth corners, from which faces are aligned.

    Args:
      landmarks: (..., p, 2) pixels.

    Returns:
      (..., 5, 2) pixels: subject's right eye centre (left in the picture), left eye centre, nose
      tip, right mouth corner, left mouth corner. An eye centre is the mean of the eye's contour.

    Raises:
      ValueError: unknown number of points, or missing points.
    """
    landmarks = check_landmarks(landmarks)
    points = landmarks.shape[-2]
    if points == 5:
        return landmarks
    if points == 98:
        right, left, single = _RIGHT_EYE, _LEFT_EYE, (54, 76, 82)
    else:
        landmarks = to_49(landmarks)
        right, left, single = tuple(range(19, 25)), tuple(range(25, 31)), (13, 31, 37)
    eyes = [landmarks[..., eye, :].mean(-2, keepdims=True) for eye in (right, left)]
    return np.concatenate([*eyes, landmarks[..., single, :]], axis=-2)


def mirror_order(points: int) -> np.ndarray:
    """Permutation that renames the landmarks of a mirrored face.

    ``mirrored[i]`` is the old point ``mirror_order(p)[i]``; applying it twice changes nothing.

    Args:
      points: number of landmarks, one of `SCHEMES`.

    Returns:
      (points,) integers.

    Raises:
      ValueError: unknown number of points.
    """
    if points not in _MIRROR_ORDERS:
        raise ValueError(f"{points} landmarks: no such scheme; use one of {SCHEMES} points")
    return _MIRROR_ORDERS[points].copy()


def au_centers(landmarks: np.ndarray, aus: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """The two places, one on each side of the face, where each AU changes the skin.

    98 points follow Table I of LAC; 49, 66 and 68 points follow JAA-Net (Shao et al., IJCV 2021,
    and its public code), which moves some points up or down by parts of the horizontal distance
    between the inner eye corners: use landmarks of an aligned (upright) face.

    Args:
      landmarks: (..., p, 2) pixels.
      aus: AU numbers, k of them.

    Returns:
      centers: (..., k, 2, 2), for each AU two centres (x, y) in the unit of the landmarks; 0 where
        the mask is False.
      mask: (k,) bool, False for an AU without a defined centre, and for all AUs with 5 points.

    Raises:
      ValueError: unknown number of points, or missing points.
    """
    landmarks = check_landmarks(landmarks)
    weights, downwards, mask = _center_weights(landmarks.shape[-2], tuple(aus))
    if landmarks.shape[-2] not in (5, 98):
        landmarks = to_49(landmarks)
    weights = weights.astype(landmarks.dtype)
    centers = np.stack([landmarks[..., axis] @ weights[axis] for axis in (0, 1)], -1)
    centers = centers.reshape(*landmarks.shape[:-2], len(mask), 2, 2)
    if downwards.any():
        scale = np.abs(landmarks[..., 22, 0] - landmarks[..., 25, 0])
        centers[..., 1] += (scale[..., None] * downwards).astype(landmarks.dtype)[..., None]
    return centers, mask.copy()


@functools.lru_cache
def _center_weights(points: int, aus: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres as means of landmarks: by one product for all faces and AUs, since that is much quicker.

    Returns:
      Weights (2, p, 2 k) of the landmarks' x and y in both centres of each AU, p = 98, or 49 for fewer; how
      far down (k,) they then go, in distances of the inner eye corners; mask (k,), False without a centre.
    """
    defined: Iterable[int] = {5: (), 98: _LAC_CENTERS}.get(points, _JAA_CENTERS)
    mask = np.array([au in defined for au in aus], bool)
    weights = np.zeros((2, points if points in (5, 98) else 49, len(aus), 2))
    downwards = np.zeros(len(aus))
    for i, au in enumerate(aus):
        if not mask[i]:
            continue
        if points == 98:
            for side, over in enumerate(_LAC_CENTERS[au]):
                for axis, chosen in enumerate(over):
                    weights[axis, list(chosen), i, side] = 1 / len(chosen)
        else:
            right, left, downwards[i] = _JAA_CENTERS[au]
            weights[:, (right, left), i, (0, 1)] = 1
    return weights.reshape(*weights.shape[:2], 2 * len(aus)), downwards, mask
