"""Skin folds that muscles throw up: height maps per person, scaled by the AU weights.

AU4, 6, 9, 14 and 17 are hard to tell without them. A fold changes the shading normal (its slope)
and darkens the skin (its depth).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipelines.synthetic.texels import WRINKLE_SCALE, Texels, texels
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import LIP_LINE, Floats, gaussian, smoothstep, spot

DRIVERS: dict[str, dict[int, float]] = {
    "forehead_middle": {1: 1.0},
    "forehead_sides": {2: 1.0},
    "glabella": {4: 1.0, 9: 0.5},
    "nose_root": {9: 1.0},
    "crows_feet": {6: 1.0, 43: 0.12, 45: 0.12},
    "infraorbital": {6: 0.9, 7: 0.55, 9: 0.4},
    "nasolabial": {12: 1.0, 11: 0.9, 10: 0.9, 9: 0.55, 6: 0.25, 15: 0.2, 20: 0.2},
    "corner_dimple": {14: 1.0, 12: 0.25},
    "chin_pebbles": {17: 1.0, 15: 0.3, 28: 0.4},
    "below_lips": {15: 1.0, 17: 0.7, 16: 0.3},
    "pucker_lines": {18: 1.0, 23: 0.6, 28: 0.6},
    "lip_press": {24: 1.0, 23: 0.5, 28: 0.9},
    "cheek_bracket": {20: 1.0},
}
"""Which AU weights, and how much of each, deepen a fold."""

_HEIGHT = 0.55  # mm of relief per unit in the maps below
_MM_PER_CELL = (1.7, 1.8)  # rows, columns: close enough over the front of the face
_FAINT, _DEEPEST = 0.02, 1.4  # folds below are skipped; folds deepen no further


@dataclass(frozen=True)
class Wrinkles:
    """Folds of one person.

    Attributes:
      maps: (folds, height, width, 3) float32: slope to the subject's left, slope upwards (both
        mm per mm), depth (mm).
      strength: how deep this person's skin folds, about .2 (young) to 1.3 (old).
    """

    maps: Floats
    strength: float

    def folded(self, weights: Floats) -> Floats | None:
        """The (height, width, 3) sum of the folds that AU weights (25,) throw up; None if none."""
        depth = np.minimum((_MIXING @ weights) * self.strength, _DEEPEST).astype(np.float32)
        active = np.flatnonzero(depth > _FAINT)
        if not len(active):
            return None
        total = depth[active[0]] * self.maps[active[0]]
        for index in active[1:]:
            total += depth[index] * self.maps[index]
        return total


def _mixing() -> Floats:
    matrix = np.zeros((len(DRIVERS), len(SYNTHETIC_AUS)), np.float32)
    for row, drivers in enumerate(DRIVERS.values()):
        for au, share in drivers.items():
            matrix[row, SYNTHETIC_AUS.index(au)] = share
    return matrix


_MIXING = _mixing()


def make_wrinkles(rng: np.random.Generator, strength: float) -> Wrinkles:
    """Draw one person's folds; every furrow is jittered by about a millimetre."""
    place = texels(WRINKLE_SCALE)
    reliefs = {**_upper_face(rng, place), **_middle_face(place), **_lower_face(rng, place)}
    height = np.stack([reliefs[name] for name in DRIVERS]).astype(np.float32) * _HEIGHT
    maps = np.empty((*height.shape, 3), np.float32)
    maps[..., 0] = np.gradient(height, axis=2) * (WRINKLE_SCALE / _MM_PER_CELL[1])
    maps[..., 1] = np.gradient(height, axis=1) * (-WRINKLE_SCALE / _MM_PER_CELL[0])
    np.clip(-height, 0, 3, out=maps[..., 2])
    return Wrinkles(maps, strength)


def _upper_face(rng: np.random.Generator, place: Texels) -> dict[str, Floats]:
    x, ax, y = place.x, place.across, place.y
    phase = rng.uniform(0, 6)
    forehead = np.zeros_like(x)
    for line in range(4):
        course = 38 + 9.5 * line + rng.normal(0, 1) + 1.8 * np.sin(x / 14 + phase) + 0.0012 * x**2
        forehead -= gaussian(y - course, 1.3)
    on_forehead = smoothstep(30, 36, y)
    glabella = -gaussian(ax - (5.5 + rng.normal(0, 0.6) + 0.05 * (y - 20)), 1.3) * gaussian(y - 20, 8)
    glabella -= 0.5 * gaussian(x - rng.normal(0, 1), 1.0) * gaussian(y - 23, 5)
    glabella -= 0.6 * gaussian(y - 6 + 0.02 * x**2, 1.2) * smoothstep(12, 6, ax)
    root, sides = np.zeros_like(x), np.zeros_like(x)
    for line in range(3):
        root -= gaussian(y - (4 + 4.2 * line) + 0.02 * x**2, 1.0) * smoothstep(13, 6, ax)
        sides -= gaussian(y + 18 + 0.9 * (ax - 8) - 4 * line, 0.9)
    sides *= smoothstep(5, 8, ax) * smoothstep(17, 11, ax) * gaussian(y + 12, 9)
    return {
        "forehead_middle": forehead * smoothstep(34, 14, ax) * on_forehead,
        "forehead_sides": forehead * smoothstep(14, 36, ax) * smoothstep(66, 50, ax) * on_forehead,
        "glabella": 3.0 * glabella,
        "nose_root": 1.1 * root + 1.2 * sides,
    }


def _middle_face(place: Texels) -> dict[str, Floats]:
    ax, y = place.across, place.y
    feet = np.zeros_like(ax)
    for line, slope in enumerate((0.45, 0.12, -0.22, -0.5)):
        feet -= gaussian((y - 1) - slope * (ax - 46) - (1.5 - line) * 1.2, 0.95)
    feet *= smoothstep(50, 53, ax) * smoothstep(68, 58, ax)
    under_eye = -gaussian(y + 13.5 - 0.012 * (ax - 31) ** 2, 1.4)
    under_eye *= smoothstep(14, 20, ax) * smoothstep(50, 42, ax)
    fold = 19 + 15 * np.clip((-40 - y) / 34, 0, 1.2) ** 0.9  # from the wing of the nose outwards
    nasolabial = -gaussian(ax - fold, 2.0) * smoothstep(-36, -42, y) * smoothstep(-80, -68, y)
    return {
        "crows_feet": 1.3 * feet,
        "infraorbital": 1.3 * under_eye,
        "nasolabial": 2.1 * nasolabial,
    }


def _lower_face(rng: np.random.Generator, place: Texels) -> dict[str, Floats]:
    x, ax, y = place.x, place.across, place.y
    pebbles: Floats = rng.standard_normal(place.shape, np.float32)
    pebbles = cv2.GaussianBlur(pebbles, (0, 0), 0.8 * WRINKLE_SCALE)
    pebbles = pebbles / pebbles.std()
    below = -2 * gaussian(y + 82 - 0.010 * x**2, 1.8) * smoothstep(20, 10, ax)
    marionette = gaussian(ax - (27 + 0.12 * (LIP_LINE - y)), 1.5)
    below -= 1.2 * marionette * smoothstep(-66, -70, y) * smoothstep(-90, -80, y)
    pucker = -np.square(np.clip(np.sin(1.15 * x), 0, 1)) * smoothstep(18, 10, ax)
    bracket = -gaussian(ax - 36 - 0.05 * (y - LIP_LINE), 1.6)
    return {
        "corner_dimple": -3.2 * spot(ax, y, (30, -66), (2, 5)),
        "chin_pebbles": pebbles * spot(ax, y, (0, -97), (13, 9)),
        "below_lips": below,
        "pucker_lines": 0.9 * pucker * (gaussian(y + 56, 4) + 0.7 * gaussian(y + 78, 4)),
        "lip_press": -1.4 * (gaussian(y + 56.5, 1.3) + gaussian(y + 77, 1.3)) * smoothstep(24, 14, ax),
        "cheek_bracket": 1.3 * bracket * smoothstep(-50, -56, y) * smoothstep(-88, -78, y),
    }
