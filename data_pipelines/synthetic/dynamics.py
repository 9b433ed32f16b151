"""How expressions come and go in a clip: AU intensities over time.

A clip is a few expression events (a smile, a frown ...) over a neutral face, and blinks. Each
event draws which AUs take part, how strongly, and a smooth onset, apex and offset for each.
Times are in seconds; spontaneous onsets last .3 to .8 s and offsets are slower.
"""

from typing import NamedTuple

import numpy as np

from jaxau.facs import SYNTHETIC_AUS
from jaxau.morphable.grid import Floats, smoothstep


class Event(NamedTuple):
    """How often an expression occurs (relative), and the chance of each AU to take part."""

    frequency: float
    aus: dict[int, float]


PROFILES: dict[str, dict[str, Event]] = {
    "balanced": {
        "smile": Event(2.4, {12: 1, 6: 0.75, 25: 0.55, 7: 0.3, 10: 0.3, 26: 0.12}),
        "brow_raise": Event(1.2, {1: 1, 2: 0.85, 5: 0.3}),
        "frown": Event(1.5, {4: 1, 7: 0.6, 9: 0.12, 17: 0.2, 24: 0.2}),
        "sadness": Event(1.1, {1: 0.8, 4: 0.7, 15: 0.85, 17: 0.6}),
        "disgust": Event(0.8, {9: 0.7, 10: 0.9, 4: 0.5, 7: 0.5, 17: 0.4, 25: 0.3}),
        "surprise": Event(0.7, {1: 1, 2: 1, 5: 0.7, 25: 1, 26: 0.8, 27: 0.2}),
        "fear": Event(0.5, {1: 1, 2: 0.8, 4: 0.7, 5: 0.6, 20: 0.7, 25: 0.7}),
        "dimple": Event(1.0, {14: 1, 12: 0.3}),
        "lip_press": Event(2.2, {23: 0.7, 24: 0.7, 17: 0.4, 14: 0.3}),
        "speech": Event(0.8, {25: 1, 26: 0.6, 16: 0.35, 18: 0.25}),
        "pucker": Event(0.5, {18: 1}),
        "chin_raise": Event(0.6, {17: 1, 15: 0.3}),
        "lip_stretch": Event(0.4, {20: 1, 25: 0.4}),
    }
}

_USUAL_SECONDS = 3.2  # clips of this length hold 2 + Poisson(1.6) events
_BLINK_EVERY = 3.0  # s between blinks, exponential
_BLINK_HALF_SECONDS = 0.092  # s from shut to about open
_WEAKEST, _STRONGEST = 0.4, 5.0


def draw_intensities(
    rng: np.random.Generator, frames: int, fps: float, profile: str, neutral_start: bool
) -> Floats:
    """What the muscles do in one clip.

    Args:
      rng: source of randomness of this clip.
      frames: length of the clip.
      fps: frames per second.
      profile: a key of ``PROFILES``.
      neutral_start: keep the first frame neutral.

    Returns:
      (frames, 21) float32 intensities 0..5 that obey ``settle``.
    """
    seconds = np.arange(frames) / fps
    drive = np.zeros((frames, len(SYNTHETIC_AUS)))
    events = list(PROFILES[profile].values())
    frequency = np.array([event.frequency for event in events])
    share = frames / fps / _USUAL_SECONDS
    for _ in range(max(1, round(2 * share)) + rng.poisson(1.6 * share)):
        event = events[rng.choice(len(events), p=frequency / frequency.sum())]
        _add_event(rng, drive, seconds, event)
    _add_blinks(rng, drive, seconds)
    if neutral_start:
        drive *= smoothstep(0, 0.3, seconds)[:, None]
    return settle(np.clip(drive, 0, 5)).astype(np.float32)


def _add_event(rng: np.random.Generator, drive: Floats, seconds: Floats, event: Event) -> None:
    start = rng.uniform(-0.4, 0.7 * (seconds[-1] + 1e-6))
    peak = np.clip(rng.gamma(4.6, 0.68), 0.6, 5)
    onset, apex, offset = rng.uniform(0.28, 0.8), 0.48 * rng.gamma(2.4), rng.uniform(0.4, 1.28)
    taking_part = [au for au, chance in event.aus.items() if rng.random() < chance]
    if 27 in taking_part and 26 in taking_part:
        taking_part.remove(26)
    for au in taking_part:
        strength = np.clip(peak * rng.uniform(0.6, 1.25), _WEAKEST, _STRONGEST)
        begin = start + rng.normal(0, 0.1)
        top = begin + onset * rng.uniform(0.8, 1.3)
        envelope = smoothstep(begin, top, seconds)
        envelope *= 1 - smoothstep(top + apex, top + apex + offset, seconds)
        tremor = 1 + 0.04 * np.sin(5 * seconds + rng.uniform(0, 6))
        column = drive[:, SYNTHETIC_AUS.index(au)]
        np.maximum(column, strength * envelope * tremor, out=column)


def _add_blinks(rng: np.random.Generator, drive: Floats, seconds: Floats) -> None:
    column = drive[:, SYNTHETIC_AUS.index(43)]
    time = rng.exponential(_BLINK_EVERY)
    while time < seconds[-1] + _BLINK_HALF_SECONDS:
        lid = np.clip(1.25 - np.abs(seconds - time) / _BLINK_HALF_SECONDS, 0, 1)
        np.maximum(column, 5 * lid, out=column)
        time += rng.exponential(_BLINK_EVERY)


def settle(drive: Floats) -> Floats:
    """Make intensities (..., 21) agree with each other.

    27 takes the place of 26; parted lips (25) cannot be pressed or tightened (23, 24); a smile
    (12) hides a depressed corner (15); a shut eye (43) shows neither a raised nor a tightened lid
    (5, 7). Intensities fade out, they do not jump. That a dropped jaw (26, 27) parts the lips is
    geometry: ``faces.visible_intensities`` measures it.
    """
    settled = np.array(drive)
    au = {number: settled[..., index] for index, number in enumerate(SYNTHETIC_AUS)}
    au[26] *= smoothstep(0.6, 0, au[27])
    for pressed in (23, 24):
        au[pressed] *= smoothstep(0.5, 0, au[25])
    au[15] *= smoothstep(1.2, 0.6, au[12])
    for lid in (5, 7):
        au[lid] *= smoothstep(4, 1.5, au[43])
    return settled
