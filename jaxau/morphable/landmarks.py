"""Landmarks of 68, 49 and 98 points as places on the mesh.

A landmark is a fractional (row, column) of the grid, so it follows identity, expression and pose
exactly. 68 points are in the iBUG / Multi-PIE order, 98 in the WFLW order, both 0-based and
starting at the subject's right ear (image left); 49 are 68 without the jaw and the inner mouth
corners. Both schemes are laid on the mesh on their own: there is no exact map from 68 to 98.
Jaw points are the three-dimensional (semantic) ones, and not the silhouette that annotators of pictures mark
where a head is turned; ``on_outline`` gives that.
"""

import numpy as np

from jaxau.morphable.camera import Camera
from jaxau.morphable.grid import (
    ABOVE_EYE_SLIT,
    ABOVE_LIP_SLIT,
    AZIMUTH,
    COLUMNS,
    EYE_LOWER,
    EYE_UPPER,
    LIP_LINE,
    LIP_LOWER,
    LIP_UPPER,
    MIDDLE,
    ROW_HEIGHT,
    Floats,
    sample,
)
from jaxau.morphable.head import (
    EYE_INNER,
    EYE_OUTER,
    MOUTH_CORNER,
    REFERENCE_X,
    vermilion_lower,
    vermilion_upper,
)

Places = list[tuple[float, float]]

# (azimuth degrees, reference height mm) from the ear to beside the chin.
_JAW = ((92, -4), (91, -40), (88, -80), (76, -112), (60, -112), (44, -112), (29, -112), (14, -112))
_CHIN = -113.0
# (|x|, y) mm of the brow from its outer to its inner end: iBUG's line, WFLW's two edges.
_BROW = ((50, 19.5), (41, 24.5), (31, 25.5), (20, 24), (10, 20.5))
_BROW_UPPER = ((50, 20), (41, 26), (31, 27.5), (20, 26.5), (10, 23))
_BROW_LOWER = ((43, 20.5), (33, 22.5), (22, 21.5), (11, 18))
_NOSE_RIDGE = (2.0, -12.0, -25.0, -37.0)  # y
_NOSE_BASE = ((-13.5, -45.0), (-7.0, -47.5), (0.0, -49.0), (7.0, -47.5), (13.5, -45.0))
_UPPER_LIP_X = (-16.0, -5.5, 0.0, 5.5, 16.0)
_LOWER_LIP_X = (15.0, 7.5, 0.0, -7.5, -15.0)
_INNER_CORNER, _INNER_LIP_X = 22.0, (-9.0, 0.0, 9.0)


def _row(height: float) -> float:
    """Fractional row of a reference height, on the outer side of both slits (eyes up, mouth down)."""
    usable = ~ABOVE_LIP_SLIT if height <= LIP_LINE else np.ones(len(ROW_HEIGHT), bool)
    if LIP_LINE < height <= 0:
        usable = ~ABOVE_EYE_SLIT
    rows = np.flatnonzero(usable)
    return float(np.interp(-height, -ROW_HEIGHT[rows], rows))


def _at(x: float, height: float) -> tuple[float, float]:
    row = _row(height)
    return row, _column(x, row)


def _column(x: float, row: float) -> float:
    """Fractional column where the reference face has that x, in front of the ears."""
    front = np.arange(MIDDLE - 48, MIDDLE + 49)
    above = int(row)
    below = min(above + 1, len(ROW_HEIGHT) - 1)
    line = REFERENCE_X[above, front] * (1 - row + above) + REFERENCE_X[below, front] * (row - above)
    return float(np.interp(x, line, front))


def _around(azimuth: float, height: float) -> tuple[float, float]:
    return _row(height), float(np.interp(azimuth, AZIMUTH, np.arange(COLUMNS)))


def _jaw() -> Places:
    right = [_around(-azimuth, height) for azimuth, height in _JAW]
    left = [_around(azimuth, height) for azimuth, height in reversed(_JAW)]
    return [*right, _around(0.0, _CHIN), *left]


def _brows(edge: tuple[tuple[float, float], ...]) -> tuple[Places, Places]:
    """Right brow from outer to inner, left brow from inner to outer."""
    return [_at(-x, y) for x, y in edge], [_at(x, y) for x, y in reversed(edge)]


def _eyes(shares: tuple[float, ...]) -> Places:
    """Clockwise from the image-left corner of each eye; ``shares`` of the fissure, from inside."""
    inside = [EYE_INNER + share * (EYE_OUTER - EYE_INNER) for share in shares]
    points: Places = []
    for xs in ([-EYE_OUTER, *[-x for x in reversed(inside)], -EYE_INNER],
               [EYE_INNER, *inside, EYE_OUTER]):  # fmt: skip
        points += [(float(EYE_UPPER), _column(x, EYE_UPPER)) for x in xs]
        points += [(float(EYE_LOWER), _column(x, EYE_LOWER)) for x in reversed(xs[1:-1])]
    return points


def _mouth() -> Places:
    """Outer border (12), then inner border (8), each clockwise from the subject's right corner."""
    upper = [_at(x, float(vermilion_upper(np.array(x)))) for x in _UPPER_LIP_X]
    lower = [_at(x, float(vermilion_lower(np.array(x)))) for x in _LOWER_LIP_X]
    corner = [(float(LIP_UPPER), _column(s * MOUTH_CORNER, LIP_UPPER)) for s in (-1, 1)]
    inner = [(float(LIP_UPPER), _column(s * _INNER_CORNER, LIP_UPPER)) for s in (-1, 1)]
    inner_upper = [(float(LIP_UPPER), _column(x, LIP_UPPER)) for x in _INNER_LIP_X]
    inner_lower = [(float(LIP_LOWER), _column(x, LIP_LOWER)) for x in reversed(_INNER_LIP_X)]
    outer = [corner[0], *upper, corner[1], *lower]
    return [*outer, inner[0], *inner_upper, inner[1], *inner_lower]


def _nose() -> Places:
    return [_at(0.0, y) for y in _NOSE_RIDGE] + [_at(x, y) for x, y in _NOSE_BASE]


def _points_68() -> Floats:
    right, left = _brows(_BROW)
    return np.array([*_jaw(), *right, *left, *_nose(), *_eyes((0.3, 0.7)), *_mouth()])


def _points_98() -> Floats:
    """All but the two pupils, which lie on the eyeballs and not on the skin: (96, 2)."""
    jaw = np.array(_jaw())
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(jaw, axis=0), axis=1))])
    even = np.linspace(0, length[-1], 33)
    contour = list(zip(*(np.interp(even, length, jaw[:, i]) for i in (0, 1)), strict=True))
    right_upper, left_upper = _brows(_BROW_UPPER)
    right_lower, left_lower = _brows(_BROW_LOWER)
    brows = [*right_upper, *reversed(right_lower), *left_upper, *reversed(left_lower)]
    eyes = _eyes((0.25, 0.5, 0.75))
    return np.array([*contour, *brows, *_nose(), *eyes, *_mouth()])


LANDMARKS_68 = _points_68()
"""(68, 2) fractional (row, column)."""

LANDMARKS_98 = _points_98()
"""(96, 2) fractional (row, column): WFLW's points 0..95; 96 and 97 are the pupils."""

FROM_68_TO_49 = np.r_[17:60, 61:64, 65:68]
"""Indices of the 49 points among the 68."""

JAW_POINTS = {49: 0, 68: 17, 98: 33}
"""How many of the first landmarks of a scheme are of the jaw."""

_FRONT = np.flatnonzero(np.abs(AZIMUTH) <= 100)  # columns that can be on the outline of a face


def on_outline(places: Floats, vertices: Floats, camera: Camera) -> Floats:
    """Jaw places moved along their rows to the outline of the face, where the head hides them from a camera.

    Several points of the far side of a turned jaw come to lie together: they have one row.

    Args:
      places: (n, 2) fractional (row, column) of the jaw.
      vertices: (ROWS, COLUMNS, 3) mm, head frame.
      camera: that looks at them.
    """
    (top, bottom), _ = camera.project(np.array([[0.0, 50.0, 60.0], [0.0, -50.0, 60.0]]))
    across = np.array([[0.0, 1.0], [-1.0, 0.0]]) @ (bottom - top)
    moved = np.array(places)
    for place in moved:
        row = np.stack([np.full(len(_FRONT), place[0]), _FRONT], -1)
        reach = camera.project(sample(vertices, row).astype(np.float64))[0] @ across
        place[1] = np.clip(place[1], _FRONT[reach.argmin()], _FRONT[reach.argmax()])
    return moved
