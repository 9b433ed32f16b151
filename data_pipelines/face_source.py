"""Where the landmarks of a corpus come from that supplies none, or whose own are not wanted."""

import functools
import hashlib
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
      kind: "yunet" finds five points of the largest face; "file" reads a table of landmarks
        (`jaxau.faces.landmark_file`), which names the videos as the data set does.
      path: YuNet's weights, or the table.
    """

    kind: Literal["yunet", "file"]
    path: Path

    @property
    def points(self) -> int:
        """Landmarks of a face."""
        return 5 if self.kind == "yunet" else _table(self.path).points

    def check(self) -> None:
        """Open what must be opened.

        Raises:
          ValueError: it cannot be used.
        """
        _detector(self.path) if self.kind == "yunet" else _table(self.path)

    def request(self) -> dict[str, Any]:
        """What decides the landmarks, as arguments of a data set: no path, but what the file holds."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"landmarks_from": self.kind, "landmarks_hash": digest[:16]}

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
        if self.kind == "yunet":
            found = [face.landmarks for face in _detector(self.path).detect(picture)]
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


# Each process opens these once.
@functools.lru_cache(maxsize=1)
def _detector(weights: Path) -> YuNet:
    return YuNet(weights)


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
