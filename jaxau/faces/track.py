"""Stable numbers for the faces of a video."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

_RETURN_SECONDS = 1.0  # a lost face may return within this time
_MIN_OVERLAP = 0.2  # of the predicted and the found box
_THUMBNAIL = (32, 32)
_SAME_SHOT = 0.5  # correlation of the thumbnails of neighbouring frames
_SMOOTHING = 0.5  # share of the newest step in a track's velocity


@dataclass
class _Track:
    face_id: int
    box: np.ndarray  # (4,) x, y, width, height where it was last seen
    velocity: np.ndarray  # (2,) pixels a second
    seen: float  # seconds

    def predicted(self, timestamp: float) -> np.ndarray:
        moved = self.box.copy()
        moved[:2] += self.velocity * (timestamp - self.seen)
        return moved


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4) x, y, width, height; broadcasts."""
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - common
    return common / np.maximum(union, 1e-9)


class FaceTracker:
    """Gives the faces of a video stable ids 0, 1, 2 ...

    Boxes are matched with where each known face should be by now (constant velocity), so that the
    total overlap is largest. A lost face may return within a second, and the faces of the frame just
    before are known however long ago it was. Where a new shot begins (the picture has little in common
    with the one before), all faces are new.

    Args:
      step: seconds from one frame to the next, where they have no time stamps.
    """

    def __init__(self, step: float = 1 / 25) -> None:
        self._step = step
        self._now = -step
        self._tracks: list[_Track] = []
        self._next = 0
        self._thumbnail: np.ndarray | None = None

    def update(self, boxes: np.ndarray, timestamp: float | None, image: np.ndarray) -> list[int]:
        """Ids of the faces of the next frame.

        Args:
          boxes: (n, 4) x, y, width, height in pixels; n may be 0.
          timestamp: in seconds; None, or not after the frame before, is taken as one step after it.
          image: (h, w, 3) uint8 RGB, the frame, to notice a new shot.

        Returns:
          n ids.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if self._is_new_shot(image):
            self._tracks = []
        if timestamp is None or timestamp <= self._now:
            timestamp = self._now + self._step
        before, self._now = self._now, timestamp
        self._tracks = [t for t in self._tracks if t.seen == before or timestamp - t.seen <= _RETURN_SECONDS]
        matched: dict[int, _Track] = {}
        if self._tracks and len(boxes):
            expected = np.stack([t.predicted(timestamp) for t in self._tracks])
            last = np.stack([t.box for t in self._tracks])
            # A face that stopped moving is still where it was.
            overlaps = np.maximum(
                overlap(expected[:, None], boxes[None]), overlap(last[:, None], boxes[None])
            )
            overlaps[overlaps < _MIN_OVERLAP] = 0
            for track, face in zip(*linear_sum_assignment(-overlaps), strict=True):
                if overlaps[track, face] > 0:
                    matched[int(face)] = self._tracks[track]
        ids = []
        for face, box in enumerate(boxes):
            track = matched.get(face)
            if track is None:
                track = _Track(self._next, box, np.zeros(2), timestamp)
                self._next += 1
                self._tracks.append(track)
            else:
                step = (box[:2] + box[2:] / 2) - (track.box[:2] + track.box[2:] / 2)
                velocity = step / max(timestamp - track.seen, 1e-3)
                track.velocity = (1 - _SMOOTHING) * track.velocity + _SMOOTHING * velocity
                track.box, track.seen = box, timestamp
            ids.append(track.face_id)
        return ids

    def _is_new_shot(self, image: np.ndarray) -> bool:
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64)
        thumbnail -= thumbnail.mean()
        before, self._thumbnail = self._thumbnail, thumbnail
        if before is None:
            return False
        spread = np.sqrt([(before**2).mean(), (thumbnail**2).mean()])
        if spread.max() < 1:  # two uniform pictures
            return False
        common = (before * thumbnail).mean() / (spread.prod() + 1e-9)
        return bool(common < _SAME_SHOT)
