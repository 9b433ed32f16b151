"""How expressions come and go in a clip: AU intensities over time.

A clip is a few expression events (a smile, a frown ...) over a face at rest, and blinks. Each event draws
which AUs take part, how strongly, and a smooth onset, apex and offset for each. Times are in seconds;
spontaneous onsets last .3 to .8 s and offsets are slower.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from data_pipelines.synthetic.profiles import PROFILES, Event, Profile
from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Floats, Ints, smoothstep

STYLES = {"spontaneous": (1.0, 1.0), "posed": (0.6, 1.3)}
"""Factors of onset time and of strength: posed expressions come quicker and are larger."""

_WEAKEST, _STRONGEST = 0.4, 5.0
_BLINKS_PER_MINUTE = (10.0, 20.0)
# Seconds that lids take to close, stay shut and open: .1 to .4 s in all.
_BLINK = ((0.05, 0.10), (0.01, 0.06), (0.09, 0.22))
_COLUMN = {au: index for index, au in enumerate(SYNTHETIC_AUS)}
# Factorial: lips are parted or shut by chance, and what would contradict that is left out. AUs that hide
# others (27, 28, 43) take no part.
_PARTED, _SHUT = (10, 16, 22, 25, 26), (23, 24)
_EITHER = (1, 2, 4, 5, 6, 7, 9, 11, 12, 14, 15, 17, 18, 20)
_FACTORIAL_CHANCE = 0.36  # of each AU in each stretch of a clip: .3 of the frames are at its apex
_FACTORIAL_SECONDS = (1.2, 2.2)


class Phase(IntEnum):
    """Where in its course an AU is."""

    NEUTRAL = 0
    ONSET = 1
    APEX = 2
    OFFSET = 3


class Course(NamedTuple):
    """What the muscles do in a clip.

    Attributes:
      intensity: (frames, 25) float64, 0..5.
      phase: (frames, 25) int8 ``Phase`` of the event that is strongest at that time.
    """

    intensity: Floats
    phase: Ints


def draw_course(
    rng: np.random.Generator,
    frames: int,
    fps: float,
    profile: str,
    style: str = "spontaneous",
    neutral_start: bool = False,
) -> Course:
    """What the muscles do in one clip; see ``settle`` for what makes it agree with itself.

    Args:
      rng: source of randomness of this clip.
      frames: length of the clip.
      fps: frames per second.
      profile: a key of ``PROFILES``.
      style: a key of ``STYLES``.
      neutral_start: keep the first frame neutral.
    """
    seconds = np.arange(frames) / fps
    course = Course(np.zeros((frames, len(SYNTHETIC_AUS))), np.zeros((frames, len(SYNTHETIC_AUS)), np.int8))
    chosen = PROFILES[profile]
    if chosen.events:
        _add_events(rng, course, seconds, chosen, style)
    else:
        _add_independent_units(rng, course, seconds, style)
    _add_blinks(rng, course, seconds)
    if neutral_start:
        course.intensity[:] *= smoothstep(0, 0.3, seconds)[:, None]
    return course


def _add_events(
    rng: np.random.Generator, course: Course, seconds: Floats, profile: Profile, style: str
) -> None:
    events = list(profile.events.values())
    frequency = np.array([event.frequency for event in events])
    length = seconds[-1] + (seconds[1] if len(seconds) > 1 else 0.04)
    for _ in range(rng.poisson(profile.per_second * (length + 2))):
        event = events[rng.choice(len(events), p=frequency / frequency.sum())]
        _add_event(rng, course, seconds, event, profile.apex, style)
    course.intensity[:, _COLUMN[15]] *= smoothstep(1.2, 0.6, course.intensity[:, _COLUMN[12]])


def _add_event(
    rng: np.random.Generator, course: Course, seconds: Floats, event: Event, apex: float, style: str
) -> None:
    quicker, larger = STYLES[style]
    start = rng.uniform(-2, seconds[-1])  # some have begun before the clip
    peak = np.clip(rng.gamma(4.6, 0.68), 0.6, 5) * larger
    onset, offset = rng.uniform(0.28, 0.8) * quicker, rng.uniform(0.4, 1.28)
    hold = apex * rng.gamma(2.4) / 2.4
    taking_part = [au for au, chance in event.aus.items() if rng.random() < chance]
    if 27 in taking_part and 26 in taking_part:
        taking_part.remove(26)
    for au in taking_part:
        strength = np.clip(peak * rng.uniform(0.6, 1.25), _WEAKEST, _STRONGEST)
        begin = start + rng.normal(0, 0.1)
        top = begin + onset * rng.uniform(0.8, 1.3)
        _add_unit(rng, course, seconds, au, strength, (begin, top, top + hold, top + hold + offset))


def _add_unit(
    rng: np.random.Generator,
    course: Course,
    seconds: Floats,
    au: int,
    strength: float,
    times: tuple[float, float, float, float],
) -> None:
    """One AU of one event, from onset over ``times[1]`` and ``times[2]`` to the end of the offset."""
    begin, top, leave, end = times
    envelope = smoothstep(begin, top, seconds) * (1 - smoothstep(leave, end, seconds))
    tremor = 1 + 0.04 * np.sin(5 * seconds + rng.uniform(0, 6))
    intensity = np.clip(strength * envelope * tremor, 0, 5)
    stronger = intensity > course.intensity[:, _COLUMN[au]]
    phase = 1 + (seconds >= top).astype(np.int8) + (seconds >= leave).astype(np.int8)
    course.intensity[stronger, _COLUMN[au]] = intensity[stronger]
    course.phase[stronger, _COLUMN[au]] = phase[stronger]


def _add_independent_units(rng: np.random.Generator, course: Course, seconds: Floats, style: str) -> None:
    quicker, larger = STYLES[style]
    start = -rng.uniform(*_FACTORIAL_SECONDS)
    while start < seconds[-1]:
        stop = start + rng.uniform(*_FACTORIAL_SECONDS)
        parted = rng.random() < 0.5
        for au in (*_EITHER, *_PARTED, *_SHUT):
            takes_part = rng.random() < _FACTORIAL_CHANCE * (1 if au in _EITHER else 2)
            strength = np.clip(rng.gamma(4.6, 0.68) * larger, 1.8, _STRONGEST)
            onset, offset = rng.uniform(0.28, 0.8) * quicker, rng.uniform(0.4, 0.9)
            if takes_part and au not in (_SHUT if parted else _PARTED):
                times = (start, start + onset, stop - 0.3, stop - 0.3 + offset)
                _add_unit(rng, course, seconds, au, strength, times)
        start = stop


def _add_blinks(rng: np.random.Generator, course: Course, seconds: Floats) -> None:
    between = 60 / rng.uniform(*_BLINKS_PER_MINUTE)
    time = rng.exponential(between)
    while time < seconds[-1] + 0.2:
        shut, held, opened = np.cumsum([rng.uniform(*part) for part in _BLINK]) + time
        _add_unit(rng, course, seconds, 45, 5.0, (time, shut, held, opened))
        time = opened + 0.3 + rng.exponential(between)


def settle(intensity: Floats) -> Floats:
    """Make intensities (..., 25) agree with each other.

    27 takes the place of 26; parted lips (25) cannot be pressed, tightened or sucked in (23, 24, 28); lips
    that are sucked in cannot be seen to do anything else (18, 22, 23, 24); a shut eye (43, 45) shows neither
    a raised nor a tightened lid (5, 7), and does not blink. Intensities fade out, they do not jump. That a
    dropped jaw (26, 27) parts the lips is geometry: ``faces.visible_intensities`` measures it.
    """
    settled = np.array(intensity)
    au = {number: settled[..., index] for number, index in _COLUMN.items()}
    au[26] *= smoothstep(0.6, 0, au[27])
    for pressed in (23, 24, 28):
        au[pressed] *= smoothstep(0.5, 0, au[25])
    for other in (18, 22, 23, 24):
        au[other] *= smoothstep(1.2, 0.4, au[28])
    au[45] *= smoothstep(2.5, 1, au[43])
    for lid in (5, 7):
        au[lid] *= smoothstep(4, 1.5, np.maximum(au[43], au[45]))
    return settled
