"""The faces of the frames of a file: by a detector and a tracker, or from landmarks that are given."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxau.faces.detect import YuNet
from jaxau.faces.landmark_file import LandmarkRow
from jaxau.faces.landmarks import SCHEMES, check_landmarks
from jaxau.faces.track import FaceTracker
from jaxau.faces.video import Frame
from jaxau.result_table import Face

_UNTIMED_FPS = 25.0  # for following faces in a video without time stamps

Given = Iterator[tuple[int, list[LandmarkRow]]]


def faces_of_landmarks(found: Iterable[LandmarkRow]) -> list[Face]:
    """Faces from landmarks that were given; unusable ones get a reason."""
    faces = []
    for row in found:
        face = Face(row.face_id, confidence=row.confidence)
        faces.append(face)
        if row.landmarks is None:
            face.reason = "face_lost"
            continue
        try:
            face.landmarks = check_landmarks(row.landmarks)
        except ValueError:
            face.reason = "bad_landmarks"
            continue
        low, high = face.landmarks.min(0), face.landmarks.max(0)
        face.box = np.concatenate([low, high - low])
    return faces or [Face(reason="no_landmarks")]


def rows_of_array(landmarks: Sequence[np.ndarray] | np.ndarray) -> Given:
    """One face a frame, as `LandmarkFile.frames` gives them.

    Args:
      landmarks: (n, p, 2) pixels, NaN in frames without a face.

    Raises:
      ValueError: another shape, or an unknown number of points.
    """
    try:
        points = np.asarray(landmarks, np.float64)
    except ValueError as error:
        raise ValueError(f"landmarks are no array of numbers ({error}); give (frames, points, 2)") from error
    if points.ndim != 3 or points.shape[1] not in SCHEMES or points.shape[2] != 2:
        raise ValueError(
            f"landmarks of shape {points.shape}: must be (frames, points, 2) with one of {SCHEMES} points, "
            "NaN where there is no face"
        )
    return ((i, [LandmarkRow(0, face, None)]) for i, face in enumerate(points))


class FaceFinder:
    """Finds the faces of the frames of one video or picture, in their order.

    Args:
      detector: used where no landmarks are given.
      given: the frames that have landmarks, ascending.
      is_picture: faces are numbered by size; in videos they are followed.
      every: frames from one to the next that is looked at.

    Raises:
      ValueError: neither detector nor landmarks.
    """

    def __init__(
        self, detector: YuNet | None, given: Given | None, is_picture: bool = False, every: int = 1
    ) -> None:
        if detector is None and given is None:
            raise ValueError("no landmarks and no detector: give one of the two")
        self._detector, self._given = detector, given
        self._tracker = None if is_picture else FaceTracker(every / _UNTIMED_FPS)
        self._next: tuple[int, list[LandmarkRow]] | None = None

    def __call__(self, frame: Frame) -> list[Face]:
        """The faces of a frame, at least one `Face`, which may only hold a reason.

        Raises:
          ValueError: a row of the landmarks that cannot be read.
        """
        if self._given is None:
            return self._detect(frame)
        if self._next is None:
            self._next = next(self._given, None)
        while self._next is not None and self._next[0] < frame.index:
            self._next = next(self._given, None)
        if self._next is not None and self._next[0] == frame.index:
            found, self._next = self._next[1], None
            return faces_of_landmarks(found)
        return faces_of_landmarks([])

    def _detect(self, frame: Frame) -> list[Face]:
        assert self._detector is not None
        found = self._detector.detect(frame.image)
        ids = list(range(len(found)))
        if self._tracker is not None:
            ids = self._tracker.update(np.array([d.box for d in found]), frame.timestamp, frame.image)
        faces = [Face(face_id, d.box, d.score, d.landmarks) for face_id, d in zip(ids, found, strict=True)]
        return sorted(faces, key=lambda face: face.face_id or 0) or [Face(reason="no_face")]

    def unused(self) -> int:
        """Frames with landmarks after the last frame of the file.

        Raises:
          ValueError: a row of the landmarks that cannot be read.
        """
        return (self._next is not None) + sum(1 for _ in self._given or ())


def unused_landmarks(frames: int) -> str:
    """What to say about landmarks of frames after the last one of a file."""
    return (
        f"landmarks of {frames} frames that were not predicted or do not exist; check that they "
        "belong to this video"
    )
