"""Expression: one displacement field per Action Unit, at the amplitude of intensity E (weight 1).

Amplitudes are in millimetres and follow the muscles of the FACS manual: AU12 pulls the lip corners
up, out and back, AU6 lifts the cheek and the lower lid, and so on. Cut into a right and a left half
each, and with three movements that no AU here accounts for, they are the 51 expression shapes of the
morphable model.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import (
    ABOVE_EYE_SLIT,
    ABOVE_LIP_SLIT,
    AZIMUTH,
    LIP_LINE,
    Floats,
    smoothstep,
    spot,
)
from jaxau.morphable.head import (
    ACROSS,
    EYE_INNER,
    EYE_OUTER,
    MEAN_HEAD,
    MOUTH_CORNER,
    REFERENCE_X,
    REFERENCE_Y,
    bump,
    thicker_lip,
)

NEUTRAL_OPENING = (5.7, 5.3)  # mm by which the upper lid stands above, the lower below, the eye line
LID_REACH = (19.0, 13.0)  # mm of skin above / below the eye line that follows a lid
JAW_HINGE = (-20.0, 8.0)  # (y, z) mm of the axis about which the jaw turns
JAW_DROP = {26: 10.0, 27: 20.0}  # degrees at weight 1

Bump = tuple[tuple[float, float], tuple[float, float], tuple[float, float, float]]
"""(centre |x|, y), (width x, y), (outwards, up, forwards): the arguments of ``head.bump``."""

BUMPS: dict[int, tuple[Bump, ...]] = {
    1: (
        ((11, 24), (11, 12), (0.6, 9.5, 0.8)),
        ((9, 45), (14, 12), (0, 3.5, 1)),
    ),
    2: (
        ((43, 22), (13, 12), (0.5, 9.5, 0.5)),
        ((40, 42), (15, 12), (0, 3.5, 1)),
        ((36, 9), (9, 5), (0, 1.5, 0)),
    ),
    4: (
        ((12, 22), (13, 13), (-4.5, -7.8, 2.2)),
        ((37, 21), (12, 13), (-2.5, -3.6, 0.5)),
        ((20, 9), (10, 7), (0, -1.5, 0.5)),  # the lid fold gives way
    ),
    6: (
        ((40, -24), (14, 11), (0, 6.5, 4)),
        ((34, -12), (14, 9), (0, 4, 1.5)),
        ((55, -2), (9, 9), (-2.8, 1, 1)),
        ((48, 16), (9, 8), (-0.8, -2.2, 0)),
    ),
    7: (((31, -9), (13, 5), (0, 1.8, 0.8)),),
    9: (
        ((12, -33), (8, 13), (1.0, 5.5, 1.5)),
        ((13, -42), (7, 7), (1.5, 3.5, 1)),
        ((8, 3), (8, 9), (-1.5, -3, 2)),
        ((11, 20), (10, 9), (-1.8, -4.5, 1.5)),
        ((27, -8), (10, 6), (0, 2.5, 1)),
    ),
    10: (
        ((22, -48), (8, 10), (1.5, 5, 2.5)),
        ((27, -30), (10, 11), (0, 3.5, 2)),
        ((13, -42), (5, 5), (1.5, 2, 0)),
    ),
    11: (
        ((25, -45), (8, 10), (2.4, 3.6, 2.2)),
        ((20, -58), (8, 6), (1.0, 1.6, 0.5)),
    ),
    12: (
        ((28, -66), (12, 11), (10, 10, -5)),
        ((42, -40), (13, 13), (2.5, 6, 4.5)),
        ((34, -10), (13, 6), (0, 1.2, 0.5)),
        ((10, -63), (12, 8), (0, 1.5, -2)),
        ((12, -75), (14, 7), (0, 1.5, -1.5)),
    ),
    14: (
        ((30, -66), (8, 7.5), (6.0, 1.0, -7.2)),
        ((36, -60), (6, 8), (-2.4, 0, 3.0)),
        ((10, -66), (14, 6), (1.8, 0, -1.2)),
    ),
    15: (
        ((26, -69), (10, 10), (1.5, -9.5, -1)),
        ((18, -86), (9, 8), (0, -3, 2)),
    ),
    16: (((10, -86), (12, 7), (0, -3, 1.5)),),
    17: (
        ((0, -94), (15, 11), (0, 7, 4)),
        ((0, -72), (17, 11), (0, 4.8, 3)),
        ((24, -70), (9, 8), (0, -2.5, 0)),
    ),
    18: (((0, -66), (15, 11), (0, 0, 8.5)),),
    20: (
        ((29, -67), (12, 10), (10.5, -2, -4)),
        ((34, -88), (13, 16), (4, -3, 0)),
        ((8, -62), (14, 5), (0, -1.2, -1.5)),
        ((8, -72), (14, 5), (0, 1.2, -1.5)),
    ),
    22: (
        ((0, -60), (16, 9), (0, 0.8, 6)),
        ((0, -73), (16, 9), (0, -1.2, 6)),
    ),
    23: (((0, -66), (16, 9), (0, 0, 1)),),
    24: (
        ((0, -66), (22, 9), (0, 0, -4.1)),
        ((0, -54), (17, 5), (0, 0, 1.9)),
        ((0, -81), (16, 5), (0, 0, 2.4)),
    ),
    28: (  # the red margins roll in over the teeth
        ((0, -66), (22, 8), (0, 0, -6.5)),
        ((0, -81), (16, 7), (0, 2.0, 1.5)),
    ),
    43: (((31, 0), (9, 7), (0, -3.2, 0)),),  # lids meet below the middle of the eye
}
LIDS = {  # mm by which the upper lid rises / the lower lid falls
    5: (3.4, 0.0),
    6: (-0.7, -1.9),
    7: (-1.8, -2.9),
    43: (-NEUTRAL_OPENING[0], -NEUTRAL_OPENING[1]),
}
UPPER_LIP: dict[int, Bump] = {
    9: ((12, -57), (10, 8), (0, 4, 1)),
    10: ((9, -60), (14, 10), (0, 5.4, 1.2)),
}
LOWER_LIP: dict[int, Bump] = {16: ((8, -73), (14, 8), (0, -7, 2))}
LIPS_APART = {
    22: (1.2, 2.2),
    25: (2.0, 4.0),
    27: (1.5, 0.0),
}  # mm, upper lip up / lower lip down at the middle
VERMILION = {22: -1.6, 23: 3.3, 24: 4.1, 28: 4.4}  # mm by which each lip's red margin gets thinner
NARROWER = {  # share of x taken away around (height), (width x, y)
    18: (0.42, -66.0, (26.0, 15.0)),
    22: (0.20, -66.0, (26.0, 15.0)),
    23: (0.13, -66.0, (22.0, 11.0)),
    26: (0.05, -70.0, (24.0, 20.0)),
    27: (0.20, -72.0, (26.0, 26.0)),
}


@dataclass(frozen=True)
class Opening:
    """Fields (ROWS, COLUMNS, 3) that part a slit by 1 mm: upper row up, lower row down."""

    upper: Floats
    lower: Floats


def _upwards(y: Floats) -> Floats:
    return np.stack([np.zeros_like(y), y, np.zeros_like(y)], -1)


def lid_fade(distance: Floats, reach: float) -> Floats:
    """How far skin at a distance (mm) from the lid margin follows it: linear, the least folding."""
    return np.clip(1 - distance / reach, 0, 1)


def _eye_opening() -> Opening:
    """The almond of the fissure, and the skin that a lid gathers."""
    t = np.clip((ACROSS - EYE_INNER) / (EYE_OUTER - EYE_INNER), 0, 1)
    arch = 4 * t * (1 - t)
    upper = arch**0.62 * (1 + 0.18 * (0.45 - t))
    lower = arch**0.75 * (1 - 0.25 * (0.5 - t))
    above = ABOVE_EYE_SLIT[:, None]
    return Opening(
        upper=_upwards(upper * above * lid_fade(REFERENCE_Y, LID_REACH[0])),
        lower=_upwards(-lower * ~above * lid_fade(-REFERENCE_Y, LID_REACH[1])),
    )


def _lip_opening() -> Opening:
    across = 1 - np.clip(ACROSS / MOUTH_CORNER, 0, 1) ** 2.4
    above = ABOVE_LIP_SLIT[:, None]
    from_line = REFERENCE_Y - LIP_LINE
    return Opening(
        upper=_upwards(across * above * (1 - smoothstep(0, 20, from_line))),
        lower=_upwards(-across * ~above * (1 - smoothstep(0, 30, -from_line))),
    )


EYE_OPENING, LIP_OPENING = _eye_opening(), _lip_opening()
NEUTRAL = NEUTRAL_OPENING[0] * EYE_OPENING.upper + NEUTRAL_OPENING[1] * EYE_OPENING.lower
"""(ROWS, COLUMNS, 3) mm: opens the eyes of the reference head."""


def _jaw_share() -> Floats:
    """How far a vertex follows the jaw, 0..1; the two lip rows agree beyond the mouth corners."""
    from_line = REFERENCE_Y - LIP_LINE
    above = ABOVE_LIP_SLIT[:, None]
    softness = 3 + 55 * np.clip((ACROSS - 0.8 * MOUTH_CORNER) / 40, 0, 1)
    cheek = 1 / (1 + np.exp(2.2 * from_line / softness))
    corner = 0.5 * np.clip(ACROSS / MOUTH_CORNER, 0, 1) ** 2.2
    outside = smoothstep(0.75 * MOUTH_CORNER, 1.7 * MOUTH_CORNER, ACROSS)
    upper = corner * (1 - smoothstep(0, 16, from_line)) * (1 - outside)
    upper = upper + cheek * outside * (1 - smoothstep(0, 60, from_line))
    lower = (1 - corner) * (1 - outside) + np.maximum(cheek, 0.5) * outside
    share = np.where(above, upper, lower)
    front = smoothstep(112, 70, np.abs(AZIMUTH))[None]
    return share * front * smoothstep(-170, -108, REFERENCE_Y)


def turn_jaw(points: Floats, degrees: float) -> Floats:
    """Turn points (..., 3) of the lower jaw about its hinge; positive opens the mouth."""
    hinge_y, hinge_z = JAW_HINGE
    angle = np.deg2rad(degrees)
    y, z = points[..., 1] - hinge_y, points[..., 2] - hinge_z
    return np.stack(
        [
            points[..., 0],
            y * np.cos(angle) - z * np.sin(angle) + hinge_y,
            y * np.sin(angle) + z * np.cos(angle) + hinge_z,
        ],
        -1,
    )


def _lip_bump(item: Bump, rows: Floats) -> Floats:
    """A bump on one lip only, gone at the mouth corners so that the lip rows still meet there."""
    inside = np.clip(1 - (ACROSS / MOUTH_CORNER) ** 3, 0, 1)
    return bump(*item) * (inside * rows)[..., None]


def action_field(au: int) -> Floats:
    """(ROWS, COLUMNS, 3) mm by which an AU moves the mean head at weight 1."""
    au = 43 if au == 45 else au
    field = np.zeros_like(MEAN_HEAD)
    for item in BUMPS.get(au, ()):
        field += bump(*item)
    if au in UPPER_LIP:
        field += _lip_bump(UPPER_LIP[au], ABOVE_LIP_SLIT[:, None])
    if au in LOWER_LIP:
        field += _lip_bump(LOWER_LIP[au], ~ABOVE_LIP_SLIT[:, None])
    if au in LIDS:
        field += LIDS[au][0] * EYE_OPENING.upper + LIDS[au][1] * EYE_OPENING.lower
    if au in LIPS_APART:
        parted = LIPS_APART[au][0] * LIP_OPENING.upper + LIPS_APART[au][1] * LIP_OPENING.lower
        field += parted
        field[..., 2] += 0.3 * np.abs(parted[..., 1])
    if au in VERMILION:
        field -= VERMILION[au] * (thicker_lip(upper=True) + thicker_lip(upper=False))
    if au in NARROWER:
        share, height, width = NARROWER[au]
        field[..., 0] -= share * REFERENCE_X * spot(ACROSS, REFERENCE_Y, (0, height), width)
    if au in JAW_DROP:
        field += (turn_jaw(MEAN_HEAD, JAW_DROP[au]) - MEAN_HEAD) * _jaw_share()[..., None]
    return field


@lru_cache(maxsize=1)
def expression_basis() -> Floats:
    """(25, ROWS, COLUMNS, 3) float32, mm at weight 1, in the order of ``facs.SYNTHETIC_AUS``."""
    return np.stack([action_field(au) for au in SYNTHETIC_AUS]).astype(np.float32)


ONE_SIDED = np.tanh(REFERENCE_X / 15)
"""(ROWS, COLUMNS): -1 on the subject's right, 1 on his left, smooth over the middle."""

_HALVED_AUS = tuple(au for au in SYNTHETIC_AUS if au != 45)  # a blink is AU43, only shorter
_MORE_SHAPES = ("jaw forwards", "jaw to the left", "cheeks puffed")

SHAPES = (*(f"AU{au:02d} {side}" for au in _HALVED_AUS for side in ("right", "left")), *_MORE_SHAPES)
"""Names of the 51 expression shapes."""


@lru_cache(maxsize=1)
def expression_shapes() -> Floats:
    """(51, ROWS, COLUMNS, 3) float32, mm at weight 1, in the order of ``SHAPES``.

    AU fields in halves; they fade into each other over the middle of the face and add up to the whole.
    """
    right, left = ((1 + side * ONE_SIDED)[..., None] / 2 for side in (-1, 1))
    halves = [action_field(au) * half for au in _HALVED_AUS for half in (right, left)]
    jaw = _jaw_share()[..., None]
    puffed = bump((38, -62), (16, 18), (7, 0, 7))
    more = [jaw * np.array([0.0, 0.0, 6.0]), jaw * np.array([8.0, 0.0, 0.0]), puffed]
    return np.stack([*halves, *more]).astype(np.float32)


def shape_weights(weights: Floats, asymmetry: float = 0.0) -> Floats:
    """Coefficients (..., 51) of `expression_shapes` for AU weights (..., 25).

    Args:
      weights: applied AU weights (see ``limit_weights``).
      asymmetry: expressions are 1 + asymmetry times stronger on the subject's left, and weaker on his right.
    """
    weights = np.array(weights, np.float32)
    closed = [SYNTHETIC_AUS.index(au) for au in (43, 45)]
    weights[..., closed[0]] = weights[..., closed].sum(-1)
    halved = np.delete(weights, closed[1], -1)
    sides = np.stack([halved * np.float32(1 - asymmetry), halved * np.float32(1 + asymmetry)], -1)
    flat = sides.reshape(*weights.shape[:-1], 2 * len(_HALVED_AUS))
    return np.concatenate([flat, np.zeros((*weights.shape[:-1], len(_MORE_SHAPES)), np.float32)], -1)


ANTAGONISTS = ((4,), (9, 10, 11), (12, 14, 15, 20), (16, 17), (18, 22, 23, 24, 28), (26, 27), (43, 45))
"""AUs that pull the same piece of skin: beyond a sum of 1 their weights saturate together.
AU4 alone would gather more skin than there is between brow and lid."""

_SATURATION = 0.3  # how far the sum of a group may go beyond 1


def limit_weights(weights: Floats) -> Floats:
    """Saturate the weights of AUs that pull the same skin, as skin does.

    Args:
      weights: (..., 25) weights of the AUs of ``facs.SYNTHETIC_AUS``, 1 at intensity E.

    Returns:
      (..., 25): each group of ANTAGONISTS scaled so that its sum s > 1 becomes
      1 + .3 (1 - exp(-(s - 1) / .3)), which is smooth and rising, and below 1.3.
    """
    limited = np.array(weights)
    for group in ANTAGONISTS:
        columns = [SYNTHETIC_AUS.index(au) for au in group]
        total = limited[..., columns].sum(-1, keepdims=True)
        excess = np.maximum(total - 1, 0)
        saturated = total - excess + _SATURATION * (1 - np.exp(-excess / _SATURATION))
        limited[..., columns] *= saturated / np.maximum(total, 1e-6)
    return limited
