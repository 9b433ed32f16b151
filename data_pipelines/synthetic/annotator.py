"""A model of the people who code AUs: late or early, not quite sure how strong, at times wrong.

For studies of label noise; off by default. Real coders agree on most frames and differ at onsets and
offsets, by about an intensity letter, and rarely anywhere.
"""

import numpy as np

from jaxau.morphable.grid import Floats

_MOST_LAG = 2  # frames by which an onset or an offset is coded early or late
_INTENSITY_SPREAD = 0.4  # standard deviation of one event's intensity
_FLIPPED = 0.01  # share of frames whose occurrence is coded wrongly
_FLIPPED_ON = 2.0  # intensity that a coder gives to what is not there
_OCCURS = 1.5


def annotate(rng: np.random.Generator, truth: Floats) -> Floats:
    """Intensities (frames, k) float32, 0..5, as a coder would give them for true ones (frames, k)."""
    coded = np.zeros_like(truth, np.float32)
    frames = np.arange(len(truth))
    for column, intensity in enumerate(truth.T):
        present = np.concatenate([[False], intensity > 0, [False]])
        edges = np.flatnonzero(np.diff(present.astype(int)))
        for first, last in zip(edges[::2], edges[1::2] - 1, strict=True):
            begin, end = (edge + rng.integers(-_MOST_LAG, _MOST_LAG + 1) for edge in (first, last))
            error = rng.normal(0, _INTENSITY_SPREAD)
            if end < begin:  # so short that it is overlooked
                continue
            inside = (frames >= begin) & (frames <= end)
            source = np.interp(frames[inside], [begin, max(end, begin + 1)], [first, last])
            seen = np.interp(source, frames, intensity)
            coded[inside, column] = np.maximum(coded[inside, column], seen + error * (seen > 0.5))
    coded = np.clip(coded, 0, 5)
    flipped = rng.random(truth.shape) < _FLIPPED
    coded[flipped] = np.where(coded[flipped] >= _OCCURS, 0, _FLIPPED_ON)
    return coded
