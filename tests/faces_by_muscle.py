"""Thirty random people whose faces are moved by AUs, and what each AU must move on them."""

from collections.abc import Callable, Mapping

import numpy as np

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.expression import limit_weights
from jaxau.morphable.grid import Floats, sample
from jaxau.morphable.identity import LIMIT, MODES
from jaxau.morphable.landmarks import LANDMARKS_68, _at
from jaxau.morphable.shape import HeadShape

PEOPLE = 30
NASOLABIAL = (68, 69)  # two places on the folds beside the nose, after the 68 landmarks
_PLACES = np.concatenate([LANDMARKS_68, [_at(-25.0, -46.0), _at(25.0, -46.0)]])
Face = tuple[HeadShape, Floats]
"""A shape, and how strongly each of its muscles acts."""


def random_people() -> list[Face]:
    rng = np.random.default_rng(0)
    people = []
    for _ in range(PEOPLE):
        identity = np.clip(rng.normal(0, 1, len(MODES)), -LIMIT, LIMIT)
        gains = np.clip(rng.normal(1, 0.16, len(SYNTHETIC_AUS)), 0.65, 1.4)
        gains[[SYNTHETIC_AUS.index(au) for au in (43, 45)]] = 1
        people.append((HeadShape(identity), gains))
    return people


PERSONS = random_people()
MEAN_PERSON: Face = (HeadShape(np.zeros(len(MODES))), np.ones(len(SYNTHETIC_AUS)))


def vertices(person: Face, aus: Mapping[int, float]) -> Floats:
    shape, gains = person
    weights = np.zeros(len(SYNTHETIC_AUS))
    for au, intensity in aus.items():
        weights[SYNTHETIC_AUS.index(au)] = intensity / 5
    return shape.vertices(limit_weights(weights * gains))


def points(person: Face, aus: Mapping[int, float]) -> Floats:
    return sample(vertices(person, aus), _PLACES)


def _distance(p: Floats, a: int, b: int) -> float:
    return float(np.linalg.norm(p[a] - p[b]))


def _height(p: Floats, *where: int) -> float:
    return float(np.mean([p[i, 1] for i in where]))


def aperture(p: Floats) -> float:
    return _height(p, 37, 38, 43, 44) - _height(p, 40, 41, 46, 47)


def _vermilion(p: Floats) -> float:
    return p[51, 1] - p[62, 1] + p[66, 1] - p[57, 1]


# What grows with the intensity, and the mm by which it must have grown at E in the mean of the people.
METRICS: dict[int, tuple[Callable[[Floats], float], tuple[float, float]]] = {
    1: (lambda p: _height(p, 21, 22), (8, 11)),
    2: (lambda p: _height(p, 17, 26), (7.5, 10.5)),
    4: (lambda p: -_height(p, 21, 22) - _distance(p, 21, 22), (14, 20)),
    5: (aperture, (2.2, 3.8)),
    6: (lambda p: -aperture(p), (1.6, 3.2)),
    7: (lambda p: -aperture(p), (3.4, 5.2)),
    9: (lambda p: _height(p, 31, 35), (6.5, 9.5)),
    10: (lambda p: p[51, 1], (3.6, 5.2)),
    11: (lambda p: _height(p, *NASOLABIAL) + _distance(p, *NASOLABIAL), (7, 12)),
    12: (lambda p: _distance(p, 48, 54) + _height(p, 48, 54), (27, 38)),
    14: (lambda p: _distance(p, 48, 54) - (p[48, 2] + p[54, 2]) / 2, (14, 20)),
    15: (lambda p: -_height(p, 48, 54), (7.5, 11)),
    16: (lambda p: -p[57, 1], (5.4, 7.4)),
    17: (lambda p: p[57, 1], (5, 7.4)),
    18: (lambda p: -_distance(p, 48, 54), (11, 15.5)),
    20: (lambda p: _distance(p, 48, 54), (18, 27)),
    22: (lambda p: p[51, 2] + p[57, 2] + _vermilion(p), (14, 22)),
    23: (lambda p: -_vermilion(p), (4.7, 7)),
    24: (lambda p: -_vermilion(p), (6.3, 9)),
    25: (lambda p: p[62, 1] - p[66, 1], (5, 7)),
    26: (lambda p: -p[8, 1], (9, 12.5)),
    27: (lambda p: -p[8, 1], (16, 23)),
    28: (lambda p: -_vermilion(p) - 2 * p[51, 2], (12, 20)),
    43: (lambda p: -aperture(p), (8.5, 11)),
    45: (lambda p: -aperture(p), (8.5, 11)),
}

# AUs that move the same points: brows up and down, lids, the wing of the nose, lip corners, lips and jaw.
KIN: dict[int, set[int]] = {
    1: {4, 9},
    2: set(),
    4: {1, 9},
    5: {6, 7, 43, 45},
    6: {5, 7, 43, 45},
    7: {5, 6, 43, 45},
    9: {10},
    10: {9, 12, 17, 22, 23, 24, 25, 27, 28},
    11: {6, 9, 10, 12, 14, 18, 20, 22, 27},
    12: {14, 18, 20, 22, 27},
    14: {12, 18, 20, 22},
    15: {12, 20, 26, 27},
    16: {12, 17, 22, 23, 24, 25, 26, 27, 28},
    17: {12, 16, 22, 23, 24, 25, 26, 27, 28},
    18: {12, 14, 20, 22, 23, 27},
    20: {12, 14, 18, 22, 27},
    22: {12, 18, 20, 23, 24, 26, 27, 28},
    23: {16, 17, 20, 22, 24, 25, 27, 28},
    24: {16, 17, 22, 23, 28},
    25: {10, 16, 22, 26, 27},
    26: {27},
    27: {26},
    28: {16, 17, 18, 22, 23, 24},
    43: {5, 7, 45},
    45: {5, 7, 43},
}
