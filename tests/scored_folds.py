"""Three folds as training and evaluation leave them, made of simulated predictions."""

import json
from pathlib import Path

import numpy as np

from jaxau import files, metrics

AUS = (1, 4, 12, 26)
FOLDS, SUBJECTS, FRAMES = 3, 5, 40


def predictions(fold: int) -> dict[str, np.ndarray]:
    """Of the fold's test subjects; AU 26 never occurs in fold 2, AU 4 in none."""
    rng = np.random.default_rng(fold)
    n = SUBJECTS * FRAMES
    truth = (rng.random((n, len(AUS))) < 0.3).astype(np.int32)
    truth[:, 1] = 0
    if fold == 2:
        truth[:, 3] = 0
    return {
        "probability": np.clip(0.25 + 0.3 * truth + 0.3 * rng.normal(size=truth.shape), 0, 1),
        "truth": truth,
        "mask": rng.random(truth.shape) < 0.9,
        "subject": (fold - 1) * SUBJECTS + np.arange(n) // FRAMES,
        "video": np.zeros(n, int),
        "frame": np.arange(n),
        "record": np.arange(n),
    }


def thresholds(fold: int) -> np.ndarray:
    """(k,) that the fold chose on its inner subjects."""
    return np.array([0.3, 0.4, 0.5, 0.6]) + 0.05 * fold


def write_folds(folder: Path) -> list[Path]:
    """Write ``fold1`` to ``fold3`` below ``folder`` and return their paths."""
    return [_write_fold(folder / f"fold{fold}", fold) for fold in range(1, FOLDS + 1)]


def _write_fold(workdir: Path, fold: int) -> Path:
    found = predictions(fold)
    arrays = (found["probability"], found["truth"], found["mask"])
    subject = found["subject"]
    half, honest = (metrics.score(*arrays, t, subject, AUS, 50) for t in (0.5, thresholds(fold)))
    scores = {
        "corpus": "synthetic", "synthetic": True, "trained_on": "synthetic faces", "fold": fold,
        "protocol": "synthetic-3fold", "frames": "all", "selection": "honest", "aus": list(AUS),
        "manifest_hash": "6f1d5b0c9a7e42d1",
        "subjects": {"train": [], "inner": [], "test": [f"S{i:03d}" for i in np.unique(subject)]},
        "attributes": {"sex": {"female": np.unique(subject)[::2].tolist()}},
        "stages": {"frames": {"epoch": 4 + fold, "at_half": half, "honest": honest}},
        "baselines": {
            "always_on": metrics.always_on(*arrays[1:], subject, AUS, 50),
            "pixels_logistic_regression": half,
        },
    }  # fmt: skip
    folder = workdir / "eval" / "synthetic"
    files.write_json(folder / "scores.json", scores)
    for name in ("frames", "pixels_logistic_regression"):
        np.savez(folder / f"{name}_predictions.npz", **found)
    (workdir / "config.json").write_text(json.dumps({"name": "lac", "data": {"fold": fold}}))
    return workdir
