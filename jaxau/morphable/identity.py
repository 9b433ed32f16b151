"""Identity: how the shape of one head differs from the mean, as linear modes.

A person is a vector of standard normal coefficients. Every mode vanishes on the difference of the
doubled rows, except the two that are meant to open the eyes more or less: a lip-thickness mode that
leaked into the lip line would show teeth that no AU accounts for.

The last six say how a face rests. Brows hang low, lids are heavy, corners of the mouth turn down on people
who feel nothing (standard deviations 2.2, 1.0 and 1.9 mm), so that a single picture is ambiguous and only
the same face at another time tells.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaxau.morphable.expression import BUMPS, EYE_OPENING, action_field
from jaxau.morphable.grid import (
    LIP_LINE,
    LIP_UPPER,
    MIDDLE,
    Floats,
    gaussian,
    smoothstep,
    spot,
)
from jaxau.morphable.head import ACROSS, MEAN_HEAD, REFERENCE_X, REFERENCE_Y, SIDE, bump, thicker_lip

MODES = (
    "face_width", "lower_face_length", "jaw_width", "chin", "nose_length", "nose_width",
    "nose_projection", "nose_hump", "eye_spacing", "eye_opening", "canthal_tilt", "brow_height",
    "brow_ridge", "mouth_width", "upper_lip", "lower_lip", "cheekbones", "fullness",
    "forehead_height", "mouth_height", "forehead_slope",
    "resting_brow", "resting_inner_brow", "resting_lids", "resting_corners", "resting_cheeks",
    "resting_chin",
)  # fmt: skip
"""Names of the modes, in the order of every identity coefficient vector."""

LIMIT = 2.2  # coefficients are clipped to +-LIMIT standard deviations


@dataclass(frozen=True)
class IdentityBasis:
    """Linear modes of identity.

    Attributes:
      vertices: (27, ROWS, COLUMNS, 3) float32, mm per standard deviation.
      eyeball: (27,) float32, mm outwards by which a mode moves the eyeballs.
      mouth: (27,) float32, mm upwards by which a mode moves the lip line (and so the teeth).
    """

    vertices: Floats
    eyeball: Floats
    mouth: Floats


def _field(x: float | Floats = 0.0, y: float | Floats = 0.0, z: float | Floats = 0.0) -> Floats:
    zero = np.zeros_like(REFERENCE_X)
    return np.stack([zero + x, zero + y, zero + z], -1)


@lru_cache(maxsize=1)
def identity_basis() -> IdentityBasis:
    """The modes of ``MODES`` as arrays; computed once per process."""
    x, y, ax = REFERENCE_X, REFERENCE_Y, ACROSS
    lip = np.clip(1 - (ax / 28) ** 2, 0, 1) ** 0.5
    longer = smoothstep(-30, -115, y) * smoothstep(-190, -120, y)
    modes = {
        "face_width": _field(x=0.041 * MEAN_HEAD[..., 0]),
        "lower_face_length": _field(y=-3.9 * longer - 1.7 * smoothstep(-119, -160, y)),
        "jaw_width": _field(x=3.75 * SIDE * spot(ax, y, (52, -80), (22, 26))),
        "chin": bump((0, -100), (14, 11), (0, -2, 5)),
        "nose_length": bump((0, -40), (14, 9), (0, -1.7, 0)) + bump((0, -20), (9, 12), (0, -0.5, 0)),
        "nose_width": bump((14, -41), (7, 7), (2.1, 0, 0.4)),
        "nose_projection": bump((0, -30), (9, 16), (0, 0, 3.8)),
        "nose_hump": bump((0, -14), (7, 9), (0, 0, 2.3)),
        "eye_spacing": bump((31, 0), (16, 14), (1.3, 0, 0)),
        "eye_opening": 0.6 * EYE_OPENING.upper + 0.4 * EYE_OPENING.lower,
        "canthal_tilt": _field(y=(ax - 31) / 15 * 1.2 * spot(ax, y, (31, 0), (14, 9))),
        "brow_height": bump((28, 23), (24, 9), (0, 1.3, 0)),
        "brow_ridge": bump((24, 18), (18, 8), (0, -0.5, 2.8)),
        "mouth_width": _field(x=0.05 * x * spot(ax, y, (0, LIP_LINE), (32, 13))),
        "upper_lip": 0.6 * thicker_lip(upper=True) + _field(z=0.6 * lip * gaussian(y + 62, 4)),
        "lower_lip": thicker_lip(upper=False) + _field(z=0.7 * lip * gaussian(y + 72, 4.5)),
        "cheekbones": bump((46, -18), (15, 12), (1.5, 0, 2.6)),
        "fullness": bump((46, -52), (17, 20), (3.0, 0, 3.4)),
        "forehead_height": _field(y=6 * smoothstep(25, 118, y), z=2 * smoothstep(25, 70, y)),
        "mouth_height": _field(y=-1.2 * spot(ax, y, (0, LIP_LINE), (40, 16))),
        "forehead_slope": _field(z=-6 * spot(ax, y, (0, 75), (55, 25)) + 2 * spot(ax, y, (0, 20), (40, 15))),
        "resting_brow": 0.30 * action_field(4) * [0, 1, 1],  # low, no closer
        "resting_inner_brow": 0.21 * action_field(1),
        "resting_lids": -1.0 * EYE_OPENING.upper,
        "resting_corners": 0.195 * action_field(15),
        "resting_cheeks": 0.25 * sum((bump(*item) for item in BUMPS[6]), np.zeros_like(MEAN_HEAD)),
        "resting_chin": 0.195 * action_field(17),
    }
    eyeball = {"face_width": 1.3, "eye_spacing": 1.3}
    vertices = np.stack([modes[name] for name in MODES]).astype(np.float32)
    return IdentityBasis(
        vertices=vertices,
        eyeball=np.array([eyeball.get(name, 0.0) for name in MODES], np.float32),
        mouth=vertices[:, LIP_UPPER, MIDDLE, 1].copy(),
    )
