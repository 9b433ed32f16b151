"""What a person is dealt: shape, sex, age, colours, hair, glasses and the strength of muscles."""

from dataclasses import dataclass

import numpy as np

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Floats
from jaxau.morphable.identity import LIMIT, MODES

# Standard deviations by which the sexes differ in shape (masculine, feminine).
_SEX_SHAPE = {
    "jaw_width": (0.7, -0.6),
    "brow_ridge": (0.8, -0.7),
    "brow_height": (-0.6, 0.5),
    "upper_lip": (-0.3, 0.4),
    "lower_lip": (0.0, 0.3),
}
# RGB 0..255, by chance in that order.
_HAIR_COLORS = (
    (28, 22, 18), (58, 40, 28), (92, 62, 40), (150, 110, 70), (50, 35, 25), (125, 120, 120),
)  # fmt: skip
_HAIR_CHANCE = (0.32, 0.25, 0.15, 0.10, 0.10, 0.08)
_IRIS_COLORS = (
    (60, 110, 70), (40, 60, 60), (90, 55, 35), (70, 40, 25), (70, 105, 120), (80, 120, 150),
)  # fmt: skip


@dataclass(frozen=True)
class Glasses:
    """A pair of spectacles: half width and height (mm), corner power, wire (mm), RGB 0..1."""

    half_width: float
    half_height: float
    power: float
    wire: float
    color: tuple[float, float, float]


@dataclass(frozen=True)
class Traits:
    """What a person was dealt.

    Attributes:
      identity: (27,) coefficients of the shape modes, standard normal, clipped.
      gains: (25,) how strongly this person's muscles act, about N(1, .16); 1 where eyes close (AU43, AU45).
      masculine: which of two groups of shapes, hair and beards the person comes from.
      melanin: 0 (fair) to 1 (dark).
      age: 0 (young) to 1 (old).
      wrinkle_strength: relief of the folds, about .2 to 1.3.
      hair: RGB 0..1 (sRGB-like).
      hair_length: 0 (cropped) to 3 (long).
      iris: RGB 0..1.
      glasses: spectacles or None.
    """

    identity: Floats
    gains: Floats
    masculine: bool
    melanin: float
    age: float
    wrinkle_strength: float
    hair: Floats
    hair_length: int
    iris: Floats
    glasses: Glasses | None


# Limits between a third of all people and the next, of the distributions in `draw_traits`.
_MELANIN_THIRDS, _AGE_THIRDS = (0.30, 0.60), (0.295, 0.524)


def groups(traits: Traits) -> dict[str, str]:
    """Sex, skin tone, age and glasses of a person, in words: the groups by which scores are compared.

    Skin and age are thirds of the population that people are drawn from.
    """
    return {
        "sex": "male" if traits.masculine else "female",
        "skin tone": _third(traits.melanin, _MELANIN_THIRDS, ("light", "medium", "dark")),
        "age": _third(traits.age, _AGE_THIRDS, ("young", "middle", "old")),
        "glasses": "no" if traits.glasses is None else "yes",
    }


def _third(value: float, limits: tuple[float, float], names: tuple[str, str, str]) -> str:
    return names[int(np.searchsorted(limits, value, side="right"))]


def draw_traits(rng: np.random.Generator) -> Traits:
    """Deal one person."""
    identity = np.clip(rng.normal(0, 1, len(MODES)), -LIMIT, LIMIT)
    masculine = bool(rng.random() < 0.5)
    for mode, (male, female) in _SEX_SHAPE.items():
        identity[MODES.index(mode)] += male if masculine else female
    gains = np.clip(rng.normal(1, 0.16, len(SYNTHETIC_AUS)), 0.65, 1.4)
    gains[[SYNTHETIC_AUS.index(au) for au in (43, 45)]] = 1
    age = float(rng.beta(1.6, 2.2))
    glasses = Glasses(
        half_width=rng.uniform(22, 25.5),
        half_height=rng.uniform(16, 20),
        power=rng.uniform(2, 4.5),
        wire=rng.uniform(1.2, 3.0),
        color=tuple(rng.uniform(0.04, 0.35, 3)),
    )
    return Traits(
        identity=np.clip(identity, -LIMIT, LIMIT).astype(np.float32),
        gains=gains.astype(np.float32),
        masculine=masculine,
        melanin=float(rng.beta(1.1, 1.3)),
        age=age,
        wrinkle_strength=float(np.clip(0.45 + 0.75 * age + rng.normal(0, 0.12), 0.2, 1.3)),
        hair=np.array(_HAIR_COLORS[rng.choice(len(_HAIR_COLORS), p=_HAIR_CHANCE)])
        * rng.uniform(0.8, 1.15)
        / 255,
        hair_length=int(rng.integers(0, 2) if masculine else rng.integers(0, 4)),
        iris=np.array(_IRIS_COLORS[rng.integers(len(_IRIS_COLORS))]) / 255,
        glasses=glasses if rng.random() < 0.2 else None,
    )
