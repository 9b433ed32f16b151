"""From aligned crops to network inputs, with the landmarks: augmented, or as in prediction.

However much is turned, scaled, shifted, cut and mirrored, a picture is interpolated once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from jaxau.config import Augment
from jaxau.faces.align import ALIGNMENTS, input_matrix, resize, similarity, then, to_network_input, warp
from jaxau.faces.landmarks import five_points, mirror_order

# ITU-R 601 luma, by which contrast and saturation are defined.
LUMA = np.array([0.299, 0.587, 0.114])

_BLUR_SIDES = (3, 5, 7)
_WORST_QUALITY = 30
_MOST_HOLES = 8
_HOLE_SIDES = 1 / 32, 1 / 8


class Draw(NamedTuple):
    """What is done to a picture of ``resize_to`` pixels, and to the input that is cut from it.

    Attributes:
      left, top: corner of the cut.
      mirrored: the input is.
      brightness, contrast, saturation: factors.
      degrees, scale, shift: the input is turned and enlarged about its centre, and moved by these shares of
        its side in x and y.
      blur: side of the Gaussian kernel in pixels, 0 = none.
      quality: of JPEG compression, 0 = none.
      holes: left, top, right and bottom of black rectangles, as shares of the side.
    """

    left: int
    top: int
    mirrored: bool
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    degrees: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    blur: int = 0
    quality: int = 0
    holes: tuple[tuple[float, float, float, float], ...] = ()


def draw(options: Augment, image_size: int, rng: np.random.Generator) -> Draw:
    """Draw how one training example is augmented."""
    spare = (options.resize_to or image_size) - image_size
    left, top = rng.integers(0, spare + 1, 2).tolist()
    mirrored = rng.random() < options.flip
    jitter = options.color_jitter
    drawn = Draw(left, top, mirrored, *rng.uniform(1 - jitter, 1 + jitter, 3).tolist())
    if not (options.moves or options.blur or options.compression or options.holes):
        return drawn
    return drawn._replace(
        degrees=rng.uniform(-options.rotation, options.rotation),
        scale=rng.uniform(1 - options.scale, 1 + options.scale),
        shift=(rng.uniform(-options.shift, options.shift), rng.uniform(-options.shift, options.shift)),
        blur=int(rng.choice(_BLUR_SIDES)) if rng.random() < options.blur else 0,
        quality=int(rng.integers(_WORST_QUALITY, 101)) if rng.random() < options.compression else 0,
        holes=_draw_holes(rng) if rng.random() < options.holes else (),
    )


def _draw_holes(rng: np.random.Generator) -> tuple[tuple[float, float, float, float], ...]:
    holes = []
    for _ in range(rng.integers(1, _MOST_HOLES + 1)):
        width, height = rng.uniform(*_HOLE_SIDES, 2).tolist()
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        holes.append((left, top, left + width, top + height))
    return tuple(holes)


def fixed(options: Augment, image_size: int, variant: int) -> Draw:
    """What `evaluation_input` does."""
    spare, (place, mirrored) = (options.resize_to or image_size) - image_size, divmod(variant, 2)
    corners = ((0, 0), (spare, 0), (0, spare), (spare, spare))
    left, top = corners[place - 1] if place else (spare // 2, spare // 2)
    return Draw(left, top, bool(mirrored))


def matrices(
    landmarks: np.ndarray,
    alignment: str,
    options: Augment,
    image_size: int,
    drawn: Draw,
    onto: int | None = None,
) -> np.ndarray:
    """The transforms from aligned crops to the network's input.

    Args:
      landmarks: (t, p, 2) pixels of the crops, NaN where a face has none.
      alignment: of the crops.
      options: of the stage.
      image_size: side of the input.
      drawn: what is done.
      onto: number of the frame onto whose face the others are laid: by the similarity that carries their five
        points as closely as possible (least squares) to those of this frame, wherever it puts them (AUNet).
        Else each frame goes its own way (`jaxau.faces.align.input_matrix`).

    Returns:
      (t, 2, 3) float64.

    Raises:
      ValueError: ``onto`` with a frame without landmarks.
    """
    change = np.eye(2, 3)
    change[:, 2] = -drawn.left, -drawn.top
    middle = (image_size - 1) / 2
    if options.moves:
        moved = cv2.getRotationMatrix2D((middle, middle), drawn.degrees, drawn.scale)
        moved[:, 2] += np.multiply(drawn.shift, image_size)
        change = then(change, moved)
    if drawn.mirrored:
        change = then(change, np.array([[-1.0, 0.0, image_size - 1], [0.0, 1.0, 0.0]]))
    side = options.resize_to or image_size
    if onto is None:
        return np.stack([then(input_matrix(alignment, points, side), change) for points in landmarks])
    target = five_points(landmarks[onto])
    middle_matrix = then(input_matrix(alignment, landmarks[onto], side), change)
    own = [np.eye(2, 3) if i == onto else similarity(five_points(p), target) for i, p in enumerate(landmarks)]
    return np.stack([then(matrix, middle_matrix) for matrix in own])


def move_points(landmarks: np.ndarray, moved: np.ndarray, mirrored: bool) -> np.ndarray:
    """Landmarks (t, p, 2) through the transforms (t, 2, 3), float32; ``mirrored`` ones change their names."""
    points = landmarks @ moved[:, :, :2].swapaxes(1, 2) + moved[:, None, :, 2]
    if mirrored:
        points = points[:, mirror_order(points.shape[1])]
    return points.astype(np.float32)


def augment(
    images: Sequence[np.ndarray],
    landmarks: np.ndarray,
    alignment: str,
    options: Augment,
    image_size: int,
    rng: np.random.Generator,
    onto: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Augment the frames of one example; all of them share one draw (LAC, as ME-GraphAU; AUNet).

    Resized to ``options.resize_to``, an image_size square cut out anywhere; turned, enlarged and shifted;
    mirrored (left and right landmarks change names), all at once. Then blurred; brightness, contrast and
    saturation scaled; compressed; and holes cut.

    Args:
      images: t of (s, s, 3) uint8 RGB.
      landmarks: (t, p, 2) pixels of the images; a frame without landmarks is NaN and stays so.
      alignment: of the images.
      options: what to draw.
      image_size: side of the network's input.
      rng: one for this example.
      onto: see `matrices`.

    Returns:
      (t, image_size, image_size, 3) uint8, and (t, p, 2) float32 pixels of these.
    """
    drawn = draw(options, image_size, rng)
    moved = matrices(landmarks, alignment, options, image_size, drawn, onto)
    out = np.empty((len(images), image_size, image_size, 3), np.uint8)
    if options.moves or onto is not None or ALIGNMENTS[alignment].fitted:
        for i, image in enumerate(images):
            out[i] = warp(image, moved[i], image_size)
    else:  # the same, and quicker
        for i, image in enumerate(images):
            image = resize(image, options.resize_to or image_size)
            cut = image[drawn.top : drawn.top + image_size, drawn.left : drawn.left + image_size]
            if drawn.mirrored:
                cv2.flip(cut, 1, out[i])  # 10 times as quick as NumPy's copy
            else:
                out[i] = cut
    if drawn.blur:
        for image in out:
            cv2.GaussianBlur(image, (drawn.blur, drawn.blur), 0, image)
    if options.color_jitter:
        out = _adjust_color(out, drawn.brightness, drawn.contrast, drawn.saturation)
    if drawn.quality:
        for image in out:
            simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, quality=drawn.quality), buffer=image)
    for hole in drawn.holes:
        left, top, right, bottom = (round(share * image_size) for share in hole)
        out[:, top:bottom, left:right] = 0
    return out, move_points(landmarks, moved, drawn.mirrored)


def evaluation_input(
    images: Sequence[np.ndarray],
    landmarks: np.ndarray,
    alignment: str,
    options: Augment,
    image_size: int,
    variant: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """What prediction would see of these frames (`jaxau.faces.align.to_network_input`), or a fixed variant.

    Args:
      variant: below ``config.VARIANTS``: 0 = the centre, as in prediction; 2i = the i-th corner of the
        picture of ``options.resize_to`` (top left, top right, bottom left, bottom right); odd = mirrored.

    Other arguments, returns: as `augment`, without any draw.
    """
    side, drawn = options.resize_to or image_size, fixed(options, image_size, variant)
    out = np.empty((len(images), image_size, image_size, 3), np.uint8)
    for i, (image, points) in enumerate(zip(images, landmarks, strict=True)):
        whole = to_network_input(image, points, alignment, side, 0)
        cut = whole[drawn.top : drawn.top + image_size, drawn.left : drawn.left + image_size]
        if drawn.mirrored:
            cv2.flip(cut, 1, out[i])
        else:
            out[i] = cut
    moved = matrices(landmarks, alignment, options, image_size, drawn)
    return out, move_points(landmarks, moved, drawn.mirrored)


def _adjust_color(images: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Scale brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    All three are affine in RGB, so one matrix does them, rounding and clipping once at the end. The
    mean grey is that of all frames, so that a clip keeps its own changes of light.
    """
    t, height, width, _ = images.shape
    tall = images.reshape(t * height, width, 3)
    mean_grey = float(LUMA @ cv2.mean(tall)[:3])
    to_grey = np.tile(LUMA, (3, 1))
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * to_grey)
    offset = np.full((3, 1), brightness * (1 - contrast) * mean_grey)
    adjusted = cv2.transform(tall, np.hstack([matrix, offset]))
    return adjusted.reshape(images.shape)
