"""Landmarks that were found elsewhere, read from a CSV file instead of detecting faces.

Two kinds of table are understood:

- ``video, frame, face_id, x_0 .. x_{p-1}, y_0 .. y_{p-1}`` with p of 5, 49, 66, 68 or 98 points,
  frames counted from 0, ``video`` as in the results (a file's name, or its path below the folder
  that was given). A column ``confidence`` is handed on, other columns are ignored.
- OpenFace 2's output of one video: no ``video`` column, frames counted from 1, 68 points,
  ``success`` 0 where it lost the face.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxau.faces.landmarks import SCHEMES


@dataclass(frozen=True)
class LandmarkRow:
    """One face of one frame, as the file tells it.

    Attributes:
      face_id: its number.
      landmarks: (p, 2) float64 pixels; None where the file itself says that it has none.
      confidence: in [0, 1]; None where the file does not tell.
    """

    face_id: int
    landmarks: np.ndarray | None
    confidence: float | None


class LandmarkFile:
    """A CSV file of landmarks of one or more videos, read frame by frame.

    Only the place of each video in the file is held in memory, so rows must be ordered: the rows of
    a video together, its frames ascending.

    Args:
      path: the CSV file.

    Raises:
      ValueError: no such file, missing columns, unknown number of points, or unordered videos.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"landmarks {self.path}: no such file; check --landmarks")
        with self.path.open("rb") as file:
            header = [name.strip() for name in self._fields(file.readline(), 1)]
            self._columns = {name: i for i, name in enumerate(header)}
            self.of_openface = "video" not in self._columns
            self._check_columns(header)
            self._start: dict[str, tuple[int, int]] = {}  # video -> byte, line number
            self._index(file)

    def _check_columns(self, header: list[str]) -> None:
        needed = ["frame"] if self.of_openface else ["video", "frame", "face_id"]
        numbers = [int(name[2:]) for name in header if re.fullmatch("[xy]_(0|[1-9][0-9]{0,3})", name)]
        points = max(numbers, default=-1) + 1
        needed += [f"{axis}_{i}" for axis in "xy" for i in range(points)]
        missing = [name for name in needed if name not in self._columns]
        if missing or points not in SCHEMES:
            raise ValueError(
                f"landmarks {self.path}: columns {header[:6]}... with {points} points x_i, y_i"
                f"{f' and without {missing[:5]}' if missing else ''}: must be video, frame, face_id, "
                f"x_0.., y_0.. with one of {SCHEMES} points (or a table of OpenFace 2), none left out; "
                "rename or add the columns"
            )
        twice = [name for name in needed if header.count(name) > 1]
        if twice:
            raise ValueError(
                f"landmarks {self.path}: several columns are named {twice[:5]}: each must come once; rename "
                "or remove the others"
            )
        self._xy = [(self._columns[f"x_{i}"], self._columns[f"y_{i}"]) for i in range(points)]

    def _index(self, file: BinaryIO) -> None:
        if self.of_openface:
            self._start[""] = (file.tell(), 2)
            return
        column, current = self._columns["video"], None
        position, number = file.tell(), 2
        while line := file.readline():
            if line.strip():
                video = self._video(line, column, number)
                if video != current:
                    if video in self._start:
                        raise ValueError(
                            f"landmarks {self.path}, line {number}: rows of {video!r} stand in several "
                            "places; sort the file by video and frame"
                        )
                    self._start[video] = (position, number)
                    current = video
            position, number = file.tell(), number + 1

    def _video(self, line: bytes, column: int, number: int) -> str:
        try:
            # Names stand in front as a rule: there is no need to split all of a long line.
            if column == 0 and not line.startswith(b'"'):
                return line.split(b",", 1)[0].decode()
            return self._fields(line, number)[column]
        except (UnicodeDecodeError, IndexError) as error:
            raise ValueError(
                f"landmarks {self.path}, line {number}: cannot be read ({error}); the file must be UTF-8 "
                "with a video in each row"
            ) from error

    @property
    def points(self) -> int:
        """Number of landmarks of a face."""
        return len(self._xy)

    @property
    def videos(self) -> list[str]:
        """Names of the videos in the file; none for a table of OpenFace 2, which does not say."""
        return [] if self.of_openface else list(self._start)

    def frames(self, video: str) -> Iterator[tuple[int, list[LandmarkRow]]]:
        """The frames of a video that have rows, ascending.

        Args:
          video: a name in ``videos``; for a table of OpenFace 2 it does not matter.

        Yields:
          The frame's number from 0, and its faces.

        Raises:
          ValueError: a row that cannot be read, or frames in another order.
        """
        if self.of_openface:
            video = ""
        if video not in self._start:
            return
        current, faces = -1, list[LandmarkRow]()
        for number, fields in self._rows(video):
            try:
                frame, row = self._parse(fields)
            except (ValueError, IndexError, OverflowError) as error:
                raise ValueError(
                    f"landmarks {self.path}, line {number}: {len(fields)} fields cannot be read "
                    f"({error}); {len(self._columns)} columns are needed, with numbers in frame, "
                    "face_id, x_i and y_i"
                ) from error
            if frame < current or (frame == current and row.face_id in {f.face_id for f in faces}):
                raise ValueError(
                    f"landmarks {self.path}, line {number}: frame {frame}, face {row.face_id} after "
                    f"frame {current}: each face must come once, frames ascending; sort the file"
                )
            if frame > current and faces:
                yield current, faces
                faces = []
            current = frame
            faces.append(row)
        if faces:
            yield current, faces

    def _rows(self, video: str) -> Iterator[tuple[int, list[str]]]:
        start, number = self._start[video]
        with self.path.open("rb") as file:
            file.seek(start)
            while line := file.readline():
                if line.strip():
                    fields = self._fields(line, number)
                    if not self.of_openface and fields[self._columns["video"]] != video:
                        return
                    yield number, fields
                number += 1

    def _parse(self, fields: list[str]) -> tuple[int, LandmarkRow]:
        def number(name: str) -> float | None:
            text = fields[self._columns[name]].strip() if name in self._columns else ""
            return float(text) if text else None

        frame = int(fields[self._columns["frame"]])
        if self.of_openface and frame < 1:
            raise ValueError(f"frame {frame}, but OpenFace counts frames from 1: add 1 to all of them")
        if frame < 0:
            raise ValueError(f"frame {frame}, but frames count from 0")
        frame -= self.of_openface
        face_id = int(number("face_id") or 0)
        landmarks = None
        if not self.of_openface or number("success") != 0:
            landmarks = np.array([[_pixel(fields[x]), _pixel(fields[y])] for x, y in self._xy])
        return frame, LandmarkRow(face_id, landmarks, number("confidence"))

    def _fields(self, line: bytes, number: int) -> list[str]:
        try:
            return next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")]), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"landmarks {self.path}, line {number}: cannot be read ({error}); the file must be CSV in "
                "UTF-8 with lines that end in a line feed: save it so"
            ) from error


def _pixel(text: str) -> float:
    return float(text) if text.strip() else float("nan")
