"""Anybody's videos or pictures with a table of labels.

``labels.csv`` in the folder has one row for each labelled frame, in any order::

    video,frame,subject,AU12_c,AU06_r,AU01_c
    visit1/anna.mp4,0,anna,1,2.5,
    ben.jpg,,ben,0,0,1

- ``video``: path of a video or picture below the folder;
- ``frame``: from 0, as `jaxau predict` counts; empty for a picture;
- ``subject``: who it is; without this column each file is a subject, and the manifest says so;
- ``AU12_c`` or ``AU12``: occurrence, 0 or 1; ``AU12_r``: intensity, 0 to 5; an empty cell is not coded. An AU
  occurs from intensity ``min_intensity`` on. Both columns may be there: where only one is filled, it counts;
  a label whose occurrence and intensity contradict each other is masked;
- ``fold``: 1, 2, ...; the fold in which a subject is tested; without it subjects are dealt at random into
  three.

Frames without a row, and rows without any label, are left out. Other columns are refused, since a misspelt
one would be lost.
"""

import functools
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_pipelines import records
from data_pipelines.face_source import FaceSource
from data_pipelines.listing import Listed, Remarks, corpus_of, occurrence
from data_pipelines.preparation import Corpus
from jaxau import facs
from jaxau.faces.video import PICTURES, VIDEOS

LABELS = "labels.csv"
_FOLDS = 3
_COLUMN = re.compile(r"AU0*(\d+)(_[cr])?")
_PLAIN = ("video", "frame", "subject", "fold")


def corpus(
    raw_dir: Path | str, alignment: str, faces: FaceSource | None, min_intensity: float = 2.0
) -> Corpus:
    """Everything that `data_pipelines.preparation.prepare` needs to make records of a folder.

    Args:
      raw_dir: the folder, with ``labels.csv``.
      alignment: a name in `jaxau.faces.align.ALIGNMENTS`.
      faces: finds landmarks.
      min_intensity: an AU occurs from this intensity on.

    Raises:
      ValueError: no labels, or a table that is not as described; subjects in two folds.
    """
    raw_dir = Path(raw_dir)
    table, columns = _read_table(raw_dir)
    aus = sorted({au for au, _ in columns})
    pairs = table[["subject", "video"]].drop_duplicates()
    subjects = sorted(set(pairs["subject"]))
    by = "as the table names them" if "subject" in _header(raw_dir) else "each file counts as one"
    return corpus_of(
        "folder",
        raw_dir,
        sorted(zip(pairs["subject"], pairs["video"], strict=True)),
        functools.partial(_read, min_intensity),
        alignment=alignment,
        faces=faces,
        points=0,
        about={
            "description": f"own folder, {len(pairs)} files, {len(subjects)} subjects ({by})",
            "licence": "that of its pictures",
            "fps": None,  # each file has its own
            "aus": aus,
            "label_rule": {"min_intensity": float(min_intensity)},
            "folds": {"folder": _folds(table, subjects)},
        },
        request={"min_intensity": float(min_intensity), "labels_hash": _hash(raw_dir)},
    )


def _hash(raw_dir: Path) -> str:
    return hashlib.sha256((raw_dir / LABELS).read_bytes()).hexdigest()[:16]


def _header(raw_dir: Path) -> list[str]:
    with (raw_dir / LABELS).open(encoding="utf-8-sig") as file:
        return [name.strip() for name in file.readline().split(",")]


@functools.lru_cache(maxsize=1)
def _read_table(raw_dir: Path) -> tuple[pd.DataFrame, dict[tuple[int, str], str]]:
    """All rows as text, and (AU, "c" or "r") -> its column."""
    path = raw_dir / LABELS
    if not path.is_file():
        raise ValueError(
            f"--raw_dir={raw_dir}: must hold {LABELS} with the columns video, frame, AU12_c ...; write it"
        )
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig"
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8") from error
    table.columns = [str(name).strip() for name in table.columns]
    columns: dict[tuple[int, str], str] = {}
    unknown = []
    for name in table.columns:
        match = _COLUMN.fullmatch(name)
        if match and int(match[1]) in facs.ACTION_UNITS:
            columns[int(match[1]), (match[2] or "_c")[1]] = name
        elif name not in _PLAIN:
            unknown.append(name)
    twice = (
        sum(bool(_COLUMN.fullmatch(name)) for name in table.columns)
        - len(columns)
        - len([name for name in unknown if _COLUMN.fullmatch(name)])
    )
    if unknown or twice or not columns or "video" not in table:
        raise ValueError(
            f"{path}: columns {list(table.columns)[:12]}; needed are video, frame and each AU once as AU12_c "
            f"(occurrence) or AU12_r (intensity), separated by commas and written like this, with AUs of "
            f"{list(facs.ACTION_UNITS)}; rename or remove {unknown[:5] or 'what is there twice'}"
        )
    for name, default in (("frame", ""), ("fold", "")):
        if name not in table:
            table[name] = default
    if "subject" not in table:
        table["subject"] = table["video"]
    for name in _PLAIN:
        table[name] = table[name].str.strip()
    for field in ("video", "subject"):
        if (empty := table.index[table[field] == ""]).size:
            raise ValueError(f"{path}, line {empty[0] + 2}: no {field}; each row must name one")
    people = table.groupby("video")["subject"].nunique()
    if (several := people.index[people > 1]).size:
        raise ValueError(
            f"{path}: {several[0]} has rows of {people[several[0]]} subjects; a file is of one person"
        )
    return table, columns


def _folds(table: pd.DataFrame, subjects: list[str]) -> list[list[str]]:
    """The test subjects of each fold: the table's, or a draw by a hash of each name."""
    if (table["fold"] != "").any():
        found = table.groupby("subject")["fold"].unique()
        wrong = [name for name, folds in found.items() if len(folds) != 1 or not folds[0].isdecimal()]
        if wrong:
            raise ValueError(
                f"{LABELS}: subjects {wrong[:5]}: each must have one fold (1, 2, ...) in all of its rows"
            )
        numbers = sorted({int(folds[0]) for folds in found})
        return [[name for name in subjects if int(found[name][0]) == number] for number in numbers]
    order = sorted(subjects, key=lambda name: hashlib.sha256(f"folder {name}".encode()).digest())
    return [sorted(order[fold::_FOLDS]) for fold in range(_FOLDS) if order[fold::_FOLDS]]


def _read(min_intensity: float, raw_dir: Path, subject: str, video: str) -> Listed:
    table, columns = _read_table(raw_dir)
    rows, remarks, path = table[table["video"] == video], Remarks(), raw_dir / video
    suffix = path.suffix.lower()
    if suffix not in PICTURES | VIDEOS:
        raise ValueError(
            f"{LABELS}: {video}: {suffix or 'no suffix'} is no known kind of picture or video; correct it"
        )
    numbers = []
    for text in rows["frame"]:
        text = text.removesuffix(".0") or ("0" if suffix in PICTURES else "")
        if not text.isdecimal():
            raise ValueError(f"{LABELS}: frame {text!r} of {video}: frames are numbers from 0; correct it")
        numbers.append(int(text))
    if len(set(numbers)) != len(numbers):
        again = next(n for n in numbers if numbers.count(n) > 1)
        raise ValueError(f"{LABELS}: frame {again} of {video} has several rows; keep one")
    order = np.argsort(numbers, kind="stable")
    rows, frames = rows.iloc[order], np.array(numbers, np.int32)[order]
    aus = sorted({au for au, _ in columns})
    values = np.stack(
        [_column(au, columns, rows, frames.tolist(), min_intensity, remarks) for au in aus], axis=1
    )
    labelled = np.isfinite(values).any(1)
    if not labelled.all():
        remarks.add("uncoded", "no label in its row", *frames[~labelled].tolist())
    frames, values = frames[labelled], values[labelled]
    is_video = suffix in VIDEOS
    there: Any = path if is_video and path.is_file() else [path if path.is_file() else None] * len(frames)
    return Listed(
        subject,
        video,
        frames,
        values,
        there,
        indices=frames if isinstance(there, Path) else None,
        remarks=remarks.all(),
    )


def _column(
    au: int,
    columns: dict[tuple[int, str], str],
    rows: pd.DataFrame,
    frames: list[int],
    min_intensity: float,
    remarks: Remarks,
) -> np.ndarray:
    """(n,) float32 labels of an AU, as the records hold them."""
    occurs = np.full(len(frames), np.nan, np.float32)
    if (au, "c") in columns:
        texts = rows[columns[au, "c"]].tolist()
        occurs = occurrence(texts, au, frames, LABELS, remarks)
    if (au, "r") not in columns:
        return occurs
    values = pd.to_numeric(rows[columns[au, "r"]], errors="coerce").to_numpy(np.float32)
    for i, text in enumerate(rows[columns[au, "r"]]):
        if not text.strip():
            values[i] = occurs[i]
        elif not 0 <= values[i] <= 5:
            remarks.add("label", f"intensity {text[:40]!r} in {LABELS}, must be 0 to 5", frames[i], au=au)
            values[i] = np.nan
        elif np.isfinite(occurs[i]) and (values[i] >= min_intensity) != (occurs[i] == records.OCCURS):
            reason = f"occurrence and intensity contradict each other (it occurs from {min_intensity:g} on)"
            remarks.add("label", reason, frames[i], au=au)
            values[i] = np.nan
    return values
