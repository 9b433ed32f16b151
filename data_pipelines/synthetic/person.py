"""One synthetic person: everything about the face that stays the same from clip to clip."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from data_pipelines.synthetic.backdrop import make_backdrop
from data_pipelines.synthetic.skin import Skin, make_skin
from data_pipelines.synthetic.traits import draw_traits
from data_pipelines.synthetic.wrinkles import Wrinkles, make_wrinkles
from jaxau.morphable.expression import limit_weights
from jaxau.morphable.grid import Floats
from jaxau.morphable.shape import HeadShape

GENERATOR_VERSION = "synth-1.0"
_HAIR_CENTER = np.array([0, 20, 5], np.float32)  # mm: hair stands off the head away from here
_VERSION_KEY = 10  # part of every seed, so that another version draws other people


class Person:
    """A person drawn from a seed: the same seed gives the same face everywhere.

    Shape and traits are drawn at once (about a millisecond); skin and wrinkles when a picture is
    first asked for.

    Attributes:
      traits: see ``traits.Traits``.
      shape: the geometry, see ``jaxau.morphable.shape.HeadShape``.
      cloth: (3,) RGB of the clothes, linear light.
    """

    def __init__(self, seed: int | Sequence[int]):
        key = (seed,) if isinstance(seed, int) else tuple(seed)
        if not key or any(part < 0 for part in key):
            raise ValueError(f"seed {seed!r}: a person needs one or more integers of 0 or above")
        seeds = np.random.SeedSequence([_VERSION_KEY, *key]).spawn(5)
        traits, cloth, self._skin_seed, self._fold_seed, self._backdrop_seed = seeds
        self.traits = draw_traits(np.random.default_rng(traits))
        self.shape = HeadShape(self.traits.identity)
        self.cloth: Floats = np.random.default_rng(cloth).uniform(0.02, 0.5, 3)
        self._backdrops: dict[int, Floats] = {}

    def weights(self, intensities: Floats) -> Floats:
        """Applied AU weights (..., 21) of intensities (..., 21) 0..5: gains, then saturation."""
        return limit_weights(intensities / 5 * self.traits.gains)

    @cached_property
    def skin(self) -> Skin:
        """Colour and gloss of skin, lips, brows, beard and hair."""
        return make_skin(np.random.default_rng(self._skin_seed), self.traits)

    @cached_property
    def wrinkles(self) -> Wrinkles:
        """The folds of this face."""
        return make_wrinkles(np.random.default_rng(self._fold_seed), self.traits.wrinkle_strength)

    @cached_property
    def hair(self) -> Floats:
        """(ROWS, COLUMNS, 3) float32 mm by which hair stands off the skin; it does not flex."""
        outwards = self.shape.neutral - _HAIR_CENTER
        outwards /= np.linalg.norm(outwards, axis=-1, keepdims=True)
        return outwards * self.skin.hair_volume[..., None]

    def backdrop(self, size: int) -> Floats:
        """(size, size, 3) float32 linear light: the wall behind this person."""
        if size not in self._backdrops:
            rng = np.random.default_rng(self._backdrop_seed)
            self._backdrops = {size: make_backdrop(rng, size)}
        return self._backdrops[size]
