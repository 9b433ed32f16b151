"""From aligned crops to network inputs, with the landmarks: augmented, or as in prediction."""

import cv2
import numpy as np

from jaxau.config import Augment
from jaxau.faces.align import to_network_input
from jaxau.faces.landmarks import mirror_landmarks

# ITU-R 601 luma, by which contrast and saturation are defined.
_LUMA = np.array([0.299, 0.587, 0.114])


def augment(
    images: np.ndarray,
    landmarks: np.ndarray,
    options: Augment,
    image_size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Augment the frames of one example; all of them share one draw (LAC, as ME-GraphAU).

    Resized to ``options.resize_to`` (area average), an image_size square cut out anywhere, mirrored
    (left and right landmarks change names), and brightness, contrast and saturation scaled.

    Args:
      images: (t, s, s, 3) uint8 RGB.
      landmarks: (t, p, 2) pixels of the images; a frame without landmarks is NaN and stays so.
      options: what to draw.
      image_size: side of the network's input.
      rng: one for this example.

    Returns:
      (t, image_size, image_size, 3) uint8, and (t, p, 2) float32 pixels of these.
    """
    resize_to = options.resize_to or image_size
    left, top = rng.integers(0, resize_to - image_size + 1, 2)
    mirrored = rng.random() < options.flip
    jitter = options.color_jitter
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3)

    points = _resize_points(landmarks, images.shape[1], resize_to) - [left, top]
    if mirrored:
        points = _mirror_present(points, image_size)
    out = np.empty((len(images), image_size, image_size, 3), np.uint8)
    for i, image in enumerate(images):
        if image.shape[0] != resize_to:
            image = cv2.resize(image, (resize_to, resize_to), interpolation=cv2.INTER_AREA)
        cut = image[top : top + image_size, left : left + image_size]
        out[i] = cut[:, ::-1] if mirrored else cut
    if jitter:
        out = _adjust_color(out, brightness, contrast, saturation)
    return out, points.astype(np.float32)


def evaluation_input(
    images: np.ndarray, landmarks: np.ndarray, options: Augment, image_size: int, variant: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What prediction would see of these frames (`jaxau.faces.align.to_network_input`), or a fixed variant.

    Args:
      variant: below ``config.VARIANTS``: 0 = the centre, as in prediction; 2i = the i-th corner of the picture
        of ``options.resize_to`` (top left, top right, bottom left, bottom right); an odd number = mirrored.

    Other arguments, returns: as `augment`, without any draw.
    """
    resize_to = options.resize_to or image_size
    spare, (place, mirrored) = resize_to - image_size, divmod(variant, 2)
    corners = ((0, 0), (spare, 0), (0, spare), (spare, spare))
    left, top = corners[place - 1] if place else (spare // 2, spare // 2)
    points = _resize_points(landmarks, images.shape[1], resize_to) - [left, top]
    whole = np.stack([to_network_input(image, resize_to, 0) for image in images])
    inputs = whole[:, top : top + image_size, left : left + image_size]
    if mirrored:
        inputs, points = inputs[:, :, ::-1], _mirror_present(points, image_size)
    return np.ascontiguousarray(inputs), points.astype(np.float32)


def _resize_points(points: np.ndarray, old: int, new: int) -> np.ndarray:
    """Points of a resized picture: it is the pixels' outer edges that coincide, not their centres."""
    return (points.astype(np.float64) + 0.5) * (new / old) - 0.5


def _mirror_present(points: np.ndarray, width: int) -> np.ndarray:
    present = np.isfinite(points).all((1, 2))
    mirrored = points.copy()
    if present.any():
        mirrored[present] = mirror_landmarks(points[present], width)
    return mirrored


def _adjust_color(images: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Scale brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    All three are affine in RGB, so one matrix does them, rounding and clipping once at the end. The
    mean grey is that of all frames, so that a clip keeps its own changes of light.
    """
    t, height, width, _ = images.shape
    tall = images.reshape(t * height, width, 3)
    mean_grey = float(_LUMA @ cv2.mean(tall)[:3])
    to_grey = np.tile(_LUMA, (3, 1))
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * to_grey)
    offset = np.full((3, 1), brightness * (1 - contrast) * mean_grey)
    adjusted = cv2.transform(tall, np.hstack([matrix, offset]))
    return adjusted.reshape(images.shape)
