"""Faces of test subjects with the landmarks that a FAN finds and the true ones, to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from jaxau import checkpoint
from jaxau.config import Config, from_dict
from jaxau.models import fan

_SIDE = 256  # pixels of a face
_TRUE, _FOUND = (0, 158, 115), (230, 60, 60)
_SUBPIXELS = 4  # binary digits behind the point that OpenCV draws with


def landmark_sheet(
    workdir: Path, make_data: Callable[[Config], Any], faces: int = 12, columns: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Draw faces evenly spread over the frames of a run's test subjects: true points green, found ones red.

    Args:
      workdir: of a run with the stage ``landmarks``.
      make_data: as for ``train.run``.
      faces: how many.
      columns: of the sheet.

    Returns:
      (h, w, 3) uint8 RGB, and each face's error (`jaxau.models.fan.normalized_error`), (faces,).

    Raises:
      ValueError: no finished stage ``landmarks``, or a fold without test subjects.
    """
    model = checkpoint.load_model(workdir / "landmarks")
    data = make_data(from_dict(model.info["config"]))
    subjects = [of for of in data.manifest["subjects"] if of["name"] in data.split.test]
    if not subjects:
        raise ValueError(f"{workdir}: its fold has no test subjects to draw; choose another")
    places = np.linspace(0, sum(of["records"] for of in subjects) - 1, faces).astype(int)
    chosen = [next(data.evaluate("landmarks", "test", 1, start=int(place))) for place in places]
    image, landmarks = (np.concatenate([face[name] for face in chosen]) for name in ("image", "landmarks"))

    @jax.jit
    def find(image: jax.Array) -> jax.Array:
        outputs: Any = model.network.apply(model.variables, image)
        return fan.to_pixels(fan.decode(outputs["heatmaps"][:, -1])[0])

    found = np.asarray(find(image))
    cells = [_draw(*face) for face in zip(image, landmarks, found, strict=True)]
    cells += [np.full_like(cells[0], 255)] * (-faces % columns)
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows), np.asarray(fan.normalized_error(found, landmarks))


def _draw(image: np.ndarray, landmarks: np.ndarray, found: np.ndarray) -> np.ndarray:
    """One face (s, s, 3), enlarged, with its points (p, 2)."""
    scale = _SIDE / len(image)
    drawn = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    for points, color in ((landmarks, _TRUE), (found, _FOUND)):
        if np.isfinite(points).all():
            for x, y in np.rint(((points + 0.5) * scale - 0.5) * 2**_SUBPIXELS).astype(int).tolist():
                cv2.circle(drawn, (x, y), 3 * 2 ** (_SUBPIXELS - 1), color, -1, cv2.LINE_AA, _SUBPIXELS)
    return drawn
