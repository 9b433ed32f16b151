"""The seven expressions of AffectNet on synthetic faces: the prototype that a face is most like."""

import numpy as np

from data_pipelines.corpora.affectnet import EMOTIONS
from data_pipelines.synthetic.profiles import PROFILES
from data_pipelines.synthetic.triplets import kinds
from jaxau.morphable.grid import Floats, Ints

_PROTOTYPES = {
    "smile": "happy",
    "sadness": "sad",
    "surprise": "surprise",
    "fear": "fear",
    "disgust": "disgust",
    "frown": "anger",
}
"""Event of the balanced profile -> the emotion of which it is the prototype."""


def emotions(intensities: Floats) -> Ints:
    """The emotion that each face shows.

    Args:
      intensities: (n, 25) 0..5, in the order of ``facs.SYNTHETIC_AUS``.

    Returns:
      (n,) int32 indices into AffectNet's `EMOTIONS`; -1 where a face is most like an expression that is the
      prototype of none of them, such as pressed lips.
    """
    events = PROFILES["balanced"].events
    of_kind = [EMOTIONS.index(_PROTOTYPES[name]) if name in _PROTOTYPES else -1 for name in events]
    # The kind of a neutral face is -1, the last place.
    return np.array([*of_kind, EMOTIONS.index("neutral")], np.int32)[kinds(intensities)]
