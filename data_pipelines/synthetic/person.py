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
SCALES = {"linear": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "facs": (0.0, 0.08, 0.2, 0.45, 0.75, 1.0)}
"""Share of the full movement at intensities 0 to 5. FACS's letters are unequal: C and D cover wide ranges."""
_HAIR_CENTER = np.array([0, 20, 5], np.float32)  # mm: hair stands off the head away from here
_VERSION_KEY = 10  # part of every seed, so that another version draws other people


class Person:
    """A person drawn from a seed: the same seed gives the same face everywhere.

    Traits are drawn at once (a fraction of a millisecond); shape, skin and wrinkles when they are first
    asked for.

    Attributes:
      traits: see ``traits.Traits``.
      cloth: (3,) RGB of the clothes, linear light.
    """

    def __init__(self, seed: int | Sequence[int]):
        key = (seed,) if isinstance(seed, int) else tuple(seed)
        if not key or any(part < 0 for part in key):
            raise ValueError(f"seed {seed!r}: a person needs one or more integers of 0 or above")
        seeds = np.random.SeedSequence([_VERSION_KEY, *key]).spawn(5)
        traits, cloth, self._skin_seed, self._fold_seed, self._backdrop_seed = seeds
        self.traits = draw_traits(np.random.default_rng(traits))
        self.cloth: Floats = np.random.default_rng(cloth).uniform(0.02, 0.5, 3)
        self._backdrops: dict[int, Floats] = {}

    def weights(self, intensities: Floats, scale: str = "linear") -> Floats:
        """Applied AU weights (..., 25) of intensities (..., 25) 0..5: scale, gains, then saturation.

        Args:
          scale: a key of ``SCALES``.
        """
        share = np.interp(intensities, np.arange(6.0), SCALES[scale])
        return limit_weights(share * self.traits.gains)

    @cached_property
    def shape(self) -> HeadShape:
        """The geometry."""
        return HeadShape(self.traits.identity)

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
