"""List files, the form in which most laboratories have BP4D, DISFA and GFT since JAA-Net (Shao et al., 2018).

For each part of the subjects three text files with one line a frame, in one order::

    BP4D_part1_path.txt       F001/T1/0017.jpg           below the folder of pictures, or an absolute path
    BP4D_part1_AUoccur.txt    0 1 0 ... (one number an AU; 9 = not coded)
    BP4D_part1_land.txt       x1 y1 x2 y2 ...            49 points (or 66, 68), pixels from 0; may be absent

and often ``*_weight.txt``, which is not needed. Separators are blanks or commas. Parts that are made of
others (``combine_*``) repeat their frames and are skipped; the lists must not share a frame. Pictures lie
below the lists' folder, in ``imgs``, ``images`` or ``img`` or in it itself.

The subject is the first folder of a path that is a subject's name: F001, SN001, or for GFT a number; the
folders below it are the video. The number of a frame is that of its file name (as the extracted frames of
DISFA count from 0, `DISFA` lists add 1: the numbers in the records are those of the owner's label files).

GFT (Girard et al., 2017): the raw layout of its labels is found in no public code, so it is read from lists
alone, with 10 AUs and 49 points; the lists with "test" in their names are the official test subjects.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.face_source import FaceSource
from data_pipelines.listing import (
    OCCURRENCE,
    Listed,
    Remarks,
    corpus_of,
    first_folder,
    not_as_shipped,
    numbered_pictures,
    occurrence,
    rows_of,
)
from data_pipelines.preparation import Corpus
from jaxau import facs
from jaxau.faces.landmarks import SCHEMES

_PATHS = re.compile(r"(?!.*combine)(.+)_path\.txt", re.IGNORECASE)
_LOOKED_FOR = "*_path.txt with *_AUoccur.txt, one line a frame in both"


class _Kind(NamedTuple):
    """How a corpus appears in lists: who is a subject, first frame number minus that in file names, fps."""

    title: str
    subject: re.Pattern[str]
    add: int
    fps: float


_KINDS = {
    "bp4d": _Kind("BP4D", re.compile(r"[FM]\d{3}"), 0, 25.0),
    "bp4dplus": _Kind("BP4D+", re.compile(r"[FM]\d{3}"), 1, 25.0),
    "disfa": _Kind("DISFA", re.compile(r"SN\d{3}"), 1, 20.0),
    "gft": _Kind("GFT", re.compile(r"\w*\d+\w*"), 0, 30.0),
}


@dataclass(frozen=True)
class _Lists:
    """All lists of a folder: (subject, video) -> its lines, and the subjects that are for testing."""

    lines: Mapping[tuple[str, str], list[tuple[int, str, str, str]]]  # frame, path, labels, landmarks
    points: int
    tests: frozenset[str]


def corpus(raw_dir: Path | str, alignment: str, name: str, faces: FaceSource | None = None) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of listed pictures.

    Args:
      raw_dir: folder of the lists.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      name: which corpus the lists are of: "bp4d", "bp4dplus", "disfa" or "gft".
      faces: finds landmarks in place of those of the lists.

    Raises:
      ValueError: another corpus; no lists, or lists that do not fit each other.
    """
    if name not in _KINDS:
        raise ValueError(f"lists of {name!r}: known are lists of {list(_KINDS)}; choose one of these")
    raw_dir, kind = Path(raw_dir), _KINDS[name]
    lists, aus = _read_lists(raw_dir, name), facs.CORPUS_AUS[name]
    subjects = sorted({subject for subject, _ in lists.lines})
    folds: dict[str, list[list[str]]] = {}
    if name == "gft" and lists.tests:
        folds["gft-official"] = [sorted(lists.tests)]
    return corpus_of(
        name,
        raw_dir,
        sorted(lists.lines),
        functools.partial(_read, name),
        alignment=alignment,
        faces=faces,
        points=lists.points,
        about={
            "description": f"{kind.title} from list files, {len(subjects)} subjects",
            "licence": f"{kind.title}: for research, under the agreement of each laboratory with its owner",
            "fps": kind.fps,
            "aus": list(aus),
            "label_rule": OCCURRENCE,
            "folds": folds,
        },
        request={"layout": "lists"},
    )


def _read(name: str, raw_dir: Path, subject: str, video: str) -> Listed:
    lists, aus, remarks = _read_lists(raw_dir, name), facs.CORPUS_AUS[name], Remarks()
    lines = sorted(lists.lines[subject, video])
    frames = [frame for frame, *_ in lines]
    rows = [re.split(r"[\s,]+", labels.strip()) for _, _, labels, _ in lines]
    intensity = np.full((len(lines), len(aus)), np.nan, np.float32)
    for k, au in enumerate(aus):
        intensity[:, k] = occurrence([row[k] for row in rows], au, frames, "the list of labels", remarks)
    coded = np.atleast_1d(np.isfinite(intensity).any(1))
    if not coded.all():
        remarks.add("uncoded", "no AU of its row is coded", *np.array(frames)[~coded].tolist())
    lines = [line for line, keep in zip(lines, coded, strict=True) if keep]
    frames, intensity = [frame for frame, *_ in lines], intensity[coded]
    points = np.full((len(lines), lists.points, 2), np.nan)
    for i, (_, _, _, text) in enumerate(lines if lists.points else ()):
        try:
            points[i] = np.array(re.split(r"[\s,]+", text.strip()), np.float64).reshape(-1, 2)
        except ValueError:
            continue  # stays without, and is said when its turn comes
    return Listed(
        subject,
        f"{subject}_{video}" if video else subject,
        np.array(frames, np.int32),
        intensity,
        _find_pictures(raw_dir, [path for _, path, _, _ in lines]),
        landmarks=rows_of(points) if lists.points else None,
        remarks=remarks.all(),
    )


def _find_pictures(raw_dir: Path, paths: list[str]) -> list[Path | None]:
    """The files of some paths; copies differ in the padding of the numbers and in the kind of file."""
    below = first_folder(raw_dir, "imgs", "images", "img") or raw_dir
    folders = {folder: numbered_pictures(folder) for folder in {(below / path).parent for path in paths}}
    return [folders[(below / path).parent].get(int((below / path).stem)) for path in paths]


@functools.lru_cache(maxsize=1)
def _read_lists(raw_dir: Path, name: str) -> _Lists:
    kind, width = _KINDS[name], len(facs.CORPUS_AUS[name])
    stems = sorted(match[1] for path in raw_dir.glob("*.txt") if (match := _PATHS.fullmatch(path.name)))
    found: dict[tuple[str, str], list[tuple[int, str, str, str]]] = defaultdict(list)
    seen: dict[tuple[str, str, int], str] = {}
    schemes: set[int] = set()
    tests: set[str] = set()
    trained: set[str] = set()
    for stem in stems:
        paths = _lines(raw_dir / f"{stem}_path.txt")
        labels = _lines(_companion(raw_dir, stem, "AUoccur"))
        land = _companion(raw_dir, stem, "land", needed=False)
        landmarks = _lines(land) if land.is_file() else [""] * len(paths)
        if not len(paths) == len(labels) == len(landmarks):
            raise ValueError(
                f"lists {stem}: {len(paths)} paths, {len(labels)} rows of labels, {len(landmarks)} of "
                "landmarks: line i of each must be the same frame; copy the lists again"
            )
        if landmarks and landmarks[0]:
            schemes.add(len(re.split(r"[\s,]+", landmarks[0].strip())) // 2)
        else:
            schemes.add(0)
        for line, (path, label, points) in enumerate(zip(paths, labels, landmarks, strict=True), 1):
            subject, video, number = _parse(path, kind, f"{stem}_path.txt, line {line}")
            if len(re.split(r"[\s,]+", label.strip())) != width:
                raise ValueError(
                    f"{stem}_AUoccur.txt, line {line}: {label.strip()[:60]!r} must be {width} numbers, one "
                    f"for each of the AUs {list(facs.CORPUS_AUS[name])}; are these lists of {kind.title}?"
                )
            if other := seen.get((subject, video, number)):
                raise ValueError(
                    f"{stem}_path.txt, line {line}: {path.strip()} is in {other} too; keep lists that do not "
                    "share frames, and lists made of others out of the folder"
                )
            seen[subject, video, number] = f"{stem}_path.txt"
            found[subject, video].append((number, path.strip(), label, points))
            (tests if re.search("test", stem, re.IGNORECASE) else trained).add(subject)
    if not found:
        raise not_as_shipped(raw_dir, f"{kind.title} as lists", _LOOKED_FOR)
    if len(schemes) > 1 or not schemes <= {0, *SCHEMES}:
        raise ValueError(
            f"--raw_dir={raw_dir}: the lists hold {sorted(schemes)} landmarks a frame (0 = no list); all "
            f"must have the same number of {SCHEMES}"
        )
    if overlap := sorted(tests & trained):
        raise ValueError(
            f"--raw_dir={raw_dir}: subjects {overlap[:5]} are in lists of both training and test"
        )
    return _Lists(dict(found), schemes.pop(), frozenset(tests if trained else ()))


def _parse(path: str, kind: _Kind, where: str) -> tuple[str, str, int]:
    """Subject, video and frame number of a picture's path."""
    *folders, file = re.split(r"[\\/]+", path.strip())
    stem = file.rpartition(".")[0]
    at = next((i for i, folder in enumerate(folders) if kind.subject.fullmatch(folder)), None)
    if at is None or not stem.isdecimal():
        raise ValueError(
            f"{where}: {path.strip()[:80]!r} must be SUBJECT/.../NUMBER.jpg with a subject as "
            f"{kind.title} names them ({kind.subject.pattern})"
        )
    return folders[at], "_".join(folders[at + 1 :]), int(stem) + kind.add


def _companion(raw_dir: Path, stem: str, what: str, needed: bool = True) -> Path:
    path = raw_dir / f"{stem}_{what}.txt"
    if needed and not path.is_file():
        raise ValueError(f"{stem}_path.txt: {path.name} must lie beside it; copy it, or take the list away")
    return path


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]
