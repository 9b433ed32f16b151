"""A run directory as training and evaluation leave it, made of simulated predictions."""

import json

import numpy as np
import pytest

from jaxau import facs, metrics

AUS = facs.CORPUS_AUS["bp4d"]


def simulate(rng, n_subjects, frames, skill):
    """Probabilities of a detector of some skill on subjects who differ in expressiveness."""
    k, n = len(AUS), n_subjects * frames
    subject = np.repeat(np.arange(n_subjects), frames)
    rate = np.clip(rng.beta(2, 6, (n_subjects, k)), 0.02, 0.9)[subject]
    truth = (rng.random((n, k)) < rate).astype(np.uint8)
    ease = np.linspace(1.3, 0.6, k)
    logit = skill * ease * (2.0 * truth - 1) + rng.normal(size=(n, k)) - 0.4
    logit += rng.normal(scale=0.5, size=(n_subjects, k))[subject]
    return 1 / (1 + np.exp(-logit)), truth, subject


def write_run(workdir, synthetic=True, undefined=None, n_subjects=16, frames=60, steps=120):
    """Write metrics.jsonl, model.json and predictions of both stages, and scores.json; return scores."""
    rng = np.random.default_rng(0)
    evaluation = workdir / "eval" / "synthetic"
    evaluation.mkdir(parents=True)
    scores = {
        "corpus": "synthetic",
        "synthetic": synthetic,
        "trained_on": "synthetic faces (tier small, seed 0)" if synthetic else "BP4D",
        "protocol": "synthetic-3fold",
        "fold": 1,
        "frames": "all",
        "selection": "honest",
        "manifest_hash": "6f1d5b0c9a7e42d18f3b",
        "aus": list(AUS),
        "subjects": {
            part: [f"s{i:03d}" for i in range(*span)]
            for part, span in {"train": (0, 41), "inner": (41, 51), "test": (51, 67)}.items()
        },
        "stages": {},
        "baselines": {},
    }
    lines = []
    for stage, skill, epochs in (("frames", 1.1, 8), ("clips", 1.15, 4)):
        rng = np.random.default_rng(5)
        probability, truth, subject = simulate(rng, n_subjects, frames, skill)
        if undefined is not None:
            truth[:, AUS.index(undefined)] = 0
        mask = rng.random(truth.shape) < 0.95
        inner = simulate(np.random.default_rng(6), 10, frames, skill)
        thresholds = metrics.best_thresholds(inner[0], inner[1], np.ones_like(inner[1])).value
        scores["stages"][stage] = {"epoch": epochs - 2} | {
            name: metrics.score(probability, truth, mask, threshold, subject, AUS, 200)
            for name, threshold in (("at_half", 0.5), ("honest", thresholds))
        }
        np.savez(
            evaluation / f"{stage}_predictions.npz",
            **{"probability": probability, "truth": truth, "mask": mask, "subject": subject},
            **{key: np.arange(len(subject)) for key in ("video", "frame", "record")},
        )
        folder = workdir / stage / "model"
        folder.mkdir(parents=True)
        model = {
            "network": "lac", "stage": stage, "aus": list(AUS), "thresholds": thresholds.tolist(),
            "threshold_source": "inner subjects", "selection": "honest",
            "alignment": "jaa256", "image_size": 96,
            "clip_length": 16 if stage == "clips" else 0, "trained_on": scores["trained_on"],
            "synthetic": synthetic, "corpus": "synthetic", "protocol": "synthetic-3fold", "fold": 1,
            "manifest_hash": scores["manifest_hash"],
            "licence": "none needed: rendered" if synthetic else "research only",
            "epoch": epochs - 2, "config": {}, "versions": {"jaxau": "0.1.0", "jax": "0.10.2"},
            "hash": "3a" * 32,
        }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(model))
        for step in range(0, steps, 5):
            decay = np.exp(-step / (0.3 * steps)) + 0.05 * rng.normal()
            terms = {"loc": -1 - 0.5 * (1 - decay), "act": 0.6 * decay, "l2g": 0.2 * decay + 0.02}
            row = {"stage": stage, "step": step, "epoch": step * epochs // steps, "loss": 0.4 + decay}
            lines.append(row | terms | {"dwa": 0.3 + 0.4 * decay, "lr": 1e-3, "examples_per_s": 210.0})
        for epoch in range(epochs):
            f1 = 0.62 * (1 - np.exp(-(epoch + 1) / 2)) - 0.01 * max(0, epoch - epochs + 2)
            step = (epoch + 1) * steps // epochs
            lines.append({"stage": stage, "epoch": epoch, "step": step, "inner/f1": f1})
    scores["baselines"]["always_on"] = metrics.always_on(truth, mask, subject, AUS, 200)
    pixels = 1 / (1 + np.exp(-(0.5 * (2.0 * truth - 1) + np.random.default_rng(1).normal(size=truth.shape))))
    scores["baselines"]["pixels_logistic_regression"] = metrics.score(
        pixels, truth, mask, 0.5, subject, AUS, 200
    )
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (evaluation / "scores.json").write_text(json.dumps(scores))
    return scores


def make_examples(n=3, size=48, seconds=4.0):
    """Pictures and a video timeline of the shapes that a demo passes."""
    rng = np.random.default_rng(0)
    k, t = len(AUS), round(seconds * 25)
    truth = rng.integers(0, 2, (n, k))
    attention = rng.uniform(-0.3, 0.1, (n, 6, 6, k))
    for column in range(k):
        attention[:, column % 6, 1:5, column] += 0.6 * truth[:, column, None]
    time = np.arange(t) / 25
    occurrence = (np.sin(time[:, None] * np.linspace(0.8, 2.5, k) + np.arange(k)) > 0.4).astype(int)
    noise = np.cumsum(rng.normal(size=(t, k)), axis=0) / np.sqrt(t)
    return {
        "localisation": {
            "images": rng.integers(0, 255, (n, size, size, 3), dtype=np.uint8),
            "attention": attention,
            "aus": list(AUS),
            "probability": np.clip(0.7 * truth + 0.3 * rng.random((n, k)), 0, 1),
            "truth": truth,
        },
        "video": {
            "title": "Subject s070, in no part of the corpus; landmarks from the generator.",
            "timestamp": time,
            "probability": 1 / (1 + np.exp(-(4 * occurrence - 2 + noise))),
            "truth": occurrence,
            "aus": list(AUS),
            "frames": rng.integers(0, 255, (8, size, size, 3), dtype=np.uint8),
            "frame_timestamp": (np.arange(8) + 0.5) * seconds / 8,
        },
        "contact_sheet": rng.integers(0, 255, (96, 192, 3), dtype=np.uint8),
        "wall_time": {"render": 62.1, "train frames": 181.4, "train clips": 95.0, "evaluate": 21.7},
        "commands": {"Train on your own data": "python -m launch.train --config=configs/lac.py:bp4d,fold=1"},
    }


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """(workdir, scores) of a run on synthetic faces; read only."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, write_run(workdir)


@pytest.fixture
def examples():
    return make_examples()


@pytest.fixture(scope="session")
def build_run():
    return write_run


@pytest.fixture(scope="session")
def build_examples():
    return make_examples
