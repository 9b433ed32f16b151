"""Where the landmarks of a corpus come from that supplies none, or whose own are not wanted."""

import functools
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxau.faces.detect import YuNet
from jaxau.faces.landmark_file import LandmarkFile


class NoFace(ValueError):
    """A picture without a usable face, with the reason."""


@dataclass(frozen=True)
class FaceSource:
    """A detector, or landmarks that were found elsewhere.

    Attributes:
      kind: "yunet" finds five points of the largest face; "dlib" 68 points, with dlib's frontal face detector
        and a shape predictor; "file" reads a table of landmarks (`jaxau.faces.landmark_file`), which names
        the videos as the data set does.
      path: YuNet's weights, dlib's shape predictor, or the table.
      only_missing: it is asked only where the corpus has no landmarks, and for the alignment alone: what it
        finds are other points than the corpus's, so that such a record has a picture, but no landmarks.
    """

    kind: Literal["yunet", "dlib", "file"]
    path: Path
    only_missing: bool = False

    @property
    def points(self) -> int:
        """Landmarks of a face."""
        return {"yunet": 5, "dlib": 68}.get(self.kind) or _table(self.path).points

    def check(self) -> None:
        """Open what must be opened.

        Raises:
          ValueError: it cannot be used.
        """
        if self.kind == "file":
            _table(self.path)
        else:
            {"yunet": _detector, "dlib": _predictor}[self.kind](self.path, threading.get_ident())

    def request(self) -> dict[str, Any]:
        """What decides the landmarks, as arguments of a data set: no path, but what the file holds."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        origin = f"corpus, else {self.kind}" if self.only_missing else self.kind
        return {"landmarks_from": origin, "landmarks_hash": digest[:16]}

    def find(
        self, picture: np.ndarray, video: str, index: int, box: np.ndarray | None = None
    ) -> tuple[np.ndarray, int]:
        """The landmarks of a picture.

        Args:
          picture: (h, w, 3) uint8 RGB.
          video: its name in the table.
          index: number of the decoded frame from 0, of a series of pictures the owner's number.
          box: (4,) left, top, right, bottom as fractions of the picture, in which the middle of the face
          lies.

        Returns:
          (p, 2) pixels of the largest face, and how many faces there are (in the box).

        Raises:
          NoFace: there are none.
        """
        if self.kind != "file":
            found = _of_yunet(self.path, picture) if self.kind == "yunet" else _of_dlib(self.path, picture)
            found = [face for face in found if box is None or _is_in(face, box, picture)]
            if not found:
                raise NoFace("no face found" if box is None else "no face found in its box")
            return found[0], len(found)
        faces = _rows(self.path, video).get(index, [])
        faces = [face for face in faces if box is None or _is_in(face, box, picture)]
        if not faces:
            raise NoFace("no landmarks in the table")
        largest = max(faces, key=lambda face: float(np.ptp(face, axis=0).prod()))
        return largest, len(faces)


def _is_in(face: np.ndarray, box: np.ndarray, picture: np.ndarray) -> bool:
    x, y = face.mean(0) / [picture.shape[1], picture.shape[0]]
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


# Each thread opens these once: detectors keep the picture at hand, and Beam's workers have threads.
@functools.lru_cache(maxsize=64)
def _detector(weights: Path, thread: int) -> YuNet:
    return YuNet(weights)


@functools.lru_cache(maxsize=64)
def _predictor(path: Path, thread: int) -> tuple[Any, Any]:
    """dlib's frontal face detector, and the shape predictor of that file."""
    try:
        import dlib
    except ImportError as error:
        raise ValueError(
            "dlib is not installed: run 'pip install jaxau[dlib]', or use --detector=yunet"
        ) from error
    if not path.is_file():
        raise ValueError(
            f"shape predictor {path}: no such file; give dlib's shape_predictor_68_face_landmarks.dat"
        )
    try:
        predictor = dlib.shape_predictor(str(path))
        blank = predictor(np.zeros((64, 64, 3), np.uint8), dlib.rectangle(8, 8, 56, 56))
    except RuntimeError as error:
        raise ValueError(f"shape predictor {path}: dlib cannot read it ({error}); copy it again") from error
    if blank.num_parts != 68:
        raise ValueError(
            f"shape predictor {path}: finds {blank.num_parts} points, must find 68; give that of 68"
        )
    return dlib.get_frontal_face_detector(), predictor


def _of_yunet(path: Path, picture: np.ndarray) -> list[np.ndarray]:
    return [face.landmarks for face in _detector(path, threading.get_ident()).detect(picture)]


def _of_dlib(path: Path, picture: np.ndarray) -> list[np.ndarray]:
    """Landmarks (68, 2) of all faces, the largest first."""
    detector, predictor = _predictor(path, threading.get_ident())
    boxes = sorted(detector(picture, 1), key=lambda box: -box.area())
    return [np.array([(p.x, p.y) for p in predictor(picture, box).parts()], np.float64) for box in boxes]


@functools.lru_cache(maxsize=1)
def _table(path: Path) -> LandmarkFile:
    return LandmarkFile(path)


@functools.lru_cache(maxsize=2)
def _rows(path: Path, video: str) -> dict[int, list[np.ndarray]]:
    """Frame from 0 -> the faces of a video that have landmarks."""
    return {
        frame: [r.landmarks for r in faces if r.landmarks is not None and np.isfinite(r.landmarks).all()]
        for frame, faces in _table(path).frames(video)
    }
