"""The vertex grid of the face: rows by height, columns by azimuth, with two slits.

The reference face has its eyes and lips closed. Two rows are doubled, the eye line and the lip
line: no faces span the two copies, so lids and lips can part with the right topology while the
mesh stays a plain (ROWS, COLUMNS) array. Textures follow the skin, and normals are differences.

Head frame, millimetres, right-handed: +x the subject's left (image right in a frontal picture),
+y up, +z out of the face. Origin between the pupils, near the ear axis in depth.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

# Named for the reader; a checker sees any array, because OpenCV's stubs do not tell these apart.
Floats = npt.NDArray[Any]
Ints = npt.NDArray[Any]
Bools = npt.NDArray[Any]

EYE_LINE, LIP_LINE = 0.0, -66.0  # mm: height of the doubled rows

# (from mm, to mm, rows); both ends belong to the band. Bands meet at the doubled rows. Rows are
# dense (1.5 to 1.8 mm) around the eyes and the mouth.
_BANDS_ABOVE_EYES = ((118.0, 34.0, 18), (32.0, EYE_LINE, 21))
_BANDS_BETWEEN = ((EYE_LINE, -14.0, 9), (-16.0, -42.0, 12), (-44.0, LIP_LINE, 16))
_BANDS_BELOW_LIPS = ((LIP_LINE, -88.0, 16), (-90.5, -117.0, 11), (-119.0, -165.0, 6))


def _heights(bands: tuple[tuple[float, float, int], ...]) -> Floats:
    return np.concatenate([np.linspace(start, stop, rows) for start, stop, rows in bands])


_ABOVE, _BETWEEN, _BELOW = map(_heights, (_BANDS_ABOVE_EYES, _BANDS_BETWEEN, _BANDS_BELOW_LIPS))

ROW_HEIGHT = np.concatenate([_ABOVE, _BETWEEN, _BELOW])
"""(ROWS,) mm, falling: the height of each row on the reference face."""

ROWS = len(ROW_HEIGHT)
EYE_UPPER, LIP_UPPER = len(_ABOVE) - 1, len(_ABOVE) + len(_BETWEEN) - 1
EYE_LOWER, LIP_LOWER = EYE_UPPER + 1, LIP_UPPER + 1
SLITS = ((EYE_UPPER, EYE_LOWER), (LIP_UPPER, LIP_LOWER))

ABOVE_EYE_SLIT = np.arange(ROWS) <= EYE_UPPER
ABOVE_LIP_SLIT = np.arange(ROWS) <= LIP_UPPER

_QUARTER = np.concatenate([np.linspace(0, 52, 37), np.linspace(52, 125, 15)[1:]])
AZIMUTH = np.concatenate([-_QUARTER[:0:-1], _QUARTER])
"""(COLUMNS,) degrees, rising: angle about the vertical axis, 0 straight ahead."""

COLUMNS = len(AZIMUTH)
MIDDLE = COLUMNS // 2  # the column of the mid-sagittal plane


def _triangles() -> Ints:
    index = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    present = np.ones((ROWS - 1, COLUMNS - 1), bool)
    present[[EYE_UPPER, LIP_UPPER]] = False
    corners = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]], -1)
    quads = corners[present]
    # The diagonal runs the same way in mirrored columns, so that the mesh is its own mirror image.
    left_half = (quads[:, 0] % COLUMNS) < MIDDLE
    falling = np.concatenate([quads[left_half][:, [0, 2, 1]], quads[left_half][:, [1, 2, 3]]])
    rising = np.concatenate([quads[~left_half][:, [0, 2, 3]], quads[~left_half][:, [0, 3, 1]]])
    return np.concatenate([falling, rising]).astype(np.int32)


TRIANGLES = _triangles()
"""(n, 3) int32 indices into the flattened grid, counter-clockwise seen from outside."""


def smoothstep(start: float, stop: float, value: Floats) -> Floats:
    """0 before ``start``, 1 after ``stop`` (which may be smaller), cubic between."""
    t = np.clip((value - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def gaussian(distance: Floats, width: float | Floats) -> Floats:
    """exp(-distance^2 / (2 width^2)): 1 on the line, .14 at twice the width."""
    return np.exp(-0.5 * np.square(distance / width))


def spot(x: Floats, y: Floats, center: tuple[float, float], width: tuple[float, float]) -> Floats:
    """An axis-aligned Gaussian hill of height 1 in reference coordinates (mm)."""
    return np.exp(-0.5 * (np.square((x - center[0]) / width[0]) + np.square((y - center[1]) / width[1])))


def sample(values: Floats, points: Floats) -> Floats:
    """Bilinear values of a grid array at fractional places.

    Args:
      values: (ROWS, COLUMNS, ...) any vertex attribute.
      points: (p, 2) fractional (row, column). A point on a doubled row has a whole row number and
        never mixes the two sides of the slit.

    Returns:
      (p, ...) in the dtype of ``values``.
    """
    row = np.minimum(np.floor(points[:, 0]).astype(int), ROWS - 2)
    column = np.minimum(np.floor(points[:, 1]).astype(int), COLUMNS - 2)
    shape = (len(points),) + (1,) * (values.ndim - 2)
    down = (points[:, 0] - row).astype(values.dtype).reshape(shape)
    right = (points[:, 1] - column).astype(values.dtype).reshape(shape)
    upper = (1 - right) * values[row, column] + right * values[row, column + 1]
    lower = (1 - right) * values[row + 1, column] + right * values[row + 1, column + 1]
    return (1 - down) * upper + down * lower
