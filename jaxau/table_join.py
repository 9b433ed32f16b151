"""Which rows of two tables of AUs are the same frame: by video and frame number, or by time stamp."""

from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxau.au_tables import AuTable
from jaxau.faces.video import PICTURES, VIDEOS


@dataclass(frozen=True)
class Join:
    """Frames of the truth and what was predicted for them.

    Attributes:
      truth: (m,) rows of the truth, of the videos that both tables hold, by video and frame.
      prediction: (m,) the row of the predictions for each; -1 where there is none.
      video: (m,) names as in the truth.
      frame: (m,) numbers; counted from the time stamps where the truth has no frames.
      counts: what was joined and what was not.
      notes: what a reader must know of how it was done.
    """

    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    video: NDArray[np.str_]
    frame: NDArray[np.int64]
    counts: dict[str, Any]
    notes: list[str]


def join(truth: AuTable, predictions: AuTable, frame_offset: int = 0) -> Join:
    """Join on (video, frame), or on the nearest time stamp where one of the two has no frame numbers.

    Time stamps belong together if they are less than half a frame interval apart (of the faster of the two
    tables), each row at most once. Of several faces in a frame the one of highest confidence is taken.
    Nothing is shifted but by ``frame_offset``; where one more or less would join more, a note says so.

    Args:
      truth: from `jaxau.au_tables.read_truth`.
      predictions: from `jaxau.au_tables.read_predictions`.
      frame_offset: added to the frame numbers of the predictions.

    Raises:
      ValueError: nothing joins, or far less than with the frame numbers shifted by one; rows come twice; one
        table has only frames and the other only time stamps.
    """
    on = "frame" if "frame" in truth.rows and "frame" in predictions.rows else "time"
    if on == "time":
        _check_times(truth, predictions, frame_offset)
    t, p, notes = _same_videos(truth, predictions)
    _check_twice(
        truth.name, t, ["video", on], "a frame of a video is coded once, and videos have different names"
    )
    rows = len(p)
    p, several = _one_face(predictions, p, on)
    if several:
        notes.append(
            f"{several} frames hold several faces: the one of highest confidence is taken (the first, where "
            "none is higher)"
        )
    t = t.sort_values(["video", on], kind="stable")
    both = set(t["video"]) & set(p["video"])
    alone = sorted(set(t["video"]) - both)
    counts: dict[str, Any] = {
        "on": on,
        "frame_offset": frame_offset,
        "truth_rows": len(t),
        "prediction_rows": rows,
        "several_faces": several,
        "videos": len(both),
        "truth_videos_without_predictions": alone,
        "prediction_videos_without_truth": sorted(set(p["video"]) - both),
    }
    t = t[t["video"].isin(both)]
    if on == "frame":
        p["frame"] += frame_offset
        found = _by_frame(t, p)
        notes += _check_offset(truth.name, predictions.name, t, p, frame_offset)
    else:
        found = _by_time(t, p)
        if (found < 0).all():
            raise ValueError(
                f"no time stamp of {predictions.name} ({_range(p['time'])} s) is within half a frame of one "
                f"of {truth.name} ({_range(t['time'])} s); both must be seconds from the start of the video"
            )
    joined = int((found >= 0).sum())
    counts |= {"joined": joined, "truth_not_joined": counts["truth_rows"] - joined}
    counts["predictions_not_joined"] = len(p) - joined
    return Join(t.index.to_numpy(), found, t["video"].to_numpy(str), _frame_numbers(t), counts, notes)


def _check_times(truth: AuTable, predictions: AuTable, frame_offset: int) -> None:
    for table in (truth, predictions):
        if "time" not in table.rows:
            other = "predictions" if table is truth else "truth"
            raise ValueError(
                f"{table.name} has frame numbers only and the {other} only time stamps: they cannot be "
                f"joined; add a column timestamp (seconds) to {table.name}"
            )
        if table.rows["time"].isna().any():
            line = table.rows["line"][table.rows["time"].isna()].iloc[0]
            raise ValueError(f"{table.name}, line {line}: no time stamp, by which the tables are joined")
    if frame_offset:
        raise ValueError(
            f"frame_offset {frame_offset}: the tables are joined by time stamp; leave it out, or give both "
            "tables a column frame"
        )


def _same_videos(truth: AuTable, predictions: AuTable) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The rows of both with the names of the truth for the videos that both hold."""
    t, p = truth.rows.copy(), predictions.rows.copy()
    names_t, names_p = sorted(t["video"].unique()), sorted(p["video"].unique())
    if len(names_t) == len(names_p) == 1:
        notes = []
        told = truth.has_video and predictions.has_video
        if told and _bare(names_t[0]) != _bare(names_p[0]):
            notes.append(
                f"one video each, taken as the same: {names_t[0]!r} in the truth, {names_p[0]!r} in the "
                "predictions"
            )
        p["video"] = names_t[0]
        return t, p, notes
    if not truth.has_video:
        raise ValueError(
            f"{truth.name} has no column video, but the predictions are of {len(names_p)} videos "
            f"({_some(names_p)}); add one, or give the predictions of one video"
        )
    bare_t, bare_p = ({_bare(name): name for name in names} for names in (names_t, names_p))
    if len(bare_t) == len(names_t) and len(bare_p) == len(names_p):
        same = {name: bare_t[bare] for bare, name in bare_p.items() if bare in bare_t}
    else:  # two videos differ in folder or ending only
        same = {name: name for name in names_p if name in set(names_t)}
    if not same:
        remedy = "give both the same names in a column video"
        if not predictions.has_video:
            remedy = "add a column video, or name each file of predictions like its video"
        raise ValueError(
            f"{predictions.name} and {truth.name} have no video in common: {_some(names_p)} against "
            f"{_some(names_t)}; {remedy}"
        )
    p["video"] = p["video"].map(lambda name: same.get(name, name))
    differ = any(name != other for name, other in same.items())
    return t, p, ["videos are matched by their names without folder and ending"] if differ else []


def _bare(video: str) -> str:
    """The name without folder and ending of a media file: ``clips/talk.mp4`` is ``talk``."""
    path = PureWindowsPath(video)  # also splits at /
    return path.stem if path.suffix.lower() in PICTURES | VIDEOS else path.name


def _check_twice(name: str, rows: pd.DataFrame, keys: list[str], rule: str) -> None:
    twice = rows[rows.duplicated(keys, keep=False)]
    if len(twice):
        first = twice[(twice[keys] == twice[keys].iloc[0]).all(axis=1)]
        where = ", ".join(f"{key} {first[key].iloc[0]}" for key in keys)
        lines = " and ".join(str(line) for line in first["line"].iloc[:2])
        raise ValueError(
            f"{name}: {where} comes twice (lines {lines} of {first['file'].iloc[0]}; {len(twice)} such "
            f"rows): {rule}; remove what is too much"
        )


def _one_face(predictions: AuTable, p: pd.DataFrame, on: str) -> tuple[pd.DataFrame, int]:
    """One row for each frame, and how many frames had several."""
    repeated = p.duplicated(["video", on], keep=False)
    if not repeated.any():
        return p, 0
    if "face_id" in p:
        keys = ["video", on, "face_id"]
        _check_twice(predictions.name, p[repeated], keys, "each face of a frame has one row")
    elif "confidence" in p:
        values = [predictions.occurrence, predictions.probability, predictions.intensity]
        same = pd.concat([p[["video", on, "confidence"]], *values], axis=1).T.reset_index(drop=True).T
        if same[repeated].duplicated().any():
            _check_twice(
                predictions.name, p[same.duplicated(keep=False)], ["video", on], "the rows are the same"
            )
    else:
        _check_twice(
            predictions.name, p, ["video", on], "without face_id or confidence no face can be chosen"
        )
    order = pd.DataFrame(
        {"success": p.get("success", 1), "confidence": p.get("confidence", 0)}, index=p.index
    )
    order = order.fillna(-np.inf).sort_values(["success", "confidence"], ascending=False, kind="stable")
    several = int(p[repeated].groupby(["video", on]).ngroups)
    return p.loc[order.index].drop_duplicates(["video", on]), several


def _by_frame(t: pd.DataFrame, p: pd.DataFrame) -> NDArray[np.int64]:
    keys = pd.MultiIndex.from_frame(p[["video", "frame"]])
    found = keys.get_indexer(pd.MultiIndex.from_frame(t[["video", "frame"]]))
    return np.where(found < 0, -1, p.index.to_numpy()[found])


def _check_offset(truth: str, predictions: str, t: pd.DataFrame, p: pd.DataFrame, offset: int) -> list[str]:
    """Whether frame numbers seem to begin at another number in one of the tables."""
    number = {by: int((_by_frame(t, p.assign(frame=p["frame"] + by)) >= 0).sum()) for by in (-1, 0, 1)}
    by = max((-1, 1), key=lambda one: number[one])
    starts = t.groupby("video")["frame"].min(), p.groupby("video")["frame"].min()
    begin = (starts[0] - starts[1]).dropna()  # of the videos in both
    remedy = f"--frame_offset={offset + by} adds {offset + by} to the frames of the predictions"
    if number[by] > 2 * number[0]:
        raise ValueError(
            f"{number[0]} frames of {predictions} join with {truth}, {number[by]} if shifted by one: the "
            f"tables count from different numbers; {remedy}"
        )
    if number[0] == 0:
        raise ValueError(
            f"no frame of {predictions} ({_range(p['frame'])}) joins with {truth} ({_range(t['frame'])}); "
            "both must number the frames of the same videos"
        )
    if number[by] > number[0] or (number[by] == number[0] and (begin == by).all()):
        return [
            f"frames begin at {starts[0].min()} in the truth and at {starts[1].min()} in the predictions: "
            f"{number[0]} join as written, {number[by]} if shifted by one; if both begin with the same "
            f"frame, the score is off by one frame: {remedy}"
        ]
    return []


def _by_time(t: pd.DataFrame, p: pd.DataFrame) -> NDArray[np.int64]:
    found = np.full(len(t), -1)
    for video, rows in t.reset_index(drop=True).groupby("video"):
        other = p[p["video"] == video].sort_values("time")
        true, predicted = rows["time"].to_numpy(), other["time"].to_numpy()
        intervals = [np.median(np.diff(times)) for times in (true, predicted) if len(times) > 1]
        # A video of one row on both sides has no interval: there a millisecond, to which tools round.
        half = min(intervals, default=1e-3) / 2 * (1 - 1e-6)
        after = np.searchsorted(predicted, true).clip(1, max(len(predicted) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(predicted) - 1)
        is_before = np.abs(true - predicted[before]) <= np.abs(true - predicted[after])
        nearest = np.where(is_before, before, after)
        distance = np.abs(true - predicted[nearest])
        pairs = pd.DataFrame({"row": rows.index, "nearest": nearest, "distance": distance})
        pairs = (
            pairs[pairs["distance"] < half].sort_values("distance", kind="stable").drop_duplicates("nearest")
        )
        found[pairs["row"]] = other.index.to_numpy()[pairs["nearest"]]
    return found


def _frame_numbers(t: pd.DataFrame) -> NDArray[np.int64]:
    """Frame numbers (m,), from time stamps where there are none: a gap in time is a gap in numbers."""
    if "frame" in t:
        return t["frame"].to_numpy(np.int64)
    numbers = []
    for _, times in t.groupby("video", sort=False)["time"]:
        steps = np.diff(times.to_numpy())
        interval = np.median(steps) if len(steps) else 1
        numbers.append(np.concatenate([[0], np.cumsum(np.maximum(np.rint(steps / interval), 1))]))
    return np.concatenate(numbers).astype(np.int64)


def _range(values: pd.Series) -> str:
    return f"{values.min():.10g} to {values.max():.10g}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
