"""Google's facial expression comparisons (FEC; Vemulapalli and Agarwala, 2019) from downloaded pictures.

::

    faceexp-comparison-data-train-public.csv    no header, ragged: three times URL and box (left, right, top,
        bottom as fractions of the picture), the type of the triplet, then annotators and votes by turns
    faceexp-comparison-data-test-public.csv
    images/<SHA-1 of the URL, 40 hexadecimal digits>.jpg     or: downloads.csv, rows of "url,file"

The owner ships links, many of which are dead; how the downloaded pictures are named is therefore a choice of
this program [choice]. A face without a picture is counted. A vote of 1, 2 or 3 names the picture that differs
most; it becomes the negative where at least 60 % of the votes agree [choice], and the other two are anchor
and positive in their order; other rows are counted and dropped.

Each face (URL and box) is a record, its frame number its place among all faces of the file, from 1. The
manifest holds the triplets by these numbers. "train" and "test" count as subjects. A detector must find the
face in its box.
"""

import csv
import functools
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.corpora.landmark_sets import chunks, of_chunk, part_name
from data_pipelines.face_source import FaceSource
from data_pipelines.listing import OCCURRENCE, Listed, corpus_of, not_as_shipped
from data_pipelines.preparation import Corpus

_CLASSES = {"ONE_CLASS_TRIPLET": 1, "TWO_CLASS_TRIPLET": 2, "THREE_CLASS_TRIPLET": 3}
_AGREEMENT = 0.6
_FIRST_VOTE = 17
Face = tuple[str, str, str, str, str]
"""URL and the four sides of the box, as text."""


@dataclass(frozen=True)
class _Comparisons:
    """One file: its faces in order, triplets (anchor, positive, negative, class) by face number, what was "
    "dropped."""

    faces: list[Face]
    triplets: list[tuple[int, int, int, int]]
    dropped: dict[str, int]


def corpus(raw_dir: Path | str, alignment: str, faces: FaceSource | None) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of FEC.

    Args:
      raw_dir: folder of the two files and the pictures.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: a detector.

    Raises:
      ValueError: no such files in ``raw_dir``.
    """
    raw_dir = Path(raw_dir)
    sets = {name: _read_file(raw_dir, name) for name in ("train", "test")}
    if not all(of.faces for of in sets.values()):
        raise not_as_shipped(
            raw_dir, "FEC", "faceexp-comparison-data-train-public.csv, ...-test-public.csv, images"
        )
    about: dict[str, Any] = {
        "description": f"FEC, {sum(len(of.triplets) for of in sets.values())} triplets",
        "licence": "FEC: by its owner; the pictures are their photographers'",
        "fps": 1.0,
        "aus": [],
        "label_rule": OCCURRENCE,
        "triplets": {name: [list(row) for row in of.triplets] for name, of in sets.items()},
        "triplets_dropped": {name: of.dropped for name, of in sets.items()},
    }
    return corpus_of(
        "fec",
        raw_dir,
        [(name, part_name(name, i)) for name, of in sets.items() for i in chunks(len(of.faces))],
        _read,
        alignment=alignment,
        faces=faces,
        points=0,
        about=about,
    )


@functools.lru_cache(maxsize=2)
def _read_file(raw_dir: Path, name: str) -> _Comparisons:
    path = raw_dir / f"faceexp-comparison-data-{name}-public.csv"
    number: dict[Face, int] = {}
    triplets, dropped = [], Counter[str]()
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    for row in csv.reader(lines):
        cells = [cell.strip() for cell in row]
        votes = [cell for cell in cells[_FIRST_VOTE::2] if cell]
        if not votes or cells[15] not in _CLASSES or not set(votes) <= {"1", "2", "3"}:
            dropped["row cannot be read"] += 1
            continue
        trio = [number.setdefault(_face(cells[at : at + 5]), len(number) + 1) for at in (0, 5, 10)]
        vote, count = Counter(votes).most_common(1)[0]
        if count < _AGREEMENT * len(votes):
            dropped["fewer than 60 % of the votes agree"] += 1
            continue
        negative = trio.pop(int(vote) - 1)
        triplets.append((trio[0], trio[1], negative, _CLASSES[cells[15]]))
    return _Comparisons(list(number), triplets, dict(dropped))


def _face(cells: list[str]) -> Face:
    url, left, right, top, bottom = cells
    return url, left, right, top, bottom


@functools.lru_cache(maxsize=1)
def _downloads(raw_dir: Path) -> dict[str, str]:
    path = raw_dir / "downloads.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["url"]: row["file"] for row in csv.DictReader(file)}


def _picture(raw_dir: Path, url: str) -> Path | None:
    named = _downloads(raw_dir).get(url, f"images/{hashlib.sha1(url.encode()).hexdigest()}.jpg")
    return raw_dir / named if (raw_dir / named).is_file() else None


def _read(raw_dir: Path, subject: str, part: str) -> Listed:
    chosen = of_chunk(part)
    faces = _read_file(raw_dir, subject).faces[chosen]
    n = len(faces)
    boxes = np.full((n, 4), np.nan)
    for i, (_, left, right, top, bottom) in enumerate(faces):
        try:
            boxes[i] = [float(left), float(top), float(right), float(bottom)]
        except ValueError:
            continue  # no face lies in a box of NaN
    return Listed(
        subject,
        part,
        np.arange(chosen.start + 1, chosen.start + 1 + n, dtype=np.int32),
        np.zeros((n, 0), np.float32),
        [_picture(raw_dir, url) for url, *_ in faces],
        boxes=boxes,
    )
