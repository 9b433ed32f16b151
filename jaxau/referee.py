"""Score anybody's predictions against anybody's codes, frame by frame, by event and by intensity."""

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxau import facs, metrics
from jaxau.au_tables import AuTable
from jaxau.table_join import Join, join

Report = dict[str, Any]
"""What `score` returns: plain dicts, lists, numbers and None, ready for JSON."""

Unpredicted = Literal["excluded", "absent"]

_FROM_PROBABILITY = ("auc", "average_precision", "calibration_error")


@dataclass(frozen=True)
class _Frames:
    """Joined frames (m) and the AUs of both sides (k); nan where there is no value."""

    truth: NDArray[np.float64]  # (m, k) 0 or 1; nan: not coded
    true_intensity: NDArray[np.float64]  # (m, k)
    decision: NDArray[np.float64]  # (m, k) 0 or 1; nan: not predicted
    probability: NDArray[np.float64]  # (m, k)
    intensity: NDArray[np.float64]  # (m, k)
    cluster: NDArray[np.str_]  # (m,) subject, or video
    video: NDArray[np.str_]  # (m,)
    frame: NDArray[np.int64]  # (m,)
    is_predicted: NDArray[np.bool_]  # (m,)

    @property
    def mask(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.truth) & ~np.isnan(self.decision)


def score(
    truth: AuTable,
    predictions: AuTable,
    threshold: float | None = None,
    unpredicted: Unpredicted = "excluded",
    occurs_from: float = 2,
    frame_offset: int = 0,
    bootstrap: int = 1000,
) -> Report:
    """Join two tables and score what both hold: occurrence, events, relations, intensity.

    A frame is unpredicted if its row is missing, says ``success`` 0 or holds no AU. By default such frames
    are left out, because a missing row may be meant (a row for each fifth frame) and no tool said "absent"
    there. That flatters a tool that gives up on hard frames; so their number is always told, and the mean F1
    by the other rule beside it.

    Args:
      truth: from `jaxau.au_tables.read_truth`.
      predictions: from `jaxau.au_tables.read_predictions`.
      threshold: an AU counts as present where its probability reaches it. None: the occurrence that the
        tool itself states, and .5 where it states only probabilities.
      unpredicted: "absent" counts every AU as predicted absent in unpredicted frames.
      occurs_from: intensity from which an AU occurs, on a side that has intensities only (DISFA's rule: 2).
      frame_offset: added to the frame numbers of the predictions.
      bootstrap: draws of subjects (of videos, where the truth names no subjects); 0 for no intervals.

    Returns:
      ``score`` and ``always_on`` as of `jaxau.metrics.score`, with ROC AUC, average precision and calibration
      of AUs with probabilities only; ``events``, ``relations`` and ``intensity`` (None without intensities on
      both sides); ``join``, ``decisions``, ``aus``, ``notes`` ...: what they stand on.

    Raises:
      ValueError: no AU or no frame in common, or as `jaxau.table_join.join`.
    """
    aus = [au for au in predictions.aus if au in truth.aus]
    if not aus:
        raise ValueError(
            f"{predictions.name} and {truth.name} have no AU in common: {_names(predictions.aus)} against "
            f"{_names(truth.aus)}"
        )
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold {threshold}: a probability in [0, 1] is needed")
    joined = join(truth, predictions, frame_offset)
    frames, decided_by = _frames(truth, predictions, joined, aus, threshold, occurs_from)
    rules: dict[str, _Frames] = {"excluded": _excluded(frames), "absent": _absent(frames)}
    scored = rules.pop(unpredicted)
    if not scored.mask.any():
        raise ValueError(
            f"no frame that {truth.name} codes is predicted in {predictions.name} ({joined.counts['joined']} "
            "rows join); look at the empty cells and the column success"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # too narrow intervals: the note is in the result
        occurrence = _occurrence(scored, aus, bootstrap)
        other, (rule, others) = None, rules.popitem()
        if not frames.is_predicted.all():
            mean = _occurrence(others, aus, 0)["mean"]
            other = {"unpredicted": rule, "f1": mean["f1"], "aus": mean["aus"]}
        always_on = metrics.always_on(
            np.nan_to_num(scored.truth), scored.mask, scored.cluster, aus, bootstrap
        )
    report: Report = {
        "truth": truth.name,
        "predictions": predictions.name,
        "tool": predictions.tool,
        "aus": aus,
        "aus_only_in_truth": [au for au in truth.aus if au not in aus],
        "aus_only_in_predictions": [au for au in predictions.aus if au not in aus],
        "unknown_columns": {"truth": truth.unknown, "predictions": predictions.unknown},
        "join": joined.counts | _counts(frames, predictions, joined, aus),
        "unpredicted": unpredicted,
        "other_rule": other,
        "decisions": decided_by,
        "occurs_from": occurs_from,
        "clusters": "subject" if "subject" in truth.rows else "video",
        "score": occurrence,
        "always_on": always_on,
        "events": _events(scored, aus, bootstrap),
        "relations": _relations(scored),
        "intensity": _intensity(scored, aus, bootstrap),
    }
    return report | {"notes": joined.notes + _notes(report)}


def _frames(
    truth: AuTable,
    predictions: AuTable,
    joined: Join,
    aus: list[int],
    threshold: float | None,
    occurs_from: float,
) -> tuple[_Frames, dict[str, str]]:
    """The joined frames, and how it was decided whether an AU is predicted present."""
    rows = truth.rows.loc[joined.truth]
    is_read = joined.prediction >= 0
    if "success" in predictions.rows:
        is_read &= predictions.rows["success"].to_numpy()[joined.prediction] != 0

    def of_truth(table: pd.DataFrame) -> NDArray[np.float64]:
        return table.loc[joined.truth].reindex(columns=aus).to_numpy(float).copy()

    def of_predictions(table: pd.DataFrame) -> NDArray[np.float64]:
        values = table.reindex(columns=aus).to_numpy(float)[joined.prediction]
        return np.where(is_read[:, None], values, np.nan)

    codes, true_intensity = of_truth(truth.occurrence), of_truth(truth.intensity)
    decision, probability, intensity = (
        of_predictions(table)
        for table in (predictions.occurrence, predictions.probability, predictions.intensity)
    )
    decided_by = {}
    for column, au in enumerate(aus):
        if au not in truth.occurrence:
            codes[:, column] = _at_least(true_intensity[:, column], occurs_from)
        how = "stated by the tool"
        if au in predictions.probability and (threshold is not None or au not in predictions.occurrence):
            used = 0.5 if threshold is None else threshold
            decision[:, column], how = _at_least(probability[:, column], used), f"probability >= {used:g}"
        elif au not in predictions.occurrence:
            decision[:, column] = _at_least(intensity[:, column], occurs_from)
            how = f"intensity >= {occurs_from:g}"
        decided_by[facs.column(au)] = how
    frames = _Frames(
        truth=codes,
        true_intensity=true_intensity,
        decision=decision,
        probability=probability,
        intensity=intensity,
        cluster=rows["subject"].to_numpy(str) if "subject" in rows else joined.video,
        video=joined.video,
        frame=joined.frame,
        is_predicted=np.any(~np.isnan(decision), axis=1),
    )
    return frames, decided_by


def _at_least(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    return np.where(np.isnan(values), np.nan, values >= least)


def _excluded(frames: _Frames) -> _Frames:
    keep = frames.is_predicted
    return _Frames(**{name: values[keep] for name, values in vars(frames).items()})


def _absent(frames: _Frames) -> _Frames:
    has_probability = ~np.isnan(frames.probability).all(axis=0)
    probability = np.where(np.isnan(frames.probability) & has_probability, 0, frames.probability)
    return replace(frames, decision=np.nan_to_num(frames.decision), probability=probability)


def _occurrence(frames: _Frames, aus: list[int], bootstrap: int) -> metrics.Score:
    """Rates of the decisions; areas, average precision and calibration of the probabilities."""
    truth, mask, cluster = np.nan_to_num(frames.truth), frames.mask, frames.cluster
    result = metrics.score(np.nan_to_num(frames.decision), truth, mask, 0.5, cluster, aus, bootstrap)
    has = mask & ~np.isnan(frames.probability)
    draws = bootstrap if has.any() else 0
    ranked = metrics.score(np.nan_to_num(frames.probability), truth, has, 0.5, cluster, aus, draws)
    for key in ("mean", "bp4d_mean"):
        if key in result:
            number = {"skew_f1_aus": result[key]["auc_aus"], "probability_aus": ranked[key]["accuracy_aus"]}
            result[key] = _with_ranked(result[key], ranked[key]) | number
    pairs = zip(result["per_au"], ranked["per_au"], strict=True)
    result["per_au"] = [_with_ranked(row, other) for row, other in pairs]
    return result


def _with_ranked(numbers: dict[str, Any], ranked: dict[str, Any]) -> dict[str, Any]:
    """Without a threshold, which the report's ``decisions`` tell."""
    ranked = {key: value for key, value in ranked.items() if key.startswith(_FROM_PROBABILITY)}
    return {key: value for key, value in (numbers | ranked).items() if key != "threshold"}


def _events(frames: _Frames, aus: list[int], bootstrap: int) -> dict[str, Any]:
    """Frames of a table of each so many-th frame are neighbours: the commonest distance is one step."""
    same = frames.video[1:] == frames.video[:-1]
    distances = np.diff(frames.frame)[same]
    step = int(np.bincount(distances).argmax()) if len(distances) else 1
    arrays = np.nan_to_num(frames.decision), np.nan_to_num(frames.truth), frames.mask
    return metrics.event_score(
        *arrays, frames.cluster, frames.video, frames.frame, aus, step=step, bootstrap=bootstrap
    )


def _relations(frames: _Frames) -> dict[str, Any]:
    """Of occurrences, which every tool has, so that tools can be compared."""
    arrays = np.nan_to_num(frames.decision), np.nan_to_num(frames.truth), frames.mask
    return metrics.l2_distance(*arrays) | {"dependency": metrics.dependency_f1(*arrays)}


def _intensity(frames: _Frames, aus: list[int], bootstrap: int) -> dict[str, Any] | None:
    mask = ~np.isnan(frames.true_intensity) & ~np.isnan(frames.intensity)
    with_both = [column for column in range(len(aus)) if mask[:, column].any()]
    if not with_both:
        return None
    return metrics.intensity_score(
        frames.intensity[:, with_both],
        frames.true_intensity[:, with_both],
        mask[:, with_both],
        frames.cluster,
        [aus[column] for column in with_both],
        bootstrap,
    )


def _counts(frames: _Frames, predictions: AuTable, joined: Join, aus: list[int]) -> dict[str, Any]:
    has_row = joined.prediction >= 0
    failed = np.zeros_like(has_row)
    if "success" in predictions.rows:
        failed = has_row & (predictions.rows["success"].to_numpy()[joined.prediction] == 0)
    missing = np.isnan(frames.decision[frames.is_predicted]).sum(axis=0)
    return {
        "predicted": int(frames.is_predicted.sum()),
        "unpredicted": int((~frames.is_predicted).sum()),
        "without_row": int((~has_row).sum()),
        "success_0": int(failed.sum()),
        "empty": int((has_row & ~failed & ~frames.is_predicted).sum()),
        "uncoded_labels": _per_au(aus, np.isnan(frames.truth).sum(axis=0)),
        "empty_predictions": _per_au(aus, missing),
    }


def _per_au(aus: list[int], counts: NDArray[Any]) -> dict[str, int]:
    return {facs.column(au): int(count) for au, count in zip(aus, counts, strict=True) if count}


def _names(aus: list[int]) -> str:
    return " ".join(facs.column(au) for au in aus)


def _notes(report: Report) -> list[str]:
    """What a reader must know before believing the numbers, beyond how the rows were joined."""
    counts, notes = report["join"], []
    for key, where in (("aus_only_in_truth", "truth"), ("aus_only_in_predictions", "predictions")):
        if report[key]:
            notes.append(f"not scored, only in the {where}: {_names(report[key])}")
    for where, columns in report["unknown_columns"].items():
        if columns:
            notes.append(f"not scored, no AU known here, in the {where}: {', '.join(columns)}")
    for key, what in (
        ("truth_videos_without_predictions", "truth without predictions"),
        ("prediction_videos_without_truth", "predictions without truth"),
    ):
        if counts[key]:
            notes.append(f"{what}: {len(counts[key])} videos ({', '.join(counts[key][:5])}), not scored")
    if counts["uncoded_labels"]:
        notes.append(f"labels not coded, masked: {_listed(counts['uncoded_labels'])}")
    if counts["empty_predictions"]:
        notes.append(f"AUs empty in predicted frames: {_listed(counts['empty_predictions'])}")
    with_probability = [row["au"] for row in report["score"]["per_au"] if row["auc"] is not None]
    if not with_probability:
        notes.append(
            "no AUC, average precision and calibration: the predictions hold no usable probabilities"
        )
    by_intensity = [au for au, how in report["decisions"].items() if how.startswith("intensity")]
    if by_intensity:
        notes.append(
            f"only intensities are predicted of {' '.join(by_intensity)}: present from "
            f"{report['occurs_from']:g} on"
        )
    if report["clusters"] == "video":
        notes.append("the truth names no subjects: intervals are over videos, too narrow if people recur")
    return notes


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
