"""The table of results: one row for each frame and face, or one with the reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jaxau import facs


@dataclass
class Face:
    """One row of the results: a face of a frame, or the reason why there is none.

    Attributes:
      face_id: stable over a video; None without a face.
      box: (4,) x, y, width, height in pixels.
      confidence: of the detector, in [0, 1].
      landmarks: (p, 2) pixels of the frame.
      reason: empty if AUs are predicted, else no_face, no_landmarks, face_lost or bad_landmarks.
      crop: the network's input, until it has been predicted.
      expression: (51,) coefficients of a face model, where the network is given them and they could be
        fitted.
      pose: (Rx, Ry, Rz) of the head as OpenFace 2 states it, radians; None where it is not asked for or
        known.
      probability: (k,) of the AUs, from then on.
    """

    face_id: int | None = None
    box: np.ndarray | None = None
    confidence: float | None = None
    landmarks: np.ndarray | None = None
    reason: str = ""
    crop: np.ndarray | None = None
    expression: np.ndarray | None = None
    pose: tuple[float, float, float] | None = None
    probability: np.ndarray | None = None


@dataclass
class FrameFaces:
    """The faces of one frame (at least one `Face`, which may only hold a reason).

    Attributes:
      index: counts decoded frames from 0.
      timestamp: in seconds; None where the file has none.
      width: of the frame in pixels.
      image: kept only for overlays, perhaps reduced.
    """

    index: int
    timestamp: float | None
    faces: list[Face]
    width: int
    image: np.ndarray | None = None

    def is_done(self) -> bool:
        """Whether no face waits for the network."""
        return all(face.crop is None for face in self.faces)


POSE = ("pose_Rx", "pose_Ry", "pose_Rz")


def schema(aus: Sequence[int], points: int = 0, pose: bool = False) -> pa.Schema:
    """Columns of the results.

    Args:
      aus: k AU numbers: a probability ``AU01_p`` and an occurrence ``AU01_c`` of each.
      points: number of landmarks ``x_0 .. y_0 ..`` in pixels; 0 leaves them out.
      pose: whether there is the head's, in radians.
    """
    return pa.schema(
        [
            ("video", pa.string()),
            ("frame", pa.int32()),
            ("face_id", pa.int32()),
            ("timestamp", pa.float64()),
            ("confidence", pa.float32()),
            ("success", pa.int8()),
            ("reason", pa.string()),
            *((name, pa.float32()) for name in "xywh"),
            *((name, pa.float32()) for name in POSE if pose),
            *((f"{axis}_{i}", pa.float32()) for axis in "xy" for i in range(points)),
            *((f"{facs.column(au)}_p", pa.float32()) for au in aus),
            *((f"{facs.column(au)}_c", pa.int8()) for au in aus),
        ]
    )


def rows(frame: FrameFaces, video: str, aus: Sequence[int], thresholds: np.ndarray) -> list[dict[str, Any]]:
    """The rows of a predicted frame, with landmarks where it has them.

    Args:
      frame: after `Predictor.stream`.
      video: name of the file.
      aus: k AU numbers.
      thresholds: (k,); an AU occurs where its probability reaches its threshold.
    """
    table = []
    for face in frame.faces:
        row: dict[str, Any] = {
            "video": video,
            "frame": frame.index,
            "face_id": face.face_id,
            "timestamp": None if frame.timestamp is None else round(frame.timestamp, 6),
            "confidence": None if face.confidence is None else round(face.confidence, 4),
            "success": int(face.probability is not None),
            "reason": face.reason,
        }
        if face.box is not None:
            row |= dict(zip("xywh", face.box.round(2).tolist(), strict=True))
        if face.pose is not None:
            row |= {name: round(angle, 6) for name, angle in zip(POSE, face.pose, strict=True)}
        if face.landmarks is not None:
            for i, (x, y) in enumerate(face.landmarks.round(2).tolist()):
                row[f"x_{i}"], row[f"y_{i}"] = x, y
        if face.probability is not None:
            occurs = face.probability >= thresholds
            for au, p, c in zip(aus, face.probability, occurs, strict=True):
                row[f"{facs.column(au)}_p"] = round(float(p), 6)
                row[f"{facs.column(au)}_c"] = int(c)
        table.append(row)
    return table


def openface_columns(aus: Sequence[int], points: int = 0, pose: bool = False) -> list[str]:
    """OpenFace 2's names, in its order, of those of its columns that exist here.

    Its intensities ``AU01_r`` do not: a probability is no intensity.
    """
    landmarks = [f"{axis}_{i}" for axis in "xy" for i in range(points)]
    occurrences = [f"{facs.column(au)}_c" for au in sorted(aus)]
    angles = POSE if pose else ()
    return ["frame", "face_id", "timestamp", "confidence", "success", *angles, *landmarks, *occurrences]


def openface_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `rows` as OpenFace 2 counts: frames from 1."""
    return row | {"frame": row["frame"] + 1}
