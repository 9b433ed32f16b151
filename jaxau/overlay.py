"""Pictures to look at: box, landmarks and AU bars drawn over a frame."""

from collections.abc import Sequence

import cv2
import numpy as np

from jaxau import facs
from jaxau.result_table import Face, FrameFaces

LONGEST_SIDE = 1280
_SHORTEST_HEIGHT = 480
_PANEL = 240  # width in pixels of the bars beside the picture
_FACES = 4  # with bars; the others are only drawn in the picture
_COLORS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167))  # told apart by all eyes
_INK, _PAPER, _TRACK = (30, 30, 30), (250, 250, 250), (225, 225, 225)


def reduce(image: np.ndarray) -> np.ndarray:
    """The picture with its longest side at most `LONGEST_SIDE` pixels."""
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def draw(frame: FrameFaces, aus: Sequence[int], thresholds: np.ndarray) -> np.ndarray:
    """Draw a predicted frame.

    Args:
      frame: with its image, which may be smaller than the original (`reduce`).
      aus: k AU numbers.
      thresholds: (k,), shown as a tick on each bar; a bar beyond its tick is dark.

    Returns:
      (h, w, 3) uint8 RGB: the picture, and to its right the bars.
    """
    assert frame.image is not None
    image = frame.image
    enlarge = max(1.0, _SHORTEST_HEIGHT / image.shape[0])
    if enlarge > 1:
        image = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    image = image.copy()
    scale = image.shape[1] / frame.width
    for face in frame.faces:
        _draw_face(image, face, scale)
    panel = np.full((image.shape[0], _PANEL, 3), _PAPER, np.uint8)
    with_aus = [face for face in frame.faces if face.probability is not None][:_FACES]
    row = image.shape[0] / (len(aus) + 1)
    for i, au in enumerate(aus):
        _text(panel, facs.column(au), (8, int((i + 1) * row + 5)), _INK)
        for j, face in enumerate(with_aus):
            assert face.probability is not None
            thickness = max(2, int(0.7 * row / len(with_aus)))
            top = int((i + 0.65) * row + j * thickness)
            _draw_bar(panel, top, thickness, float(face.probability[i]), float(thresholds[i]), _color(face))
    if not with_aus:
        _text(panel, frame.faces[0].reason.replace("_", " "), (8, 14), (180, 0, 0))
    return np.concatenate([image, panel], axis=1)


def _color(face: Face) -> tuple[int, int, int]:
    return _COLORS[(face.face_id or 0) % len(_COLORS)]


def _draw_face(image: np.ndarray, face: Face, scale: float) -> None:
    if face.box is not None:
        low = np.round(face.box[:2] * scale).astype(int).tolist()
        high = np.round((face.box[:2] + face.box[2:]) * scale).astype(int).tolist()
        cv2.rectangle(image, low, high, _color(face), 2)
        label = f"{face.face_id} {face.reason}".strip()
        _text(image, label, (low[0], max(12, low[1] - 6)), _color(face))
    if face.landmarks is not None:
        for point in np.round(face.landmarks * scale).astype(int).tolist():
            cv2.circle(image, point, 2, _color(face), -1)


def _draw_bar(
    panel: np.ndarray, top: int, thickness: int, value: float, threshold: float, color: tuple[int, int, int]
) -> None:
    left, right = 62, _PANEL - 10
    end = left + round((right - left) * value)
    tick = left + round((right - left) * threshold)
    bottom = top + thickness - 2
    faint = tuple(int(0.5 * c + 0.5 * p) for c, p in zip(color, _PAPER, strict=True))
    cv2.rectangle(panel, (left, top), (right, bottom), _TRACK, -1)
    cv2.rectangle(panel, (left, top), (end, bottom), color if value >= threshold else faint, -1)
    cv2.line(panel, (tick, top), (tick, bottom), _INK, 1)


def _text(image: np.ndarray, text: str, at: tuple[int, int], color: tuple[int, int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)
