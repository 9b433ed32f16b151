"""RAF-AU (Yan et al., 2020) from its owner's files.

::

    RAFAU_label.txt               "0001.jpg 1+2+L4+25": AUs that occur, those on one side alone with L or R
    aligned/0001_aligned.jpg      or the picture under its own name, in aligned/, image/ or original/

An AU on one side counts as that AU [choice]. "null" is a picture in which no AU occurs: it is kept, all of
its AUs coded 0 [choice]. Nobody says who is on a picture, so each counts as a subject; the split
"raf-au-80-20" is a seeded draw of pictures. AUs that are not among the 13 of GTLE-Net's table are read and
not kept.

The owner's landmarks are not read: a detector or a table of landmarks is needed.
"""

import functools
import hashlib
import re
from pathlib import Path

import numpy as np

from data_pipelines import records
from data_pipelines.face_source import FaceSource
from data_pipelines.listing import OCCURRENCE, Listed, Remarks, corpus_of, not_as_shipped
from data_pipelines.preparation import Corpus
from jaxau import facs

_LABELS = ("RAFAU_label.txt", "RAF_AU_label.txt", "label/RAFAU_label.txt")
_FOLDERS = ("aligned", "image", "original", "images", ".")
_AU = re.compile(r"([LR]?)0*(\d+)", re.IGNORECASE)
_TEST_SHARE = 0.2


def corpus(raw_dir: Path | str, alignment: str, faces: FaceSource | None) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of RAF-AU.

    Args:
      raw_dir: the owner's folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks.

    Raises:
      ValueError: no such corpus in ``raw_dir``.
    """
    raw_dir, aus = Path(raw_dir), facs.CORPUS_AUS["raf_au"]
    names = sorted(_read_labels(raw_dir))
    return corpus_of(
        "raf_au",
        raw_dir,
        [(name, name) for name in names],
        _read,
        alignment=alignment,
        faces=faces,
        points=0,
        about={
            "description": f"RAF-AU, {len(names)} pictures",
            "licence": "RAF-AU: for research, under the agreement that each laboratory has with its owner",
            "fps": 1.0,
            "aus": list(aus),
            "label_rule": OCCURRENCE,
            "folds": {"raf-au-80-20": [_draw_test(names)]},
        },
    )


def _draw_test(names: list[str]) -> list[str]:
    """A fifth of the pictures, by a hash of each one's name: the same whatever else is in the folder."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"raf-au-80-20 {name}".encode()).digest())
    return sorted(order[: round(_TEST_SHARE * len(names))])


@functools.lru_cache(maxsize=1)
def _read_labels(raw_dir: Path) -> dict[str, str]:
    """Name of a picture without its suffix -> its codes."""
    path = next((raw_dir / name for name in _LABELS if (raw_dir / name).is_file()), None)
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines() if path else (), 1):
        words = line.split()
        if not words:
            continue
        name = Path(words[0]).stem
        if len(words) != 2 or not name.isdecimal() or name in found:
            raise ValueError(
                f"{path}, line {number}: {line.strip()[:60]!r} must be a picture and its AUs (0001.jpg "
                "1+2+L4), each picture once; copy the file again"
            )
        found[name] = words[1]
    if not found:
        raise not_as_shipped(raw_dir, "RAF-AU", "RAFAU_label.txt and aligned/0001_aligned.jpg ...")
    return found


def _read(raw_dir: Path, subject: str, name: str) -> Listed:
    aus, remarks, number = facs.CORPUS_AUS["raf_au"], Remarks(), int(name)
    intensity = np.full(len(aus), records.ABSENT, np.float32)
    codes = _read_labels(raw_dir)[name]
    for code in () if codes.lower() == "null" else codes.split("+"):
        match = _AU.fullmatch(code.strip())
        if match is None:
            remarks.add("frame", f"code {code[:40]!r}, must be an AU with or without L or R", number)
        elif int(match[2]) in aus:
            intensity[aus.index(int(match[2]))] = records.OCCURS
    good = not remarks.all()  # which AU a code stands for is unknown, so none can be said not to occur
    return Listed(
        subject,
        name,
        np.array([number] if good else [], np.int32),
        intensity[None] if good else intensity[None][:0],
        [_find_picture(raw_dir, name)] if good else [],
        remarks=remarks.all(),
    )


def _find_picture(raw_dir: Path, name: str) -> Path | None:
    candidates = (
        raw_dir / folder / f"{stem}{suffix}"
        for folder in _FOLDERS
        for stem in (f"{name}_aligned", name)
        for suffix in (".jpg", ".png")
    )
    return next((path for path in candidates if path.is_file()), None)
