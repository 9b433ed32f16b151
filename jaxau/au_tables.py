"""Tables of Action Units from anybody's tool or coder, read into one form.

Predictions: jaxau (``AU12_p`` probability, ``AU12_c`` occurrence), OpenFace 2 (``AU12_c``, ``AU12_r``
intensity, with or without spaces in the header), py-feat (``AU12``, a probability; ``input`` and
``FaceScore``) and LibreFace (``au_12`` occurrence, ``au_12_intensity``; ``frame_idx``,
``frame_time_in_ms``). Truth: ``AU12`` or ``AU12_c`` (0 or 1) and ``AU12_r`` (0 to 5); empty, -1 and 9 mean
not coded.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from jaxau import facs

Role = Literal["truth", "predictions"]

_AU = re.compile(r"(AU|AU_)0*([1-9][0-9]?)(|_p|_c|_r|_intensity)", re.IGNORECASE)
_KINDS = {
    "": "occurrence",
    "_c": "occurrence",
    "_p": "probability",
    "_r": "intensity",
    "_intensity": "intensity",
}
_KEYS = {  # name in lower case -> what it is here
    "video": "video",
    "input": "video",
    "frame": "frame",
    "frame_idx": "frame",
    "timestamp": "time",
    "frame_time_in_ms": "time",
    "subject": "subject",
    "face_id": "face_id",
    "confidence": "confidence",
    "facescore": "confidence",
    "success": "success",
}
_NUMBERS = ("frame", "time", "confidence", "success")
_NOT_CODED = (-1, 9)


@dataclass(frozen=True)
class AuTable:
    """Rows of one or more tables.

    Attributes:
      name: of the file or files, for messages.
      tool: whose columns they are, as far as the names tell.
      rows: for each row ``file``, ``line``, ``video`` and, where the table has them, ``frame``, ``time``
        (seconds), ``subject``, ``face_id``, ``confidence``, ``success``.
      occurrence: a column for each AU number that has one; 0, 1, or nan where empty or not coded.
      probability: likewise, in [0, 1].
      intensity: likewise; of a truth in [0, 5].
      has_video: False if no column tells the video; ``video`` is then the file's name without ending.
      unknown: columns that look like AUs but are none that FACS numbers here.
    """

    name: str
    tool: str
    rows: pd.DataFrame
    occurrence: pd.DataFrame
    probability: pd.DataFrame
    intensity: pd.DataFrame
    has_video: bool
    unknown: list[str]

    @property
    def aus(self) -> list[int]:
        """AUs with any column, ascending."""
        return sorted({*self.occurrence, *self.probability, *self.intensity})


def read_truth(path: Path) -> AuTable:
    """Read a table of codes: frame or timestamp, AU columns, and perhaps video and subject.

    Raises:
      ValueError: it cannot be read, lacks columns, or holds what is no code; says the column and the line.
    """
    return _read(path, "truth")


def read_predictions(paths: Sequence[Path]) -> AuTable:
    """Read the tables of one tool, a file for each video or one for all.

    Raises:
      ValueError: a table cannot be read, lacks columns or holds wrong values; or two have different columns.
    """
    tables = [_read(path, "predictions") for path in paths]
    first = tables[0]
    for table in tables[1:]:
        if (table.tool, table.aus, list(table.rows)) != (first.tool, first.aus, list(first.rows)):
            raise ValueError(
                f"{table.name}: other columns than {first.name}; the tables of one tool are scored together: "
                "score the others in a run of their own"
            )
    rows, *values = (
        pd.concat([getattr(table, name) for table in tables], ignore_index=True)
        for name in ("rows", "occurrence", "probability", "intensity")
    )
    name = first.name if len(tables) == 1 else f"{len(tables)} files from {first.name} on"
    return AuTable(name, first.tool, rows, values[0], values[1], values[2], first.has_video, first.unknown)


def _read(path: Path, role: Role) -> AuTable:
    table, columns = _cells(path, role)
    rows = pd.DataFrame({"file": path.name, "line": table.index}, index=table.index)
    for name, key in columns.keys.items():
        rows[key] = _numbers(path, table[name]) if key in _NUMBERS else table[name].str.strip()
        if name.lower() == "frame_time_in_ms":
            rows[key] /= 1000
    has_video = "video" in rows
    if not has_video:
        rows["video"] = path.stem
    _check_rows(path, rows)
    values: dict[str, dict[int, pd.Series]] = {"occurrence": {}, "probability": {}, "intensity": {}}
    for name, au, kind in columns.aus:
        values[kind][au] = _values(path, table[name], kind, role)
    if columns.bare and all(column.dropna().isin((0, 1)).all() for column in values["probability"].values()):
        # Some of py-feat's detectors say 0 or 1; those are no probabilities to rank frames by.
        values["occurrence"], values["probability"] = values["probability"], {}
    occurrence, probability, intensity = (
        pd.DataFrame(part, index=table.index).reset_index(drop=True) for part in values.values()
    )
    rows = rows.reset_index(drop=True)
    return AuTable(
        path.name, columns.tool, rows, occurrence, probability, intensity, has_video, columns.unknown
    )


def _values(path: Path, cells: pd.Series, kind: str, role: Role) -> pd.Series:
    """The column of an AU; nan where it is empty or not coded."""
    column = _numbers(path, cells)
    if role == "truth":
        column = column.mask(column.isin(_NOT_CODED))
    if kind == "intensity":
        is_right = column.between(0, 5) | (role == "predictions")  # a regression may leave the scale
        rule = "an intensity from 0 to 5"
    elif kind == "probability":
        is_right, rule = column.between(0, 1), "a probability in [0, 1]"
    else:
        is_right, rule = column.isin((0, 1)), "0 or 1"
    if role == "truth":
        rule += "; what is not coded is empty, -1 or 9"
    if kind != "intensity":
        rule += "; intensities belong into columns like AU12_r"
    wrong = column.notna() & ~is_right
    if wrong.any():
        at = column.index[wrong][0]
        raise ValueError(
            f"{path}, line {at}, column {cells.name}: {column[at]:g} ({int(wrong.sum())} such cells); it "
            f"must be {rule}"
        )
    return column


@dataclass(frozen=True)
class _Columns:
    keys: dict[str, str]  # name in the file -> what it is
    aus: list[tuple[str, int, str]]  # name in the file, AU, kind of value
    bare: bool  # whether all AU columns are named AU12 and hold probabilities, as py-feat's
    unknown: list[str]
    tool: str


def _cells(path: Path, role: Role) -> tuple[pd.DataFrame, _Columns]:
    """The cells of the columns that matter, as text, under the numbers of their lines."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    cells, lines = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            columns = _columns(path, header, role)
            names = [*columns.keys, *(name for name, _, _ in columns.aus)]
            used = [header.index(name) for name in names]
            for row in reader:
                if not any(map(str.strip, row)):
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(row)} cells below a header of {len(header)}; "
                        "every row must have a cell for each column, empty where there is no value"
                    )
                cells.append([row[index] for index in used])
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table of comma-separated values in UTF-8 ({error})") from None
    if not cells:
        raise ValueError(f"{path}: no row below the header")
    return pd.DataFrame(cells, columns=names, index=lines), columns


def _columns(path: Path, header: list[str], role: Role) -> _Columns:
    keys, aus, bare, unknown = {}, [], [], []
    for name in header:
        if name.lower() in _KEYS:
            keys[name] = _KEYS[name.lower()]
        elif match := _AU.fullmatch(name):
            prefix, number, suffix = match.groups()
            is_bare = not suffix and "_" not in prefix
            bare.append(is_bare)
            kind = "probability" if is_bare and role == "predictions" else _KINDS[suffix.lower()]
            if int(number) in facs.ACTION_UNITS:
                aus.append((name, int(number), kind))
            else:
                unknown.append(name)
    given = [*keys.values(), *((au, kind) for _, au, kind in aus)]
    twice = [name for name in (*keys, *(name for name, _, _ in aus)) if header.count(name) > 1]
    twice = twice or [name for name, key in keys.items() if given.count(key) > 1]
    twice = twice or [name for name, au, kind in aus if given.count((au, kind)) > 1]
    if twice:
        raise ValueError(f"{path}: columns {list(dict.fromkeys(twice))} say the same; leave one of them")
    shown = f"columns {', '.join(header[:8])}{' ...' if len(header) > 8 else ''}"
    if not aus:
        forms = "AU12, AU12_c or AU12_r"
        if role == "predictions":
            forms = (
                "AU12_p, AU12_c, AU12_r (jaxau, OpenFace), AU12 (py-feat), au_12, au_12_intensity (LibreFace)"
            )
        raise ValueError(f"{path}: no Action Unit among the {shown}; name them {forms}, separated by commas")
    if not {"frame", "time"} & set(keys.values()):
        raise ValueError(
            f"{path}: neither frame nor timestamp among the {shown}; add a column frame, or "
            "timestamp in seconds"
        )
    kinds, lower = {kind for _, _, kind in aus}, {name.lower() for name in header}
    tool = "a table"
    if "frame_idx" in lower:
        tool = "LibreFace"
    elif "facescore" in lower:
        tool = "py-feat"
    elif "probability" in kinds:
        tool = "jaxau"
    elif "occurrence" in kinds and {"confidence", "success"} <= lower:
        tool = "OpenFace"
    return _Columns(keys, aus, all(bare) and role == "predictions", unknown, tool)


def _numbers(path: Path, cells: pd.Series) -> pd.Series:
    """Numbers, nan where empty."""
    text = cells.str.strip()
    empty = text.str.lower().isin(("", "nan"))
    numbers = pd.to_numeric(text.mask(empty), errors="coerce").astype(float)
    wrong = ~empty & ~np.isfinite(numbers)
    if wrong.any():
        at = cells.index[wrong][0]
        raise ValueError(
            f"{path}, line {at}, column {cells.name}: {cells[at]!r} is no number "
            f"({int(wrong.sum())} such cells); leave empty what is not known"
        )
    return numbers


def _check_rows(path: Path, rows: pd.DataFrame) -> None:
    if "frame" in rows:
        whole = rows["frame"] == rows["frame"].round()
        if not whole.all():
            at = rows.index[~whole][0]
            raise ValueError(f"{path}, line {at}: frame {rows['frame'][at]} is not a whole number")
        rows["frame"] = rows["frame"].astype("int64")
    elif rows["time"].isna().any():
        at = rows.index[rows["time"].isna()][0]
        raise ValueError(f"{path}, line {at}: no time stamp, and the table has no frames to join by")
    for key in ("video", "subject"):
        if key in rows and (rows[key] == "").any():
            at = rows.index[rows[key] == ""][0]
            raise ValueError(f"{path}, line {at}: no {key}; name it in each row")
