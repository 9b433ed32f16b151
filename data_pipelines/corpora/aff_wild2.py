"""Aff-Wild2 (Kollias et al.), the 12-AU and the older 8-AU release, from its owner's folders.

::

    AU_Set/Train_Set/{video}.txt, AU_Set/Validation_Set/{video}.txt
        first row the AUs ("AU1,AU2,AU4,..."), then a row of codes for each frame
    cropped_aligned/{video}/00001.jpg    row i, from 0, is picture i + 1; none where no face was found

A row that holds -1 is not annotated and left out. A frame without a picture is left out and counted. The
owner names videos and not people: a video counts as a subject here [choice], so that the two sides of a video
of two people ("_left", "_right") are two subjects. Folder names vary between releases; those of both, with or
without "AU_Set" above, are read, and the 8 AUs may stand in the first row as plain numbers.

The owner ships no landmarks with the pictures: a detector or a table of landmarks is needed.
"""

import re
from pathlib import Path

import numpy as np

from data_pipelines import records
from data_pipelines.face_source import FaceSource
from data_pipelines.listing import (
    OCCURRENCE,
    Listed,
    Remarks,
    corpus_of,
    first_folder,
    not_as_shipped,
    numbered_pictures,
)
from data_pipelines.preparation import Corpus
from jaxau import facs

_FPS = 30.0
_SETS = {
    "train": (
        "AU_Set/Train_Set",
        "AU_Set/Training_Set",
        "AU_Set/train",
        "Train_Set",
        "Training_Set",
        "train",
    ),
    "validation": (
        "AU_Set/Validation_Set",
        "AU_Set/val",
        "AU_Set/validation",
        "Validation_Set",
        "validation",
        "val",
    ),
}
_PICTURES = ("cropped_aligned", "cropped_aligned_images", "cropped-aligned", ".")
_LOOKED_FOR = "AU_Set/Train_Set/VIDEO.txt, AU_Set/Validation_Set/VIDEO.txt, cropped_aligned/VIDEO/00001.jpg"


def corpus(
    raw_dir: Path | str, alignment: str, faces: FaceSource | None, release: str = "aff_wild2"
) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of Aff-Wild2.

    Args:
      raw_dir: the owner's folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks.
      release: "aff_wild2" (12 AUs) or "aff_wild2_8au".

    Raises:
      ValueError: no such corpus in ``raw_dir``, or a video in both sets.
    """
    raw_dir, aus = Path(raw_dir), facs.CORPUS_AUS[release]
    sets = {name: _videos(raw_dir, folders) for name, folders in _SETS.items()}
    if not all(sets.values()):
        raise not_as_shipped(raw_dir, f"Aff-Wild2 with {len(aus)} AUs", _LOOKED_FOR)
    if both := sorted(sets["train"] & sets["validation"]):
        raise ValueError(f"--raw_dir={raw_dir}: {both[:5]} are in both sets; keep each video in one")
    return corpus_of(
        release,
        raw_dir,
        [(video, video) for video in sorted(sets["train"] | sets["validation"])],
        _read_8au if release == "aff_wild2_8au" else _read,
        alignment=alignment,
        faces=faces,
        points=0,
        about={
            "description": f"Aff-Wild2, {len(aus)} AUs, {sum(map(len, sets.values()))} videos",
            "licence": "Aff-Wild2: for research, under the agreement that each laboratory has with its owner",
            "fps": _FPS,
            "aus": list(aus),
            "label_rule": OCCURRENCE,
            "folds": {f"affwild2-{len(aus)}au": [sorted(sets["validation"])]},
        },
    )


def _videos(raw_dir: Path, folders: tuple[str, ...]) -> set[str]:
    folder = first_folder(raw_dir, *folders)
    return {path.stem for path in folder.glob("*.txt")} if folder else set()


def _read(raw_dir: Path, subject: str, video: str) -> Listed:
    return _list(raw_dir, video, facs.CORPUS_AUS["aff_wild2"])


def _read_8au(raw_dir: Path, subject: str, video: str) -> Listed:
    return _list(raw_dir, video, facs.CORPUS_AUS["aff_wild2_8au"])


def _list(raw_dir: Path, video: str, aus: tuple[int, ...]) -> Listed:
    folders = [first_folder(raw_dir, *names) for names in _SETS.values()]
    path = next(
        folder / f"{video}.txt" for folder in folders if folder and (folder / f"{video}.txt").is_file()
    )
    remarks = Remarks()
    frames, intensity = _read_labels(path, aus, remarks)
    folder = first_folder(raw_dir, *(f"{parent}/{video}" for parent in _PICTURES))
    there = numbered_pictures(folder) if folder else {}
    return Listed(
        video,
        video,
        frames,
        intensity,
        [there.get(int(frame)) for frame in frames],
        remarks=remarks.all(),
    )


def _read_labels(path: Path, aus: tuple[int, ...], remarks: Remarks) -> tuple[np.ndarray, np.ndarray]:
    """Frames from 1, which are the numbers of the pictures, and their (n, k) intensities."""
    header, *rows = path.read_text(errors="replace").splitlines() or [""]
    columns = [int(number) for number in re.findall(r"\d+", header)]
    if not set(aus) <= set(columns):
        raise ValueError(
            f"{path.name}: its first row is {header[:80]!r}, it must name the AUs {list(aus)}; is this the "
            "other release (--corpus=aff_wild2 has 12 AUs, aff_wild2_8au 8)?"
        )
    frames: list[int] = []
    values: list[list[float]] = []
    codes = {"0": records.ABSENT, "1": records.OCCURS}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip().removesuffix(".0") for cell in row.split(",")]
        if not row.strip() and number == len(rows):
            continue
        if len(cells) != len(columns):
            remarks.add("frame", f"its row in {path.name} has not {len(columns)} codes", number)
            continue
        wanted = {au: cells[columns.index(au)] for au in aus}
        if "-1" in wanted.values():
            remarks.add("uncoded", "not annotated (-1)", number)
            continue
        for au, cell in wanted.items():
            if cell not in codes:
                reason = f"value {cell[:40]!r} in {path.name}, must be 0, 1 or -1"
                remarks.add("label", reason, number, au=au)
        frames.append(number)
        values.append([codes.get(cell, np.nan) for cell in wanted.values()])
    return np.array(frames, np.int32), np.array(values, np.float32).reshape(-1, len(aus))
