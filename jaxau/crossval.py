"""Cross-validation: a run for each fold of a protocol, and their scores together.

Two summaries stand beside the folds, because papers report either. The mean of folds averages, for each
AU, its scores in the folds where they are defined, and the folds' means. Pooled, the predictions of all
folds are scored as one test set, each with its own fold's thresholds; since each subject is tested once,
the intervals are over all subjects.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2
from tqdm import tqdm

from jaxau import evaluate, files, metrics, train
from jaxau.config import Config
from jaxau.metrics import Score

_SPREAD = (
    "mean", "sd", "sd_low", "sd_high", "lowest", "highest", "range",
    "difference", "difference_low", "difference_high",
)  # fmt: skip
_SAME = ("corpus", "protocol", "frames", "manifest_hash", "aus", "selection", "trained_on", "synthetic")


def run(config: Config, folds: int, make_data: Callable[[Config], Any], workdir: Path) -> Path:
    """Train and score all folds of a protocol in ``<workdir>/fold1``, ``fold2`` ..., then merge them.

    What is finished is skipped, a broken fold goes on where it stopped.

    Args:
      config: of every fold but for ``data.fold``, which must be left at 1.
      folds: how many the protocol has.
      make_data: as for ``train.run``.
      workdir: of all folds.

    Returns:
      The folder of the merged scores, see `merge`.

    Raises:
      ValueError: a fold is asked for, or as ``train.run`` and ``evaluate.run``.
    """
    if config.data.fold != 1:
        raise ValueError(
            f"config.data.fold: {config.data.fold} is given, but a cross-validation runs every fold; leave "
            "it away, or use launch.train for one fold"
        )
    workdirs = [workdir / f"fold{fold}" for fold in range(1, folds + 1)]
    for fold, directory in enumerate(workdirs, 1):
        tqdm.write(f"fold {fold} of {folds}: {directory}", file=sys.stderr)
        one = dataclasses.replace(config, data=dataclasses.replace(config.data, fold=fold))
        train.run(one, make_data, directory)
        evaluate.run(directory, make_data)
    return merge(workdirs, config.data.corpus, workdir / "crossval" / config.data.corpus)


def merge(workdirs: Sequence[Path], corpus: str, folder: Path) -> Path:
    """Put the scores of several folds together.

    Writes ``<folder>/scores.json``: ``folds``, the scores of each fold as its own run has them, and
    ``mean_of_folds`` and ``pooled``, of the same form. Where a summary has no number of its own (an
    interval of a mean of folds, one threshold of several folds) it is None; a ``per_au`` row of
    ``mean_of_folds`` says in ``folds`` over how many folds its F1 is.

    Args:
      workdirs: a scored run for each fold.
      corpus: on which they were scored.
      folder: of the result.

    Raises:
      ValueError: a fold is not scored, two folds differ in anything but the fold (data set, protocol,
        AUs or their order, frame rule, configuration), or a subject is tested in two of them.
    """
    evaluations = [workdir / "eval" / corpus for workdir in workdirs]
    scores = [evaluate.read_scores(evaluation) for evaluation in evaluations]
    _check_same(workdirs, scores)
    common = {key: scores[0][key] for key in _SAME} | {"subjects": _subjects(scores)}
    stages = list(scores[0]["stages"])
    predictions = {stage: _pool(evaluations, stage) for stage in stages}
    last = stages[-1]
    of_last = [one["stages"][last] for one in scores]
    merged = {
        "folds": scores,
        "mean_of_folds": {
            **common,
            "fold": f"mean of {len(scores)} folds",
            "stages": {stage: _mean_stage([s["stages"][stage] for s in scores]) for stage in stages},
            "baselines": {
                name: mean_score([s["baselines"][name] for s in scores]) for name in scores[0]["baselines"]
            },
        },
        "pooled": {
            **common,
            "fold": f"{len(scores)} folds pooled",
            "stages": {
                stage: _pooled_stage(predictions[stage], [s["stages"][stage] for s in scores], common["aus"])
                for stage in stages
            },
            "baselines": _pooled_baselines(evaluations, scores),
            **evaluate.describe_stage(
                predictions[last],
                _thresholds(predictions[last], of_last, evaluate.rules(of_last[0])[-1]),
                common["aus"],
                _attributes(scores),
            ),
        },
    }
    files.write_json(folder / "scores.json", merged)
    return folder


def noise_floor(
    config: Config, folds: int, repeats: int, make_data: Callable[[Config], Any], workdir: Path
) -> Path:
    """Cross-validate on several redraws of the folds: how far apart are scores that differ by nothing else?

    Redraw r is a cross-validation of its own in ``<workdir>/redraw<r>`` (``config.data.fold_seed`` = r), and
    resumes as such. The seed of initial weights and batches stays the same.

    Args:
      config: as for `run`.
      folds: how many the protocol has.
      repeats: how many redraws, at least 2.
      make_data: as for ``train.run``.
      workdir: of all redraws.

    Returns:
      ``<workdir>/crossval/<corpus>/noise_floor.json``, see `spread`.

    Raises:
      ValueError: fewer than 2 redraws, a redraw is asked for, or as `run`.
    """
    if repeats < 2:
        raise ValueError(f"repeats={repeats}: a spread needs at least 2 redraws of the folds")
    if config.data.fold_seed:
        raise ValueError(
            f"config.data.fold_seed: {config.data.fold_seed} is given, but repeats run redraws 1 to "
            f"{repeats}; leave it away, or leave repeats away for one redraw"
        )
    redraws = []
    for redraw in range(1, repeats + 1):
        tqdm.write(f"redraw {redraw} of {repeats}", file=sys.stderr)
        one = dataclasses.replace(config, data=dataclasses.replace(config.data, fold_seed=redraw))
        redraws.append(evaluate.read_scores(run(one, folds, make_data, workdir / f"redraw{redraw}")))
    path = workdir / "crossval" / config.data.corpus / "noise_floor.json"
    files.write_json(path, {"protocol": config.data.protocol} | spread(redraws))
    return path


def spread(redraws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How far the last stage's mean F1 varies between redraws of the folds.

    Args:
      redraws: merged scores of each, see `merge`.

    Returns:
      What the scores stand on, ``redraws`` (mean F1 of each, None where undefined), and for ``pooled`` and
      ``mean_of_folds`` over the redraws where it is defined: ``mean``, ``sd`` (n - 1) with its 95 % interval
      ``sd_low``, ``sd_high`` (chi-square, for normal scores), ``lowest``, ``highest``, ``range``, and
      ``difference`` = 1.96 sqrt(2) sd, which two single cross-validations that differ by chance alone
      exceed once in 20, with ``difference_low`` and ``difference_high`` from the interval of the sd.
    """
    first = redraws[0]["pooled"]
    stage = list(first["stages"])[-1]
    rule = evaluate.rules(first["stages"][stage])[-1]
    ways = ("pooled", "mean_of_folds")
    f1 = {way: [one[way]["stages"][stage][rule]["mean"]["f1"] for one in redraws] for way in ways}
    return {
        **{key: first[key] for key in _SAME if key != "protocol"},
        "stage": stage,
        "thresholds": rule,
        "folds": len(redraws[0]["folds"]),
        "redraws": [
            {"redraw": r, **{way: f1[way][r - 1] for way in ways}} for r in range(1, len(redraws) + 1)
        ],
        **{way: _spread([value for value in f1[way] if value is not None]) for way in ways},
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    n = len(values)
    if n < 2:
        return dict.fromkeys(_SPREAD)
    sd = float(np.std(values, ddof=1))
    low, high = (sd * float(np.sqrt((n - 1) / chi2.ppf(p, n - 1))) for p in (0.975, 0.025))
    differences = [1.96 * np.sqrt(2) * value for value in (sd, low, high)]
    numbers = (np.mean(values), sd, low, high, min(values), max(values), max(values) - min(values))
    return {key: float(value) for key, value in zip(_SPREAD, (*numbers, *differences), strict=True)}


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean over folds of what ``metrics.score`` returns, number by number where it is defined.

    Counts (positives, coded frames, subjects) are summed. ``folds`` says over how many folds each F1 is;
    the mean F1 is the mean of the folds' means. There are no intervals.
    """
    per_au = []
    for rows in zip(*(score["per_au"] for score in scores), strict=True):
        row: Score = {"au": rows[0]["au"], "threshold": None}
        for key in (*metrics.METRICS, "base_rate"):
            row[key] = _mean([one[key] for one in rows])
        row |= {key: sum(one[key] for one in rows) for key in ("positives", "coded", "subjects")}
        row |= {"f1_low": None, "f1_high": None, "folds": sum(one["f1"] is not None for one in rows)}
        per_au.append(row)
    result: Score = {"per_au": per_au, "folds": len(scores)}
    for name in ("mean", "bp4d_mean"):
        if name in scores[0]:
            result[name] = _mean_of_means([score[name] for score in scores])
    subjects = sum(score["subjects"] for score in scores)
    return result | {"subjects": subjects, "bootstrap": 0, "interval_note": None}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _mean_of_means(means: Sequence[Score]) -> Score:
    """An AU counts if its F1 is defined in any fold."""
    mean: Score = {}
    for key in metrics.METRICS:
        mean |= {key: _mean([one[key] for one in means]), f"{key}_low": None, f"{key}_high": None}
    nowhere = set.intersection(*(set(one["undefined"]) for one in means))
    total = means[0]["aus"] + len(means[0]["undefined"])
    mean |= {key: max(one[key] for one in means) for key in metrics.AU_COUNTS}
    return mean | {"aus": total - len(nowhere), "undefined": sorted(nowhere)}


def _mean_stage(stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    means = {rule: mean_score([stage[rule] for stage in stages]) for rule in evaluate.rules(stages[0])}
    return {"epoch": [stage["epoch"] for stage in stages], **means}


def _pool(evaluations: Sequence[Path], name: str) -> evaluate.Predictions:
    """Predictions of all folds, and the number of the fold (n,) from 0 of each."""
    found = [evaluate.read_predictions(evaluation, name) for evaluation in evaluations]
    pooled = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
    return pooled | {"fold": np.repeat(np.arange(len(found)), [len(one["subject"]) for one in found])}


def _pooled_stage(
    pooled: evaluate.Predictions, stages: Sequence[dict[str, Any]], aus: Sequence[int]
) -> dict[str, Any]:
    numbers: dict[str, Any] = {"epoch": [stage["epoch"] for stage in stages]}
    for rule in evaluate.rules(stages[0]):
        numbers[rule] = _score(pooled, _thresholds(pooled, stages, rule), aus)
    return numbers


def _thresholds(pooled: evaluate.Predictions, stages: Sequence[dict[str, Any]], rule: str) -> np.ndarray:
    """(n, k): of each frame those of the fold that it was tested in."""
    of_fold = np.array([[row["threshold"] for row in stage[rule]["per_au"]] for stage in stages])
    return of_fold[pooled["fold"]]


def _attributes(scores: Sequence[dict[str, Any]]) -> evaluate.Attributes:
    merged: evaluate.Attributes = {}
    for one in scores:
        for attribute, values in one["attributes"].items():
            for value, subjects in values.items():
                merged.setdefault(attribute, {}).setdefault(value, []).extend(subjects)
    return {attribute: dict(sorted(values.items())) for attribute, values in sorted(merged.items())}


def _pooled_baselines(evaluations: Sequence[Path], scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not scores[0]["baselines"]:
        return {}
    pooled, aus = _pool(evaluations, "pixels_logistic_regression"), scores[0]["aus"]
    return {
        "always_on": metrics.always_on(pooled["truth"], pooled["mask"], pooled["subject"], aus),
        "pixels_logistic_regression": _score(pooled, 0.5, aus),
    }


def _score(pooled: evaluate.Predictions, threshold: Any, aus: Sequence[int]) -> Score:
    arrays = pooled["probability"], pooled["truth"], pooled["mask"]
    return metrics.score(*arrays, threshold, pooled["subject"], aus)


def _subjects(scores: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    tested = [subject for one in scores for subject in one["subjects"]["test"]]
    twice = sorted({subject for subject in tested if tested.count(subject) > 1})
    if twice:
        raise ValueError(f"subjects {twice} are tested in more than one of the runs; give each fold once")
    return {"train": [], "inner": [], "test": sorted(tested)}


def _check_same(workdirs: Sequence[Path], scores: Sequence[dict[str, Any]]) -> None:
    first = workdirs[0]
    rule = "the folds of one cross-validation differ in nothing but the fold"
    for workdir, one in zip(workdirs, scores, strict=True):
        for key in _SAME:
            if one[key] != scores[0][key]:
                raise ValueError(
                    f"{workdir}: {key} is {one[key]!r}, but {scores[0][key]!r} in {first}; {rule}: delete "
                    "the folder that is wrong and run launch.crossval again"
                )
        if list(one["stages"]) != list(scores[0]["stages"]) or _config(workdir) != _config(first):
            raise ValueError(
                f"{workdir}: another configuration than {first}, or other stages are scored; {rule}: finish "
                "both with launch.crossval"
            )


def _config(workdir: Path) -> dict[str, Any]:
    config = files.read_json(workdir / "config.json")
    config["data"].pop("fold")
    return config
