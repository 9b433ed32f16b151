"""How often which expressions occur: the profiles of a data set.

``balanced`` is the default. ``bp4d`` and ``disfa`` have the base rates of those corpora (within 5 points,
for the AUs that their papers score). In ``factorial`` every AU comes and goes on its own, which no
recording offers: a network that was trained on ``balanced`` and falls there had leaned on AUs that occur
together.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Event(NamedTuple):
    """How often an expression occurs (relative), and the chance of each AU to take part."""

    frequency: float
    aus: dict[int, float]


@dataclass(frozen=True)
class Profile:
    """What happens on the faces of a data set.

    Attributes:
      events: by name; empty where every AU comes and goes alone.
      per_second: expressions that begin per second.
      apex: seconds at the apex in the mean.
    """

    events: dict[str, Event]
    per_second: float
    apex: float


_BALANCED = {
    "smile": Event(2.4, {12: 1, 6: 0.75, 25: 0.55, 7: 0.3, 10: 0.3, 26: 0.12, 11: 0.1}),
    "brow_raise": Event(1.6, {1: 1, 2: 0.85, 5: 0.3}),
    "frown": Event(1.7, {4: 1, 7: 0.6, 9: 0.12, 17: 0.2, 24: 0.2}),
    "sadness": Event(1.2, {1: 0.8, 4: 0.7, 15: 0.85, 17: 0.6, 11: 0.3}),
    "disgust": Event(1.0, {9: 0.7, 10: 0.9, 4: 0.5, 7: 0.5, 17: 0.4, 25: 0.3}),
    "surprise": Event(0.8, {1: 1, 2: 1, 5: 0.7, 25: 1, 26: 0.8, 27: 0.2}),
    "fear": Event(0.5, {1: 1, 2: 0.8, 4: 0.7, 5: 0.6, 20: 0.7, 25: 0.7}),
    "dimple": Event(1.4, {14: 1, 12: 0.3}),
    "lip_press": Event(3.2, {23: 0.7, 24: 0.7, 17: 0.4, 14: 0.3}),
    "lip_suck": Event(0.5, {28: 1, 17: 0.2}),
    "speech": Event(0.8, {25: 1, 26: 0.6, 16: 0.35, 18: 0.25, 22: 0.25}),
    "pucker": Event(0.5, {18: 1}),
    "chin_raise": Event(0.7, {17: 1, 15: 0.3}),
    "lip_stretch": Event(0.4, {20: 1, 25: 0.4}),
    "eyes_closed": Event(0.3, {43: 1, 7: 0.2}),
}

# Frequencies of the next two are fitted to the corpora's base rates by simulation.
_BP4D = {
    "happy": Event(0.545, {12: 1, 6: 0.85, 10: 0.8, 7: 0.75, 14: 0.35, 25: 0.2}),
    "disgust": Event(0.214, {10: 1, 7: 0.7, 4: 0.4, 9: 0.3, 17: 0.3}),
    "pain": Event(0.094, {4: 0.8, 7: 0.85, 6: 0.7, 10: 0.8, 17: 0.4, 9: 0.2}),
    "sadness": Event(0.062, {1: 0.7, 4: 0.7, 15: 0.8, 17: 0.7}),
    "surprise": Event(0.093, {1: 1, 2: 0.95, 5: 0.4, 25: 0.6, 26: 0.4}),
    "embarrassed_smile": Event(0.135, {12: 1, 14: 0.8, 24: 0.35, 23: 0.35, 17: 0.4, 6: 0.4}),
    "tight_lips": Event(0.90, {23: 1, 24: 0.5, 14: 0.3}),
    "pressed_lips": Event(0.36, {24: 1, 17: 0.4}),
    "chin_raise": Event(0.105, {17: 1, 14: 0.2}),
    "sneer": Event(0.208, {10: 1, 14: 0.5}),
    "squint": Event(0.193, {7: 1, 6: 0.4}),
    "grin": Event(0.183, {12: 1}),
    "speech": Event(0.04, {25: 1, 26: 0.6, 16: 0.3, 18: 0.2, 22: 0.2}),
    "stretch": Event(0.02, {20: 1}),
    "pucker": Event(0.02, {18: 1}),
    "lip_suck": Event(0.02, {28: 1}),
    "brow_raise": Event(0.12, {1: 1, 2: 0.9}),
    "eyes_closed": Event(0.02, {43: 1}),
    "corner_down": Event(0.533, {15: 1}),
    "nasolabial": Event(0.03, {11: 1}),
    "jaw_drop": Event(0.01, {27: 1}),
}
_DISFA = {
    "smile": Event(0.152, {12: 1, 6: 0.6, 25: 0.55, 26: 0.15}),
    "disgust": Event(0.048, {9: 0.8, 10: 0.6, 4: 0.6, 17: 0.4}),
    "fear": Event(0.009, {1: 1, 2: 0.8, 4: 0.7, 5: 0.6, 20: 0.5, 25: 0.8}),
    "surprise": Event(0.035, {1: 1, 2: 1, 5: 0.6, 25: 1, 26: 0.6}),
    "frown": Event(0.105, {4: 1, 17: 0.2, 7: 0.3}),
    "speech": Event(0.014, {25: 1, 26: 0.3, 16: 0.1}),
    "lips_part": Event(0.05, {25: 1}),
    "sadness": Event(0.036, {4: 0.7, 15: 0.8, 17: 0.7, 1: 0.3}),
    "jaw_drop": Event(0.045, {26: 1}),
    "press": Event(0.03, {24: 0.6, 23: 0.6, 14: 0.3}),
    "pucker": Event(0.02, {18: 0.7, 22: 0.4}),
    "dimple": Event(0.02, {14: 1}),
    "stretch": Event(0.01, {20: 1}),
    "eyes_closed": Event(0.01, {43: 1}),
    "yawn": Event(0.01, {27: 1, 25: 0.5}),
    "nasolabial": Event(0.01, {11: 1}),
    "lip_suck": Event(0.01, {28: 1}),
}

PROFILES: dict[str, Profile] = {
    "balanced": Profile(_BALANCED, per_second=1.25, apex=0.55),
    "bp4d": Profile(_BP4D, per_second=1.72, apex=2.2),
    "disfa": Profile(_DISFA, per_second=0.44, apex=1.0),
    "factorial": Profile({}, per_second=0.0, apex=0.0),
}
