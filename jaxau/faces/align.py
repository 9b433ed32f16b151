"""From a picture and landmarks to an upright face of fixed size.

Preparation of corpora and prediction call the same functions, so that a network sees at prediction
what it saw in training. An alignment has a name, which stands in manifests and checkpoints.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from jaxau.faces.landmarks import five_points

# JAA-Net's box is this many times the larger extent of the five points.
_BOX_ENLARGEMENT = 2.9
_BORDER = (128, 128, 128)


@dataclass(frozen=True)
class Alignment:
    """A similarity transform to a square crop of ``size`` pixels around ``boxes`` times JAA-Net's box."""

    name: str
    size: int
    boxes: float = 1.0


ALIGNMENTS = {
    a.name: a for a in (Alignment("jaa200", 200), Alignment("jaa256", 256), Alignment("wide", 448, 2.2))
}
"""``wide`` has room around the face to be turned, shifted and scaled, and for landmarks of the jaw."""


def check_alignment(name: str) -> Alignment:
    """The alignment of this name.

    Raises:
      ValueError: the name is unknown.
    """
    if name not in ALIGNMENTS:
        raise ValueError(
            f"alignment {name!r}: not one of {sorted(ALIGNMENTS)}; use the alignment with which "
            "the records or the checkpoint were made"
        )
    return ALIGNMENTS[name]


def alignment_matrix(landmarks: np.ndarray, alignment: str) -> np.ndarray:
    """The similarity transform from the picture to the crop.

    The picture is turned until the eye centres are level; the crop is the square around the middle
    of the five points' bounding box with a side of 2.9 times its larger extent (JAA-Net's public
    ``align_face_49pts``), or 2.2 times that for "wide". The centre of the crop's first pixel is (0, 0), of
    its last (size - 1, size - 1).

    Args:
      landmarks: (p, 2) pixels of the picture.
      alignment: a name in `ALIGNMENTS`.

    Returns:
      (2, 3) float64: crop point = matrix @ (x, y, 1).

    Raises:
      ValueError: unknown alignment, unknown or missing landmarks, or eye centres less than one
        pixel apart.
    """
    size, boxes = check_alignment(alignment).size, ALIGNMENTS[alignment].boxes
    points = five_points(np.asarray(landmarks, np.float64))
    if points.ndim != 2:
        raise ValueError(
            f"landmarks of shape {np.shape(landmarks)}: must be one face (points, 2); align face by face"
        )
    eyes = points[1] - points[0]
    eye_distance = float(np.hypot(*eyes))
    if eye_distance < 1.0:
        raise ValueError(
            f"eye centres {eye_distance:.3g} pixels apart: a face needs at least 1 pixel; leave "
            "this face out, or check its landmarks"
        )
    cosine, sine = eyes / eye_distance
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    upright = points @ rotation.T
    low, high = upright.min(0), upright.max(0)
    half = 0.5 * boxes * _BOX_ENLARGEMENT * float((high - low).max())
    scale = (size - 1) / 2 / half
    shift = (size - 1) / 2 - scale * (low + high) / 2
    return np.column_stack([scale * rotation, shift])


def align(image: np.ndarray, landmarks: np.ndarray, alignment: str) -> tuple[np.ndarray, np.ndarray]:
    """Cut an upright face of fixed size out of a picture.

    Args:
      image: (h, w, 3) uint8 RGB.
      landmarks: (p, 2) pixels of the picture.
      alignment: a name in `ALIGNMENTS`.

    Returns:
      crop: (size, size, 3) uint8, bilinear; grey 128 outside the picture.
      matrix: (2, 3) float64, from the picture to the crop (`transform_points`).

    Raises:
      ValueError: as `alignment_matrix`, or an image of another kind.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image of shape {image.shape} and type {image.dtype}: must be (h, w, 3) uint8 RGB; "
            "read it with jaxau.faces.video.read_image"
        )
    matrix = alignment_matrix(landmarks, alignment)
    size = ALIGNMENTS[alignment].size
    crop = cv2.warpAffine(
        image,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_BORDER,
    )
    return crop, matrix


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Carry points through a transform of `align`.

    Args:
      points: (..., 2) pixels (x, y).
      matrix: (2, 3).

    Returns:
      (..., 2) pixels.
    """
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def to_network_input(crop: np.ndarray, image_size: int, resize_to: int) -> np.ndarray:
    """The part of an aligned crop that a network sees outside training.

    Args:
      crop: (s, s, 3) uint8 from `align`.
      image_size: side of the network's input in pixels.
      resize_to: side to which the crop is resized (area average) before its centre is cut out;
        0 resizes it to ``image_size``, so that nothing is cut away.

    Returns:
      (image_size, image_size, 3) uint8.

    Raises:
      ValueError: ``resize_to`` smaller than ``image_size``.
    """
    resize_to = resize_to or image_size
    if resize_to < image_size:
        raise ValueError(
            f"resize_to={resize_to} with image_size={image_size}: the resized crop must not be "
            "smaller than the network's input; use resize_to=0 or a larger number"
        )
    if crop.shape[:2] != (resize_to, resize_to):
        crop = cv2.resize(crop, (resize_to, resize_to), interpolation=cv2.INTER_AREA)
    start = (resize_to - image_size) // 2
    return np.ascontiguousarray(crop[start : start + image_size, start : start + image_size])
