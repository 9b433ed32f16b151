"""Two scored runs on the same frames: is one better, and in which AUs?"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxau import evaluate, facs, metrics
from jaxau.evaluate import Predictions

Comparison = dict[str, Any]
"""What `compare` returns: plain dicts, lists, numbers and None, ready for JSON."""

_FRAME = ["subject", "video", "frame"]


@dataclass(frozen=True)
class _Run:
    """The predictions of a run's stage on its test subjects, of all folds where it has several."""

    name: str
    stage: str
    rule: str  # of its thresholds: honest, optimistic, model (of another corpus), or at_half
    described: dict[str, Any]  # corpus, protocol, manifest_hash ...
    fold: str
    aus: list[int]
    found: Predictions
    thresholds: NDArray[np.float64]  # (n, k) that the run chose for each frame's fold

    def about(self) -> dict[str, Any]:
        keys = ("corpus", "protocol", "frames", "manifest_hash", "selection", "synthetic", "trained_on")
        return {
            "run": self.name,
            "stage": self.stage,
            "thresholds": self.rule,
            **{key: self.described[key] for key in keys},
            "fold": self.fold,
            "tested_frames": len(self.found["subject"]),
            "tested_subjects": len(np.unique(self.found["subject"])),
            "aus": self.aus,
        }


def compare(
    run_a: Path, run_b: Path, corpus: str | None = None, stage: str | None = None, bootstrap: int = 1000
) -> Comparison:
    """Compare two runs, folders of ``launch.train`` or of ``launch.crossval``, on the frames both tested.

    Frames are the same if subject, video and frame number are. The runs may come from different data sets of
    a corpus (another alignment, say): then all labels of the frames must agree, which tells that the numbers
    mean the same. AUs are matched by number.

    Args:
      run_a, run_b: folders of scored runs.
      corpus: on which they were scored; needed if there are several.
      stage: of both; None for the last stage of each.
      bootstrap: draws of subjects, the same for both runs; 0 for no intervals.

    Returns:
      ``a`` and ``b``: what was compared; ``matched``: how many frames, and how many not, and why; ``aus``,
      ``aus_only_in_a``, ``aus_only_in_b``; ``chosen`` (each run at its own thresholds) and ``at_half``, as of
      `jaxau.metrics.paired_difference`; ``relations`` of both; ``verdict``: one line; ``notes``.

    Raises:
      ValueError: a run is not scored, or the two have no frame or AU in common, or labels that differ.
    """
    a, b = (_load(Path(run), corpus, stage) for run in (run_a, run_b))
    if a.described["corpus"] != b.described["corpus"]:
        raise ValueError(
            f"{a.name} is scored on {a.described['corpus']}, {b.name} on {b.described['corpus']}: runs are "
            "compared on one corpus; choose one that both are scored on with --corpus"
        )
    aus = [au for au in a.aus if au in b.aus]
    if not aus:
        raise ValueError(f"{a.name} predicts AUs {a.aus}, {b.name} {b.aus}: they have none in common")
    rows_a, rows_b, matched = _match(a, b)
    columns_a, columns_b = ([run.aus.index(au) for au in aus] for run in (a, b))

    def of_a(name: str) -> NDArray[Any]:
        return a.found[name][rows_a][:, columns_a]

    def of_b(name: str) -> NDArray[Any]:
        return b.found[name][rows_b][:, columns_b]

    truth, mask = of_a("truth"), of_a("mask").astype(bool)
    _check_labels(a, b, (truth, mask), (of_b("truth"), of_b("mask").astype(bool)))
    probability_a, probability_b = of_a("probability"), of_b("probability")
    chosen_a, chosen_b = a.thresholds[rows_a][:, columns_a], b.thresholds[rows_b][:, columns_b]
    subject = a.found["subject"][rows_a]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few subjects: the note is in the result
        pair = (probability_a, probability_b, truth, mask)
        chosen = metrics.paired_difference(*pair, chosen_a, chosen_b, subject, aus, bootstrap)
        at_half = metrics.paired_difference(*pair, 0.5, 0.5, subject, aus, bootstrap)
    result: Comparison = {
        "a": a.about(),
        "b": b.about(),
        "matched": matched,
        "aus": aus,
        "aus_only_in_a": [au for au in a.aus if au not in aus],
        "aus_only_in_b": [au for au in b.aus if au not in aus],
        "bootstrap": bootstrap,
        "chosen": chosen,
        "at_half": at_half,
        "relations": {
            "a": _relations(probability_a, chosen_a, truth, mask),
            "b": _relations(probability_b, chosen_b, truth, mask),
        },
    }
    return result | {"verdict": verdict(result), "notes": _notes(result)}


def verdict(result: Comparison) -> str:
    """One line; a difference is claimed only where its interval excludes 0."""
    mean = result["chosen"]["mean"]
    words = {
        "synthetic": result["a"]["synthetic"] or result["b"]["synthetic"],
        "optimistic": "optimistic" in (result["a"]["selection"], result["b"]["selection"]),
    }
    said = ", ".join(word for word, holds in words.items() if holds)
    about = f" ({said})" if said else ""
    if mean["difference"] is None:
        return f"no verdict{about}: no common AU has a positive frame"
    if mean["low"] is None:
        return f"no verdict{about}: no interval, so that chance is not excluded"
    if mean["low"] > 0 or mean["high"] < 0:
        better = "A" if mean["low"] > 0 else "B"
        return f"{better} has the higher mean F1{about}: the 95 % interval of the difference excludes 0"
    return f"no difference shown{about}: the 95 % interval of the difference of mean F1 holds 0"


def excludes_zero(row: dict[str, Any]) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    return row["low"] is not None and (row["low"] > 0 or row["high"] < 0)


def _load(run: Path, corpus: str | None, stage: str | None) -> _Run:
    corpora = {path.parent.name: path for path in run.glob("crossval/*/scores.json")}
    is_crossval = bool(corpora)
    corpora = corpora or {path.parent.name: path for path in run.glob("eval/*/scores.json")}
    if not corpora:
        raise ValueError(
            f"{run}: no scores; give a folder that launch.evaluate or launch.crossval has scored"
        )
    if corpus is None and len(corpora) > 1:
        raise ValueError(f"{run}: scored on {', '.join(sorted(corpora))}; choose one with --corpus")
    corpus = corpus or next(iter(corpora))
    if corpus not in corpora:
        raise ValueError(f"{run}: not scored on {corpus!r}, but on {', '.join(sorted(corpora))}")
    scores = evaluate.read_scores(corpora[corpus].parent)
    folds = scores["folds"] if is_crossval else [scores]
    folders = [run / f"fold{one['fold']}" for one in folds] if is_crossval else [run]
    stages = list(folds[0]["stages"])
    stage = stage or stages[-1]
    if stage not in stages:
        raise ValueError(f"{run}: no stage {stage!r} is scored, but {', '.join(stages)}")
    rule = evaluate.rules(folds[0]["stages"][stage])[-1]
    parts = [evaluate.read_predictions(folder / "eval" / corpus, stage) for folder in folders]
    thresholds = [
        np.tile([row["threshold"] for row in one["stages"][stage][rule]["per_au"]], (len(part["subject"]), 1))
        for one, part in zip(folds, parts, strict=True)
    ]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    described = folds[0]
    fold = f"{len(folds)} folds" if is_crossval else f"fold {described['fold']}"
    aus = list(described["aus"])
    return _Run(str(run), stage, rule, described, fold, aus, found, np.concatenate(thresholds))


def _match(a: _Run, b: _Run) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, Any]]:
    """Rows of both for the frames that both tested, and how many there are."""
    keys = []
    for run in (a, b):
        key = pd.MultiIndex.from_arrays([run.found[name] for name in _FRAME], names=_FRAME)
        if key.has_duplicates:
            subject, video, frame = key[key.duplicated()][0]
            raise ValueError(
                f"{run.name}: frame {frame} of subject {subject}, video {video} was predicted twice; delete "
                "the folder eval and run launch.evaluate again"
            )
        keys.append(key)
    found = keys[1].get_indexer(keys[0])
    rows_a = np.flatnonzero(found >= 0)
    subjects = [set(run.found["subject"].tolist()) for run in (a, b)]
    both = subjects[0] & subjects[1]
    counts: dict[str, Any] = {"frames": len(rows_a), "subjects": len(both)}
    for name, run in (("a", a), ("b", b)):
        is_shared = np.isin(run.found["subject"], list(both))
        counts[f"only_{name}_other_subjects"] = int((~is_shared).sum())
        counts[f"only_{name}_same_subjects"] = int(is_shared.sum()) - len(rows_a)
    if not len(rows_a):
        raise ValueError(
            f"{a.name} ({a.described['protocol']}, {a.fold}) and {b.name} ({b.described['protocol']}, "
            f"{b.fold}) tested no frame in common: compare the same fold of one protocol, or all folds of "
            "both"
        )
    return rows_a, found[rows_a], counts


def _check_labels(a: _Run, b: _Run, of_a: Sequence[NDArray[Any]], of_b: Sequence[NDArray[Any]]) -> None:
    (truth_a, mask_a), (truth_b, mask_b) = of_a, of_b
    differ = (mask_a != mask_b) | (mask_a & mask_b & (truth_a != truth_b))
    if differ.any():
        hashes = [run.described["manifest_hash"][:12] for run in (a, b)]
        raise ValueError(
            f"{int(differ.any(axis=1).sum())} of {len(differ)} frames have other labels in {a.name} (data "
            f"set {hashes[0]}) than in {b.name} ({hashes[1]}): subject, video and frame numbers do not mean "
            "the same, or the label rules differ; score both on one data set"
        )


def _relations(
    probability: NDArray[Any], threshold: NDArray[Any], truth: NDArray[Any], mask: NDArray[Any]
) -> dict[str, Any]:
    present = probability >= threshold
    dependency = metrics.dependency_f1(present, truth, mask)
    return metrics.l2_distance(present, truth, mask) | {"dependency": dependency}


def _notes(result: Comparison) -> list[str]:
    a, b, matched, notes = result["a"], result["b"], result["matched"], []
    if a["manifest_hash"] != b["manifest_hash"]:
        notes.append(
            f"different data sets ({a['manifest_hash'][:12]}, {b['manifest_hash'][:12]}): frames are matched "
            "by the numbers of subject, video and frame, and their labels agree"
        )
    for key, what in (("protocol", "protocols"), ("frames", "frame rules"), ("fold", "folds")):
        if a[key] != b[key]:
            notes.append(f"different {what}: {a[key]} and {b[key]}; compared where both were tested")
    for name in "ab":
        subjects, frames = matched[f"only_{name}_other_subjects"], matched[f"only_{name}_same_subjects"]
        if subjects:
            notes.append(f"{subjects} frames only in {name.upper()}: subjects that the other did not test")
        if frames:
            notes.append(f"{frames} frames only in {name.upper()}, of subjects that both tested")
        if result[f"aus_only_in_{name}"]:
            aus = " ".join(map(facs.column, result[f"aus_only_in_{name}"]))
            notes.append(f"not compared, only in {name.upper()}: {aus}")
        if result[name]["thresholds"] == "at_half":
            notes.append(f"{name.upper()} chose no thresholds (conventional): .5 stands for them")
        if result[name]["selection"] == "optimistic":
            notes.append(f"{name.upper()} is optimistic: test subjects chose its epoch and thresholds")
    compared = sum(row["difference"] is not None for row in result["chosen"]["per_au"])
    notes.append(
        f"* the interval of this AU excludes 0, not corrected for {compared} comparisons: about one in 20 "
        "does so by chance"
    )
    undefined = [facs.column(row["au"]) for row in result["chosen"]["per_au"] if row["difference"] is None]
    if undefined:
        notes.append(f"{', '.join(undefined)}: no positive frame, so F1 is undefined and not in the mean")
    return [*notes, *filter(None, [result["chosen"]["interval_note"]])]
