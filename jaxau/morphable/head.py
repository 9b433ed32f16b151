"""The mean head: a generalised cylinder with Gaussian features, in the reference state.

Proportions are those of an adult (mm): pupil distance 63, eye fissure 16 to 46.5 from the middle,
lip line 66 and chin 112 below the eyes, mouth half-width 26, head half-width 76.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from jaxau.morphable.grid import (
    ABOVE_LIP_SLIT,
    AZIMUTH,
    LIP_LINE,
    ROW_HEIGHT,
    Floats,
    gaussian,
    smoothstep,
    spot,
)

EYE_INNER, EYE_OUTER = 16.0, 46.5  # |x| of the eye corners
MOUTH_CORNER = 26.0  # |x|
EYEBALL_CENTER = (31.5, 0.9, 72.4)  # the subject's left eye; the right one is its mirror image
EYEBALL_RADIUS = 12.0

# Profiles by height: (height, value) in mm.
_FRONT_DEPTH = (
    (120, -5), (116, 18), (108, 45), (95, 66), (80, 79), (60, 88), (40, 92.5), (22, 94), (8, 90),
    (-5, 87.5), (-20, 87), (-45, 89.5), (-60, 91), (-75, 88.5), (-85, 86), (-98, 87), (-106, 85),
    (-112, 79), (-117, 68), (-122, 45), (-140, 30), (-165, 26),
)  # fmt: skip
_HALF_WIDTH = (
    (120, 3), (116, 26), (108, 45), (95, 60), (80, 69.5), (60, 75), (35, 76.5), (10, 75),
    (-15, 72.5), (-40, 69.5), (-60, 67.5), (-75, 67), (-90, 65.5), (-102, 63.5), (-112, 62),
    (-118, 58), (-125, 53), (-165, 54),
)  # fmt: skip
_HALF_DEPTH = (
    (120, 5), (110, 45), (90, 75), (60, 88), (0, 88), (-60, 84), (-90, 78), (-112, 72), (-120, 66),
    (-130, 55), (-165, 54),
)  # fmt: skip
# How far a row climbs from the middle of the face to the ear: the jaw line is one row.
_LIFT = (
    (120, 0), (-10, 0), (-30, 2), (-50, 8), (-66, 17), (-88, 33), (-112, 49), (-119, 49),
    (-140, 32), (-165, 12),
)  # fmt: skip
_NOSE_DEPTH = (
    (20, 0), (12, 0.3), (6, 1.0), (0, 3.6), (-10, 8.3), (-20, 13.2), (-30, 17.8), (-36, 20.6),
    (-40, 20.0), (-44, 14.2), (-47, 5.5), (-50, 1.0), (-56, 0),
)  # fmt: skip
_NOSE_HALF_WIDTH = ((-50, 7.0), (-44, 7.6), (-38, 7.8), (-30, 7.0), (-20, 6.3), (0, 6.0), (10, 8))


def _profile(table: tuple[tuple[float, float], ...], height: Floats) -> Floats:
    """Monotone cubic (PCHIP) interpolation of a table of (height, value)."""
    heights, values = zip(*sorted(table), strict=True)
    return PchipInterpolator(heights, values)(height)


def vermilion_upper(x: Floats) -> Floats:
    """Height (mm) of the upper border of the lips, with Cupid's bow; LIP_LINE outside the mouth."""
    return LIP_LINE + 8.2 * np.clip(1 - (x / 26.2) ** 2, 0, 1) ** 0.75 * (1 - 0.2 * gaussian(x, 3))


def vermilion_lower(x: Floats) -> Floats:
    """Height (mm) of the lower border of the lips; LIP_LINE outside the mouth."""
    return LIP_LINE - 9.8 * np.clip(1 - (x / 25) ** 2, 0, 1) ** 0.6


def _cylinder() -> tuple[Floats, Floats, Floats]:
    """x, y, z (ROWS, COLUMNS) of the smooth head, before any row is lifted."""
    y = np.repeat(ROW_HEIGHT[:, None], len(AZIMUTH), 1)
    sine, cosine = np.sin(np.deg2rad(AZIMUTH)), np.cos(np.deg2rad(AZIMUTH))
    power = 2 / (2.25 - 0.33 * smoothstep(-50, -105, y))  # a rounder section towards the chin
    depth = _profile(_HALF_DEPTH, y)
    x = _profile(_HALF_WIDTH, y) * np.sign(sine) * np.abs(sine) ** power
    z = _profile(_FRONT_DEPTH, y) + depth * (np.sign(cosine) * np.abs(cosine) ** power - 1)
    return x, y, z


def _features(x: Floats, y: Floats) -> Floats:
    """Depth (mm) that the features of the face add to the cylinder."""
    ax = np.abs(x)
    depth = 3.0 * spot(ax, y, (24, 20), (15, 6.5)) + spot(ax, y, (0, 20), (9, 7))  # brow ridge
    depth -= 5.2 * spot(ax, y, (31, 0), (13, 10)) + 3.0 * spot(ax, y, (17, -2), (6, 8))  # sockets

    nose_heights, nose_widths = np.array(_NOSE_HALF_WIDTH).T
    nose_width = np.interp(y, nose_heights, nose_widths)
    depth += _profile(_NOSE_DEPTH, np.clip(y, -56, 20)) * np.exp(-0.5 * (ax / nose_width) ** 2.3)
    depth += 9.0 * spot(ax, y, (13, -40.5), (4.2, 4.8))  # wings of the nose, and their grooves
    depth -= 2.4 * spot(ax, y, (21, -40), (4.5, 7)) + 1.2 * spot(ax, y, (10.5, -34), (2.2, 4))

    depth += 4.5 * spot(ax, y, (44, -17), (17, 11)) + 2.0 * spot(ax, y, (20, -52), (10, 9))  # cheeks
    depth -= 2.2 * spot(ax, y, (50, -50), (13, 15)) + 8.5 * spot(ax, y, (33, -70), (15, 18))

    upper = np.clip(1 - (ax / 28) ** 2, 0, 1)
    lower = np.clip(1 - (ax / 25) ** 2, 0, 1)
    depth += 4.8 * upper**0.7 * gaussian(y + 61.8, 4.0) + 4.6 * lower**0.6 * gaussian(y + 71.5, 4.3)
    depth -= 3.2 * upper**0.4 * gaussian(y - LIP_LINE, 1.6)
    depth -= 2.2 * spot(ax, y, (27.5, -66), (4, 4))
    depth += 0.6 * spot(ax, y, (5, -54), (2.2, 5)) - 0.9 * spot(ax, y, (0, -54), (2.3, 5))  # philtrum
    depth += 4.2 * spot(ax, y, (0, -99), (13, 9)) - 2.2 * spot(ax, y, (0, -80.5), (15, 4))  # chin
    return depth


def _mean_head() -> tuple[Floats, Floats, Floats]:
    x, y, z = _cylinder()
    from_front = np.abs(AZIMUTH)[None]
    lifted = y + _profile(_LIFT, y) * smoothstep(20, 100, from_front)
    z = z + _features(x, y) * smoothstep(100, 60, from_front)
    vertices = np.stack([x, lifted, z], -1)
    ear = spot(from_front, y, (94, -14), (5.5, 15))
    vertices[..., 0] += 15 * ear * np.sign(x)
    vertices[..., 2] -= 4 * ear
    return vertices, x, y


MEAN_HEAD, REFERENCE_X, REFERENCE_Y = _mean_head()
"""(ROWS, COLUMNS, 3) mm: the mean head with closed eyes; and the (ROWS, COLUMNS) coordinates
across and along the face in which identity, expression, wrinkles and skin are described."""

ACROSS = np.abs(REFERENCE_X)
SIDE = np.tanh(REFERENCE_X / 7)  # -1 the subject's right, +1 his left, smooth over the middle
FRONT = np.repeat(smoothstep(105, 62, np.abs(AZIMUTH))[None], len(ROW_HEIGHT), 0)


def thicker_lip(upper: bool) -> Floats:
    """Upward field (ROWS, COLUMNS, 3) that thickens one lip by 1 mm at its middle.

    It grows evenly from the lip line, where nothing moves, to the border of the red margin and
    fades over 14 mm of skin: an even stretch folds the mesh least.
    """
    sign, border = (1, vermilion_upper) if upper else (-1, vermilion_lower)
    margin = sign * (border(REFERENCE_X) - LIP_LINE)
    side = ABOVE_LIP_SLIT[:, None] if upper else ~ABOVE_LIP_SLIT[:, None]
    distance = np.where(side, sign * (REFERENCE_Y - LIP_LINE), 0)
    fading = margin * np.clip(1 - (distance - margin) / 14, 0, 1)
    height = np.minimum(distance, fading) / margin.max()
    return np.stack([np.zeros_like(height), sign * height, np.zeros_like(height)], -1)


def bump(
    center: tuple[float, float],
    width: tuple[float, float],
    displacement: tuple[float, float, float],
) -> Floats:
    """A displacement field (ROWS, COLUMNS, 3) in mm: a Gaussian hill on both sides of the face.

    Args:
      center: (|x|, y) reference mm.
      width: standard deviations (x, y) in mm.
      displacement: (outwards, up, forwards) mm at the centre; "outwards" is away from the middle.
    """
    hill = spot(ACROSS, REFERENCE_Y, center, width) * FRONT
    outwards = hill * SIDE if center[0] > 0 else np.zeros_like(hill)
    return np.stack([outwards * displacement[0], hill * displacement[1], hill * displacement[2]], -1)
