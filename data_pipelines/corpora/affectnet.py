"""AffectNet (Mollahosseini et al., 2017), seven expressions, from its owner's files.

The older release::

    training.csv, validation.csv          columns subDirectory_filePath, face_x, face_y, face_width,
                                          face_height, facial_landmarks (136 numbers, ";"), expression,
    valence, arousal Manually_Annotated_Images/12/name.jpg

the newer one::

    train_set/images/12.jpg, train_set/annotations/12_exp.npy and 12_lnd.npy; likewise val_set

Both layouts are from memory and have not been compared with the files. Expressions 0 to 6 are kept (neutral,
happy, sad, surprise, fear, disgust, anger); 7 contempt, 8 none, 9 uncertain and 10 no face are left out and
counted. The 68 landmarks are pixels of the whole picture, from 0 [choice]. Nobody says who is on a picture:
"train" and "validation" count as subjects, and the protocol "affectnet-official" tests the second.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from data_pipelines.corpora.landmark_sets import chunks, of_chunk, part_name
from data_pipelines.face_source import FaceSource
from data_pipelines.listing import (
    OCCURRENCE,
    Listed,
    Remarks,
    corpus_of,
    first_folder,
    not_as_shipped,
    rows_of,
)
from data_pipelines.preparation import Corpus

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
_OTHERS = {7: "contempt", 8: "none", 9: "uncertain", 10: "no face"}
_POINTS = 68
_SETS = {"train": ("training.csv", "train_set"), "validation": ("validation.csv", "val_set")}
_PICTURES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", ".")


def corpus(raw_dir: Path | str, alignment: str, faces: FaceSource | None = None) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of AffectNet.

    Args:
      raw_dir: the owner's folder.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks in place of the owner's.

    Raises:
      ValueError: no such corpus in ``raw_dir``.
    """
    raw_dir = Path(raw_dir)
    counts = {name: len(_examples(raw_dir, name)) for name in _SETS}
    if not all(counts.values()):
        raise not_as_shipped(
            raw_dir, "AffectNet", "training.csv and validation.csv, or train_set and val_set"
        )
    return corpus_of(
        "affectnet",
        raw_dir,
        [(name, part_name(name, i)) for name, n in counts.items() for i in chunks(n)],
        _read,
        alignment=alignment,
        faces=faces,
        points=_POINTS,
        about={
            "description": f"AffectNet, {sum(counts.values())} pictures, seven expressions",
            "licence": "AffectNet: for research, under the agreement that each laboratory has with its owner",
            "fps": 1.0,
            "aus": [],
            "label_rule": OCCURRENCE,
            "emotions": list(EMOTIONS),
        },
    )


@functools.lru_cache(maxsize=2)
def _examples(raw_dir: Path, name: str) -> list[tuple[Path, str, str]]:
    """(picture, expression, landmarks) of a set; of the newer release the latter two are files."""
    table, folder = raw_dir / _SETS[name][0], raw_dir / _SETS[name][1]
    if table.is_file():
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
        needed = ["subDirectory_filePath", "expression", "facial_landmarks"]
        if missing := [column for column in needed if column not in rows]:
            raise ValueError(
                f"{table.name}: has no columns {missing}; it must be the list of annotated pictures"
            )
        below = first_folder(raw_dir, *_PICTURES) or raw_dir
        return [
            (below / path, expression, points)
            for path, expression, points in rows[needed].to_numpy().tolist()
        ]
    pictures = sorted((folder / "images").glob("*.jpg"), key=lambda path: (len(path.stem), path.stem))
    notes = folder / "annotations"
    return [
        (path, str(notes / f"{path.stem}_exp.npy"), str(notes / f"{path.stem}_lnd.npy")) for path in pictures
    ]


def _read(raw_dir: Path, subject: str, part: str) -> Listed:
    chosen, remarks = of_chunk(part), Remarks()
    kept, numbers, emotions = [], [], []
    for number, example in enumerate(_examples(raw_dir, subject)[chosen], chosen.start + 1):
        code = _number(example[1])
        if code in range(len(EMOTIONS)):
            kept.append(example)
            numbers.append(number)
            emotions.append(int(code))
        elif code in _OTHERS:
            remarks.add(
                "uncoded", f"expression {int(code)} ({_OTHERS[int(code)]}) is none of the seven", number
            )
        else:
            remarks.add("frame", f"expression {Path(example[1]).name[:40]!r}, must be 0 to 10", number)
    points = np.full((len(kept), _POINTS, 2), np.nan)
    for i, (_, _, text) in enumerate(kept):
        found = _numbers(text)
        if found.size == 2 * _POINTS:
            points[i] = found.reshape(_POINTS, 2)
    return Listed(
        subject,
        part,
        np.array(numbers, np.int32),
        np.zeros((len(kept), 0), np.float32),
        [path if path.is_file() else None for path, _, _ in kept],
        landmarks=rows_of(points),
        emotion=np.array(emotions, np.int32),
        remarks=remarks.all(),
    )


def _number(text: str) -> float:
    found = _numbers(text)
    return float(found[0]) if found.size == 1 else -1.0


def _numbers(text: str) -> np.ndarray:
    """Numbers separated by ";", or those in the .npy file of that name; none if it cannot be read."""
    try:
        if text.endswith(".npy"):
            return np.atleast_1d(np.load(text).astype(np.float64)).ravel()
        return np.array(text.split(";"), np.float64)
    except (OSError, ValueError):
        return np.zeros(0)
