"""One example at a time, by the steps that the loader takes for a batch."""

from collections.abc import Sequence

import numpy as np

from data_pipelines import transforms
from jaxau.config import Augment
from jaxau.faces.align import ALIGNMENTS


def augment(
    images: Sequence[np.ndarray],
    landmarks: np.ndarray,
    alignment: str,
    options: Augment,
    image_size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """As in training: the input (t, image_size, image_size, 3), and landmarks (t, p, 2) in it."""
    drawn = transforms.draw(options, image_size, rng)
    return made(images, landmarks, alignment, options, image_size, drawn)


def evaluation_input(
    images: Sequence[np.ndarray],
    landmarks: np.ndarray,
    alignment: str,
    options: Augment,
    image_size: int,
    variant: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """As outside of training."""
    drawn = transforms.fixed(options, image_size, variant)
    return made(images, landmarks, alignment, options, image_size, drawn)


def made(images, landmarks, alignment, options, image_size, drawn):
    resize_to = options.resize_to or image_size
    moved = transforms.matrices(landmarks, alignment, resize_to, image_size, drawn)
    out = np.empty((len(images), image_size, image_size, 3), np.uint8)
    is_plain = not (drawn.moves or ALIGNMENTS[alignment].fitted)
    transforms.fill(images, None if is_plain else moved, resize_to, drawn, out)
    points = transforms.move_points(landmarks[None], moved[None], np.array([drawn.mirrored]))[0]
    return out, points
