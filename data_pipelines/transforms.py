"""From aligned crops to network inputs, with the landmarks: augmented, or as in prediction.

However much is turned, scaled, shifted, cut and mirrored, a picture is interpolated once.
"""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from jaxau.config import Augment
from jaxau.faces.align import ALIGNMENTS, input_matrix, resize, similarity, then, warp
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

    @property
    def moves(self) -> bool:
        """Whether the input is turned, enlarged or shifted."""
        return (self.degrees, self.scale, *self.shift) != (0.0, 1.0, 0.0, 0.0)


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
    """What is done outside of training.

    Args:
      options: of the stage; only ``resize_to`` matters.
      image_size: side of the network's input.
      variant: below ``config.VARIANTS``: 0 = the centre, as in prediction
        (`jaxau.faces.align.to_network_input`); 2i = the i-th corner of the picture of ``options.resize_to``
        (top left, top right, bottom left, bottom right); odd = mirrored.
    """
    spare, (place, mirrored) = (options.resize_to or image_size) - image_size, divmod(variant, 2)
    corners = ((0, 0), (spare, 0), (0, spare), (spare, spare))
    left, top = corners[place - 1] if place else (spare // 2, spare // 2)
    return Draw(left, top, bool(mirrored))


def matrices(
    landmarks: np.ndarray,
    alignment: str,
    resize_to: int,
    image_size: int,
    drawn: Draw,
    onto: int | None = None,
) -> np.ndarray:
    """The transforms from aligned crops to the network's input.

    Args:
      landmarks: (t, p, 2) pixels of the crops, NaN where a face has none.
      alignment: of the crops.
      resize_to: side of the picture from which the input is cut.
      image_size: side of the input.
      drawn: what is done.
      onto: number of the frame onto whose face the others are laid: by the similarity that carries their five
        points as closely as possible (least squares) to those of this frame, wherever it puts them (AUNet's
        code). Eye centres then coincide where a face keeps still; while people talk and turn their heads, the
        fit of mouth and nose moves them: of synthetic ones .4 s apart by .6 px of 256 (median; 95 %: 2.4 px).
        Else each frame goes its own way (`jaxau.faces.align.input_matrix`), as in prediction, where it is
        seen once; the eyes are then as near, .6 (2.7) px.

    Returns:
      (t, 2, 3) float64.

    Raises:
      ValueError: ``onto`` with a frame without landmarks.
    """
    change = np.array([[1.0, 0.0, -drawn.left], [0.0, 1.0, -drawn.top]])
    if drawn.moves:
        middle = (image_size - 1) / 2
        moved = cv2.getRotationMatrix2D((middle, middle), drawn.degrees, drawn.scale)
        moved[:, 2] += np.multiply(drawn.shift, image_size)
        change = then(change, moved)
    if drawn.mirrored:
        change = then(change, np.array([[-1.0, 0.0, image_size - 1], [0.0, 1.0, 0.0]]))
    if onto is None and not ALIGNMENTS[alignment].fitted:  # the same for all
        one = then(input_matrix(alignment, landmarks[0], resize_to), change)
        return np.repeat(one[None], len(landmarks), axis=0)
    if onto is None:
        return np.stack([then(input_matrix(alignment, points, resize_to), change) for points in landmarks])
    target = five_points(landmarks[onto])
    middle_matrix = then(input_matrix(alignment, landmarks[onto], resize_to), change)
    own = [np.eye(2, 3) if i == onto else similarity(five_points(p), target) for i, p in enumerate(landmarks)]
    return np.stack([then(matrix, middle_matrix) for matrix in own])


def move_points(landmarks: np.ndarray, moved: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Landmarks of a batch as they lie in the network's input.

    Args:
      landmarks: (b, t, p, 2) pixels of the crops.
      moved: (b, t, 2, 3), see `matrices`.
      mirrored: (b,) bool, where left and right landmarks change names.

    Returns:
      (b, t, p, 2) float32.
    """
    points = landmarks @ moved[..., :2].swapaxes(-1, -2) + moved[:, :, None, :, 2]
    points[mirrored] = points[mirrored][:, :, mirror_order(points.shape[2])]
    return points.astype(np.float32)


def fill(
    images: Iterable[np.ndarray], moved: np.ndarray | None, resize_to: int, drawn: Draw, out: np.ndarray
) -> None:
    """Make the network's input of the frames of one example, which share a draw (LAC, as ME-GraphAU; AUNet).

    Resized, cut, turned, enlarged, shifted and mirrored, all at once; then blurred; brightness, contrast and
    saturation scaled; compressed; and holes cut.

    Args:
      images: t of (s, s, 3) uint8 RGB, each used before the next is asked for.
      moved: (t, 2, 3), see `matrices`; None = nothing but resized, cut and mirrored, which is quicker.
      resize_to: side of the picture from which the input is cut.
      drawn: what is done.
      out: (t, image_size, image_size, 3) uint8, is filled.
    """
    side = out.shape[1]
    for i, image in enumerate(images):
        if moved is not None:
            out[i] = warp(image, moved[i], side)
            continue
        if resize_to == side and not drawn.mirrored:
            resize(image, side, out[i])
            continue
        cut = resize(image, resize_to)[drawn.top : drawn.top + side, drawn.left : drawn.left + side]
        if drawn.mirrored:
            cv2.flip(cut, 1, out[i])  # 10 times as quick as NumPy's copy
        else:
            out[i] = cut
    if drawn.blur:
        for image in out:
            cv2.GaussianBlur(image, (drawn.blur, drawn.blur), 0, image)
    if (drawn.brightness, drawn.contrast, drawn.saturation) != (1.0, 1.0, 1.0):
        _adjust_color(out, drawn.brightness, drawn.contrast, drawn.saturation)
    if drawn.quality:
        for image in out:
            simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, quality=drawn.quality), buffer=image)
    for hole in drawn.holes:
        left, top, right, bottom = (round(share * side) for share in hole)
        out[:, top:bottom, left:right] = 0


def _adjust_color(images: np.ndarray, brightness: float, contrast: float, saturation: float) -> None:
    """Scale brightness, then contrast about the mean grey, then saturation about each pixel's grey, in place.

    All three are affine in RGB, so one matrix does them, rounding and clipping once at the end. The
    mean grey is that of all frames, so that a clip keeps its own changes of light.
    """
    tall = images.reshape(-1, *images.shape[2:])
    mean_grey = float(LUMA @ cv2.mean(tall)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * (1 - saturation) * LUMA
    matrix[(0, 1, 2), (0, 1, 2)] += brightness * contrast * saturation
    matrix[:, 3] = brightness * (1 - contrast) * mean_grey
    cv2.transform(tall, matrix, tall)
