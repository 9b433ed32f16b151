"""What most corpora share: labelled frames, listed before any picture is read, and their records.

A module of `data_pipelines.corpora` knows one owner's layout and turns it into `Listed` videos; `make_part`
reads, aligns and encodes their pictures, and `data_pipelines.doctor` examines them. A frame that cannot be
used is left out, a label that cannot be used is masked, and each is counted with its reason: see `Remarks`.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import records
from data_pipelines.face_source import FaceSource, NoFace
from data_pipelines.parts import Laps, Part, Remark, What
from data_pipelines.preparation import Corpus
from jaxau.faces.align import align, check_alignment, transform_points
from jaxau.faces.video import PICTURES, open_video, read_image

Landmarks = Callable[[int], np.ndarray]
"""Position in a listed video -> (p, 2) pixels, (0, 0) the centre of the first; ValueError: none, why."""


@dataclass(frozen=True)
class Listed:
    """The labelled frames of one video or set of pictures, n of them.

    Attributes:
      subject: name of the person.
      name: of the video; frame lists and tables of landmarks call it so.
      frames: (n,) frame numbers as in the owner's label files, increasing.
      intensity: (n, k) float32, NaN where not coded.
      pictures: a path for each frame, None where there is none; or one video file.
      indices: (n,) of the frames among the decoded ones, from 0, where ``pictures`` is a video.
      landmarks: the owner's; None where the corpus has none.
      boxes: (n, 4) left, top, right and bottom of each face as fractions of its picture, where several faces
        may be on one picture; a detector looks for the face whose middle lies in it.
      unlabelled: why frames of the video that are not listed are left out; "" = they are none of ours.
      emotion: (n,) int32 where the corpus has expression labels.
      remarks: what the listing itself leaves out or masks.
    """

    subject: str
    name: str
    frames: np.ndarray
    intensity: np.ndarray
    pictures: Sequence[Path | None] | Path
    indices: np.ndarray | None = None
    landmarks: Landmarks | None = None
    boxes: np.ndarray | None = None
    unlabelled: str = ""
    emotion: np.ndarray | None = None
    remarks: tuple[Remark, ...] = ()

    @property
    def usable(self) -> np.ndarray:
        """(n,) bool: which frames have a label at all; all, where no AU is coded by the corpus."""
        return (
            np.isfinite(self.intensity).any(1) if self.intensity.shape[1] else np.ones(len(self.frames), bool)
        )


Read = Callable[[Path, str, str], Listed]
"""Folder of the corpus, names of subject and video -> the video's frames; the owner's layout is in it."""


class Remarks:
    """Collects frames by what happened to them and why."""

    def __init__(self, given: Sequence[Remark] = ()) -> None:
        self._frames: dict[tuple[What, str, tuple[int, ...]], list[int]] = defaultdict(list)
        for remark in given:
            self._frames[remark.what, remark.reason, remark.aus] += remark.frames

    def add(self, what: What, reason: str, *frames: int, au: int | None = None) -> None:
        """Say of some frames that this happened to them."""
        self._frames[what, reason, () if au is None else (au,)] += frames

    def all(self, video: str = "", subject: str = "") -> tuple[Remark, ...]:
        """Everything so far, said of one video."""
        return tuple(
            Remark(what, reason, tuple(frames), aus, video, subject)
            for (what, reason, aus), frames in self._frames.items()
        )


def occurrence(
    texts: Sequence[str], au: int, frames: Sequence[int], source: str, remarks: Remarks
) -> np.ndarray:
    """A column of occurrence codes as the records hold them.

    Args:
      texts: "1" occurs, "0" does not, "9" or "" is not coded; anything else is masked and said.
      au: its number.
      frames: numbers of the frames.
      source: name of the file, for the remark.
      remarks: where values outside this code book are said.

    Returns:
      (n,) float32: `records.ABSENT`, `records.OCCURS`, or NaN where not coded.
    """
    values = {"0": records.ABSENT, "1": records.OCCURS, "9": np.nan, "": np.nan}
    column = np.full(len(texts), np.nan, np.float32)
    for i, text in enumerate(texts):
        code = text.strip().removesuffix(".0")
        column[i] = values.get(code, np.nan)
        if code not in values:
            remarks.add(
                "label", f"value {text.strip()[:40]!r} in {source}, must be 0, 1 or 9", frames[i], au=au
            )
    return column


def rows_of(points: np.ndarray, missing: str = "no landmarks in the owner's list") -> Landmarks:
    """The owner's landmarks (n, p, 2) as `Listed` wants them; a row of NaN is a frame without."""

    def landmarks(position: int) -> np.ndarray:
        found: np.ndarray = points[position]
        if not np.isfinite(found).all():
            raise ValueError(missing)
        return found

    return landmarks


def make_part(
    listed: Listed,
    raw_dir: Path,
    faces: FaceSource | None,
    points: int,
    alignment: str,
    subject: int,
    video: int,
    laps: Laps,
) -> Part:
    """Read, align and encode the frames of a listed video.

    Args:
      listed: its frames.
      raw_dir: whose path no remark may hold.
      faces: finds landmarks; None = those of the corpus.
      points: landmarks of a record.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      subject: number of the subject.
      video: number of the video within the subject.
      laps: for the time of each stage.
    """
    remarks = Remarks(listed.remarks)
    images, landmarks, kept = [], [], []
    for position, picture in pictures(listed, remarks):
        laps.lap("reading pictures")
        number = int(listed.frames[position])
        if not listed.usable[position]:
            remarks.add("frame", "no valid label", number)
            continue
        try:
            face, is_records = _landmarks(listed, position, picture, raw_dir, faces, remarks)
            laps.lap("landmarks")
            crop, matrix = align(picture, face, alignment)
            laps.lap("alignment")
        except ValueError as error:
            remarks.add("frame", without_path(error, raw_dir), number)
            laps.lap("landmarks")
            continue
        images.append(records.encode(crop))
        laps.lap("JPEG")
        known = face if is_records else np.full((points, 2), np.nan)
        landmarks.append(transform_points(known, matrix).astype(np.float32))
        kept.append(position)
    n = len(kept)
    return Part(
        images,
        np.stack(landmarks) if n else np.zeros((0, 0, 2), np.float32),
        listed.intensity[kept],
        np.full(n, video, np.int32),
        listed.frames[kept].astype(np.int32),
        remarks.all(listed.name, listed.subject),
        np.full(n, subject, np.int32),
        {video: listed.name},
        None if listed.emotion is None else listed.emotion[kept].astype(np.int32),
        laps.seconds,
    )


def _landmarks(
    listed: Listed,
    position: int,
    picture: np.ndarray,
    raw_dir: Path,
    faces: FaceSource | None,
    remarks: Remarks,
) -> tuple[np.ndarray, bool]:
    """The points to align by, and whether they are the record's landmarks, too."""
    number = int(listed.frames[position])
    if faces is None or faces.only_missing:
        assert listed.landmarks is not None, "asked for before anything is prepared"
        try:
            return _inside(np.asarray(listed.landmarks(position), np.float64), picture), True
        except ValueError as error:
            if faces is None:
                raise
            missing = without_path(error, raw_dir)
    index = int((listed.frames if listed.indices is None else listed.indices)[position])
    box = None if listed.boxes is None else listed.boxes[position]
    found, count = faces.find(picture, listed.name, index, box)
    points = _inside(np.asarray(found, np.float64), picture)
    if count > 1:
        remarks.add("landmarks", f"{count} faces in the picture: the largest is taken", number)
    if faces.only_missing:
        remarks.add("landmarks", f"{missing}; found otherwise, for the alignment alone", number)
    return points, not faces.only_missing


def _inside(points: np.ndarray, picture: np.ndarray) -> np.ndarray:
    if np.isfinite(points).all():
        height, width = picture.shape[:2]
        center = points.mean(0)
        if not (0 <= center[0] < width and 0 <= center[1] < height):
            raise NoFace("the landmarks lie outside the picture")
    return points


def pictures(listed: Listed, remarks: Remarks) -> Iterator[tuple[int, np.ndarray]]:
    """The pictures of a listed video that can be read, with their positions; the others become remarks."""
    if isinstance(listed.pictures, Path):
        yield from _of_video(listed, listed.pictures, remarks)
        return
    for position, path in enumerate(listed.pictures):
        number = int(listed.frames[position])
        if path is None:
            remarks.add("frame", "no picture", number)
            continue
        try:
            picture = read_image(path)
        except ValueError as error:
            remarks.add("frame", f"no picture: {_short(error, path)}", number)
            continue
        yield position, picture


def _of_video(listed: Listed, path: Path, remarks: Remarks) -> Iterator[tuple[int, np.ndarray]]:
    assert listed.indices is not None
    position_of = {int(index): position for position, index in enumerate(listed.indices)}
    offset = int(listed.frames[0] - listed.indices[0]) if len(listed.frames) else 0
    last = max(position_of, default=-1)
    length, problem = 0, ""
    frames = open_video(path)
    while listed.unlabelled or length <= last:  # the rest need not be decoded
        try:
            frame = next(frames, None)
        except ValueError as error:
            problem = _short(error, path)
            break
        if frame is None:
            problem = f"the video has {length} frames"
            break
        length = frame.index + 1
        if frame.index in position_of:
            yield position_of[frame.index], frame.image
        elif listed.unlabelled:
            remarks.add("frame", listed.unlabelled, frame.index + offset)
    # A video that stops early shortens itself: only what labels ask for beyond its end is missing.
    beyond = [int(listed.frames[p]) for index, p in position_of.items() if index >= length]
    if beyond:
        remarks.add("frame", f"no picture: {problem}", *beyond)


def _short(error: ValueError, path: Path) -> str:
    """An error's text with the file's name in place of its path, which is this machine's."""
    return str(error).replace(str(path), path.name)


def without_path(error: ValueError, raw_dir: Path) -> str:
    """An error's text with paths below the corpus's folder in place of this machine's."""
    return str(error).replace(f"{raw_dir}/", "")


def corpus_of(
    name: str,
    raw_dir: Path,
    videos: Sequence[tuple[str, str]],
    read: Read,
    *,
    alignment: str,
    faces: FaceSource | None,
    points: int,
    about: Mapping[str, Any],
    request: Mapping[str, Any] | None = None,
) -> Corpus:
    """A corpus of listed videos, each a part of its preparation.

    Args:
      name: of the data set.
      raw_dir: the owner's folder.
      videos: names of subject and video; a subject's videos keep this order.
      read: lists one of them; a function of a module, since other processes call it.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks; None = those of the corpus.
      points: landmarks of a face that the corpus supplies; 0 = none, so that ``faces`` is needed.
      about: further fields of the manifest.
      request: further arguments that decide what the records hold.

    Raises:
      ValueError: unknown alignment; a face source that cannot be opened.
    """
    check_alignment(alignment)
    if faces is not None:
        faces.check()
    subjects = sorted({subject for subject, _ in videos})
    order = sorted(videos, key=lambda pair: pair[0])  # stable: a subject's videos keep their order
    number, counts = {subject: i for i, subject in enumerate(subjects)}, Counter[str]()
    numbered: list[tuple[int, int]] = []
    for subject, _ in order:
        numbered.append((number[subject], counts[subject]))
        counts[subject] += 1
    digest = hashlib.sha256(json.dumps(order).encode()).hexdigest()[:16]
    own = faces is None or faces.only_missing
    if faces is not None and faces.only_missing and not points:
        raise ValueError(f"--only_missing: {name} has no landmarks of its own here; leave it away")
    asked = {"alignment": alignment, "parts": len(order), "parts_hash": digest, **(request or {})}
    return Corpus(
        name=name,
        request={**asked, **(faces.request() if faces else {"landmarks_from": "corpus"})},
        subjects=subjects,
        make=partial(_make_numbered, raw_dir, read, faces, points if own else 0, order, numbered),
        manifest={
            "synthetic": False,
            "landmarks": points if own or faces is None else faces.points,
            "alignment": alignment,
            **about,
        },
        parts=len(order),
        listed=partial(_list_numbered, raw_dir, read, order),
    )


def _list_numbered(raw_dir: Path, read: Read, order: Sequence[tuple[str, str]], part: int) -> Listed:
    return read(raw_dir, *order[part])


def _make_numbered(
    raw_dir: Path,
    read: Read,
    faces: FaceSource | None,
    points: int,
    order: Sequence[tuple[str, str]],
    numbered: Sequence[tuple[int, int]],
    request: Mapping[str, Any],
    part: int,
) -> Part:
    laps = Laps()
    listed = read(raw_dir, *order[part])
    laps.lap("labels")
    return make_part(listed, raw_dir, faces, points, request["alignment"], *numbered[part], laps)


OCCURRENCE = {"min_intensity": 1.0}
"""The label rule of a corpus that codes occurrence alone."""


def numbered_pictures(folder: Path) -> dict[int, Path]:
    """Pictures named by a number, zero-padded to any width.

    Raises:
      ValueError: two of the same number.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in PICTURES and path.stem.isdecimal():
            number = int(path.stem)
            if number in found:
                raise ValueError(
                    f"{folder.parent.name}/{folder.name}: {found[number].name} and {path.name} are both "
                    f"picture {number}; take one of them away"
                )
            found[number] = path
    return found


def first_folder(raw_dir: Path, *names: str) -> Path | None:
    """The first of some folders that is there: owners and copies name them differently."""
    return next((raw_dir / name for name in names if (raw_dir / name).is_dir()), None)


def not_as_shipped(raw_dir: Path, corpus: str, looked_for: str) -> ValueError:
    """The error of a folder that holds something else, with what is there."""
    entries = sorted(entry.name for entry in raw_dir.iterdir()) if raw_dir.is_dir() else []
    there = "no such folder" if not raw_dir.is_dir() else ", ".join(entries[:8]) or "nothing"
    more = f" and {len(entries) - 8} more" if len(entries) > 8 else ""
    return ValueError(
        f"--raw_dir={raw_dir}: not {corpus} as its owner ships it. Looked for {looked_for}. Found there: "
        f"{there}{more}. Unpack it and give the folder that holds these"
    )
