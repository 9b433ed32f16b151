"""Where each texel of a skin map lies on the reference face."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from jaxau.morphable.grid import (
    ABOVE_EYE_SLIT,
    ABOVE_LIP_SLIT,
    AZIMUTH,
    COLUMNS,
    ROWS,
    Floats,
)
from jaxau.morphable.head import REFERENCE_X, REFERENCE_Y

SKIN_SCALE = 4  # texels per grid cell, each way: 436 x 404
WRINKLE_SCALE = 2


@dataclass(frozen=True)
class Texels:
    """Reference coordinates of texels, all (ROWS * scale, COLUMNS * scale) float32.

    Attributes:
      scale: texels per grid cell.
      x: mm towards the subject's left.
      across: |x|.
      y: mm above the eyes.
      azimuth: |degrees| from straight ahead.
      upper_eyelid: 1 above the eye slit, 0 below.
      upper_lip: 1 above the lip slit, 0 below.
    """

    scale: int
    x: Floats
    across: Floats
    y: Floats
    azimuth: Floats
    upper_eyelid: Floats
    upper_lip: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in texels."""
        return ROWS * self.scale, COLUMNS * self.scale


@lru_cache(maxsize=2)
def texels(scale: int) -> Texels:
    """Texel coordinates for maps of ``scale`` texels per grid cell."""

    def centers(count: int) -> Floats:
        place = (np.arange(count * scale) + 0.5) / scale - 0.5
        return np.clip(place, 0, count - 1).astype(np.float32)

    columns, rows = np.meshgrid(centers(COLUMNS), centers(ROWS))

    def spread(values: Floats) -> Floats:
        full = np.broadcast_to(values, (ROWS, COLUMNS)).astype(np.float32)
        return cv2.remap(full, columns, rows, cv2.INTER_LINEAR)

    x = spread(REFERENCE_X)
    return Texels(
        scale=scale,
        x=x,
        across=np.abs(x),
        y=spread(REFERENCE_Y),
        azimuth=spread(np.abs(AZIMUTH)[None]),
        upper_eyelid=spread(ABOVE_EYE_SLIT[:, None].astype(np.float32)),
        upper_lip=spread(ABOVE_LIP_SLIT[:, None].astype(np.float32)),
    )
