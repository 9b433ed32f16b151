"""Optical flow between the frames of a tuple, as input of a network (AUNet, Table XI)."""

import cv2
import numpy as np


def tuple_flow(images: np.ndarray) -> np.ndarray:
    """Where the pixels of the middle frame are in its neighbours: DIS flow (Kroeger et al., ECCV 2016).

    Args:
      images: (3, h, w, 3) uint8 RGB, the frames t-T, t, t+T.

    Returns:
      (h, w, 4) float32: x and y of the motion from t to t-T, then from t to t+T, as shares of the width; 0
      where the neighbour is the middle frame itself.
    """
    before, middle, after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images)
    method = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    still = np.zeros((*middle.shape, 2), np.float32)
    moved = [
        still if np.array_equal(other, middle) else method.calc(middle, other, still.copy())
        for other in (before, after)
    ]
    return np.concatenate(moved, axis=-1) / np.float32(images.shape[2])
