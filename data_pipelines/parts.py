"""The records of one subject or video, and the file that holds them until all are there."""

import dataclasses
import io
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

What = Literal["frame", "uncoded", "label", "intensity", "landmarks"]


@dataclass(frozen=True)
class Remark:
    """Frames of a subject whose records are not simply what the owner's files hold, and why.

    Attributes:
      what: "frame" left out; "uncoded" frame left out, because the owner says that nobody labelled it;
        "label" of ``aus`` masked; "intensity" of ``aus`` not used, where their occurrence is kept;
        "landmarks" of another frame, or one of several faces, taken.
      reason: for people; the same for all these frames.
      frames: their numbers.
      aus: whose labels are masked.
      video: its name; "" where a subject has but one.
      subject: his name; "" where the part is one subject.
    """

    what: What
    reason: str
    frames: tuple[int, ...]
    aus: tuple[int, ...] = ()
    video: str = ""
    subject: str = ""

    def to_manifest(self, subject: str) -> dict[str, Any]:
        """The entry of the manifest, with frame numbers as [first, last] pairs."""
        numbers = np.array(sorted(self.frames))
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        return {
            "subject": self.subject or subject,
            **({"video": self.video} if self.video else {}),
            "what": self.what,
            "aus": list(self.aus),
            "reason": self.reason,
            "count": len(numbers),
            "frames": [[int(run[0]), int(run[-1])] for run in runs if len(run)],
        }


class Laps:
    """Seconds spent on each stage of some work."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last call, or since the beginning, was spent on ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last  # type: ignore[assignment]
        self._last = now


@dataclass(frozen=True)
class Part:
    """The records of one subject or video, in order of video and frame (n of them; may be none).

    Attributes:
      images: n JPEGs of the aligned crop.
      landmarks: (n, p, 2) float32 pixels of the crop.
      intensity: (n, k) float32.
      video: (n,) int32.
      frame: (n,) int32.
      remarks: what the records leave out or replace.
      subject: (n,) int32; None = all are of the subject whose number the part has.
      names: of videos, by their numbers; others are named after subject and number.
      emotion: (n,) int32 expression labels, where the corpus has them.
      seconds: what making it took, by stage; not written.
    """

    images: list[bytes]
    landmarks: np.ndarray
    intensity: np.ndarray
    video: np.ndarray
    frame: np.ndarray
    remarks: tuple[Remark, ...] = ()
    subject: np.ndarray | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    emotion: np.ndarray | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {
            "frames": len(self.images),
            "landmarks": len(self.landmarks),
            "labels": len(self.intensity),
            "video numbers": len(self.video),
            "frame numbers": len(self.frame),
        }
        if len(set(lengths.values())) != 1:
            said = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise ValueError(f"{said}: must be as many of each; correct the lists of this subject")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there completely or not at all, after a power cut and from two sides at once."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_part(path: Path, part: Part) -> None:
    """Write a part file, whole or not at all."""
    optional: dict[str, Any] = {"subject": part.subject, "emotion": part.emotion}
    content = io.BytesIO()
    np.savez(
        content,
        jpeg=np.frombuffer(b"".join(part.images), np.uint8),
        jpeg_end=np.cumsum([len(image) for image in part.images]),
        landmarks=part.landmarks,
        intensity=part.intensity,
        video=part.video,
        frame=part.frame,
        remarks=json.dumps([dataclasses.asdict(remark) for remark in part.remarks]),
        names=json.dumps(list(part.names.items())),
        **{name: values for name, values in optional.items() if values is not None},
    )
    write_whole(path, content.getvalue())


def read_part(path: Path) -> Part:
    """Read what `write_part` wrote."""
    with np.load(path) as arrays:
        pieces = np.split(arrays["jpeg"], arrays["jpeg_end"])[:-1]
        return Part(
            [piece.tobytes() for piece in pieces],
            arrays["landmarks"],
            arrays["intensity"],
            arrays["video"],
            arrays["frame"],
            read_remarks(arrays),
            arrays.get("subject"),
            dict(json.loads(arrays["names"].item())),
            arrays.get("emotion"),
        )


def read_remarks(arrays: Mapping[str, np.ndarray]) -> tuple[Remark, ...]:
    """The remarks of an open part file."""
    return tuple(
        Remark(**{**remark, "frames": tuple(remark["frames"]), "aus": tuple(remark["aus"])})
        for remark in json.loads(arrays["remarks"].item())
    )


def part_length(path: Path) -> int:
    """The number of records in a part file, without reading their pictures."""
    with np.load(path) as arrays:
        return len(arrays["jpeg_end"])
