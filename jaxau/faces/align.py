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


# Where the five points lie in AUNet's input, as shares of its side: its public code cuts out a square of
# (width + height) / 1.3 about the middle of a RetinaFace box, and this is the mean, made symmetric, of 22
# faces in photographs and video frames as YuNet (of the same training data) boxes and marks them.
_TEMPLATE = np.array([[0.370, 0.415], [0.630, 0.415], [0.500, 0.567], [0.380, 0.666], [0.620, 0.666]])


@dataclass(frozen=True)
class Alignment:
    """A similarity transform to a square crop of ``size`` pixels around ``boxes`` times JAA-Net's box.

    A network is given the whole crop, or, where the alignment is ``fitted``, the part of it in which the five
    points come closest to AUNet's template (`input_matrix`).
    """

    name: str
    size: int
    boxes: float = 1.0
    fitted: bool = False


ALIGNMENTS = {
    a.name: a
    for a in (Alignment("jaa200", 200), Alignment("jaa256", 256), Alignment("wide", 448, 2.2, fitted=True))
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
    return _bilinear(image, matrix, size), matrix


def _bilinear(image: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    return cv2.warpAffine(
        image,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_BORDER,
    )


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Carry points through a transform of `align`.

    Args:
      points: (..., 2) pixels (x, y).
      matrix: (2, 3).

    Returns:
      (..., 2) pixels.
    """
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that carry points as closely as possible (least squares) to others.

    Args:
      source: (p, 2), not all the same.
      target: (p, 2).

    Returns:
      (2, 3) float64: target ~ matrix @ (x, y, 1).
    """
    # As complex numbers: target = a source + b.
    z, w = (np.ascontiguousarray(points, np.float64).view(complex)[:, 0] for points in (source, target))
    centered = z - z.mean()
    a = np.vdot(centered, w - w.mean()) / np.vdot(centered, centered).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def then(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The transform (2, 3) that does ``first``, then ``second``."""
    both = second[:, :2] @ first
    both[:, 2] += second[:, 2]
    return both


def input_matrix(alignment: str, landmarks: np.ndarray, side: int) -> np.ndarray:
    """The transform from an aligned crop to the picture of ``side`` pixels from which the input is cut.

    Args:
      alignment: of the crop.
      landmarks: (p, 2) pixels of the crop, NaN where the face has none; only a fitted alignment uses them,
        and without them takes what would be its part of the crop if the face were the template.
      side: of the picture in pixels.

    Returns:
      (2, 3) float64.
    """
    known = ALIGNMENTS[alignment]
    if not known.fitted:  # it is the outer edges of the pixels that coincide, not their centres
        scale = side / known.size
        return np.array([[scale, 0.0, scale / 2 - 0.5], [0.0, scale, scale / 2 - 0.5]])
    template = _TEMPLATE * side - 0.5
    if not np.isfinite(landmarks).all():
        return cv2.invertAffineTransform(alignment_matrix(template, alignment))
    return similarity(five_points(landmarks), template)


def resize(image: np.ndarray, side: int, out: np.ndarray | None = None) -> np.ndarray:
    """A square picture at another size: bilinear, after averages over blocks where it becomes half or less.

    The pixels' outer edges coincide. This is a fifth of the work of an area average, and little detail is
    lost or feigned. The result is in ``out``, if given; else it may be the picture itself.
    """
    image = _averaged(image, side / len(image))
    if len(image) != side:
        return cv2.resize(image, (side, side), out, interpolation=cv2.INTER_LINEAR)
    if out is None:
        return image
    out[:] = image
    return out


def warp(image: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """A picture through a similarity (or its mirror image): one bilinear interpolation, grey 128 outside.

    What is reduced to half or less is first averaged over blocks of pixels, so that detail finer than the new
    pixels does not appear as false detail.

    Args:
      image: (h, w, 3) uint8.
      matrix: (2, 3), from the picture to the result.
      side: of the result in pixels.

    Returns:
      (side, side, 3) uint8.
    """
    averaged = _averaged(image, float(np.hypot(*matrix[:, 0])))
    if averaged is not image:
        scale = np.array([image.shape[1] / averaged.shape[1], image.shape[0] / averaged.shape[0]])
        matrix = then(np.column_stack([np.diag(scale), scale / 2 - 0.5]), matrix)
    return _bilinear(averaged, matrix, side)


def _averaged(image: np.ndarray, scale: float) -> np.ndarray:
    """Averages over the largest blocks, 1, 2, 4 ... pixels a side, after which nothing is enlarged."""
    block = 1
    while scale * block <= 0.5:
        block *= 2
    if block == 1:
        return image
    height, width = (max(1, length // block) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def to_network_input(
    crop: np.ndarray, landmarks: np.ndarray, alignment: str, image_size: int, resize_to: int
) -> np.ndarray:
    """The part of an aligned crop that a network sees outside training.

    Args:
      crop: (s, s, 3) uint8 from `align`.
      landmarks: (p, 2) pixels of the crop, NaN where the face has none; see `input_matrix`.
      alignment: of the crop.
      image_size: side of the network's input in pixels.
      resize_to: side to which the crop (of a fitted alignment its part) is resized before the centre is cut
        out; 0 resizes it to ``image_size``, so that nothing is cut away.

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
    start = (resize_to - image_size) // 2
    if ALIGNMENTS[alignment].fitted:
        cut = np.array([[1.0, 0.0, -start], [0.0, 1.0, -start]])
        return warp(crop, then(input_matrix(alignment, landmarks, resize_to), cut), image_size)
    whole = resize(crop, resize_to)
    return np.ascontiguousarray(whole[start : start + image_size, start : start + image_size])
