"""The wall behind a person: a soft gradient, at times with large blurred patches."""

import cv2
import numpy as np

from jaxau.morphable.grid import Floats


def make_backdrop(rng: np.random.Generator, size: int) -> Floats:
    """(size, size, 3) float32 RGB, linear light in .01..1."""
    color = rng.uniform(0.08, 0.7, 3)
    color = 0.55 * color + 0.45 * color.mean()
    ramp = np.linspace(-1, 1, size)
    vertical, horizontal = 0.15 * rng.normal(size=2)
    shade = 1 + vertical * ramp[:, None] + horizontal * ramp[None, :]
    wall = (shade[..., None] * color).astype(np.float32)
    kind = rng.integers(3)
    if kind > 0:
        cells = rng.integers(3, 9, 2)
        patches: Floats = rng.normal(0, 1, (*cells, 3)).astype(np.float32)
        smooth = cv2.INTER_CUBIC if kind == 1 else cv2.INTER_NEAREST
        patches = cv2.resize(patches, (size, size), interpolation=smooth)
        wall *= 1 + 0.18 * cv2.GaussianBlur(patches, (0, 0), size / 60)
    return np.clip(wall, 0.01, 1)
