"""FAN in the one loop: it finds the landmarks of unseen subjects, resumes bit for bit, and is scored."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from small_run import small_fan_config

from configs.fan import get_config
from data_pipelines.loader import make_data
from jaxau import checkpoint, evaluate, models, sharding, train
from jaxau.config import from_dict
from jaxau.report import tables
from jaxau.report.landmarks import landmark_sheet


@pytest.fixture(scope="module")
def finished(tiny_faces, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("fan")
    train.run(small_fan_config(), partial(make_data, data_dir=tiny_faces), workdir)
    return workdir


def _log(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _error_at_the_start(config, data) -> float:
    """NME of random parameters on the test subjects."""
    network, loss = models.create(config, "landmarks"), models.create_loss(config, "landmarks")
    side = config.data.image_size
    variables = jax.jit(network.init)(jax.random.key(0), np.zeros((1, side, side, 3), np.uint8))
    role, mesh = models.role(config, "landmarks"), sharding.make_mesh(1)
    step, batches = evaluate.make_terms_step(network, loss, role), data.evaluate("landmarks", "test", 16)
    return evaluate.mean_terms(step, variables, loss.init({}), batches, mesh)["nme"]


def test_a_short_run_finds_landmarks_of_unseen_subjects(tiny_faces, finished, tmp_path):
    lines = _log(finished)
    steps = [line for line in lines if "loss" in line]
    assert np.mean([line["loss"] for line in steps[-5:]]) < 0.6 * steps[0]["loss"]
    epochs = {line["epoch"]: line["inner/nme"] for line in lines if "inner/nme" in line}
    assert len(epochs) == small_fan_config().stages["landmarks"].epochs
    chosen = checkpoint.load_model(finished / "landmarks").info["epoch"]
    assert epochs[chosen] == min(epochs.values())
    scores = evaluate.read_scores(evaluate.run(finished, partial(make_data, data_dir=tiny_faces)))
    terms = scores["other_stages"]["landmarks"]["terms"]
    assert terms["loss"] == terms["heatmaps"]
    assert terms["nme"] < steps[0]["nme"] / 4  # of random parameters
    tables.write_tables(scores, tmp_path)
    for text in (tables.print_summary(scores), (tmp_path / "scores.md").read_text()):
        assert f"Stage landmarks, epoch {chosen} (synthetic), means over the test subjects: heatmaps" in text
        assert f"nme {terms['nme']:.4g}" in text


def test_a_sheet_shows_true_and_found_landmarks(tiny_faces, finished):
    sheet, errors = landmark_sheet(finished, partial(make_data, data_dir=tiny_faces), faces=3, columns=2)
    assert sheet.shape == (512, 512, 3) and (sheet[256:, 256:] == 255).all()  # the fourth place is empty
    assert errors.shape == (3,) and (0 < errors).all() and (errors < 1).all()
    for color in ((0, 158, 115), (230, 60, 60)):
        there = (sheet == color).all(-1)
        assert all(part.any() for part in (there[:256, :256], there[:256, 256:], there[256:, :256]))


def test_killed_and_resumed_it_has_the_same_bits(tiny_faces, finished, tmp_path):
    script = Path(__file__).parents[1] / "small_run.py"
    child = [sys.executable, str(script), str(tiny_faces), str(tmp_path / "run")]
    # What the first compiles, the second reads.
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    codes = [
        subprocess.run([*child, event, "fan"], env=environment, capture_output=True).returncode
        for event in ("batch:9", "none")
    ]
    assert codes == [-9, 0]
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    got, want = (checkpoint.load_model(run / "landmarks").info for run in (tmp_path / "run", finished))
    assert got == want  # includes a hash over all parameters


@pytest.mark.slow
def test_the_configuration_for_synthetic_faces_learns(tiny_faces, tmp_path):
    """`configs/fan.py:synthetic` itself, shortened: the error of unseen subjects falls to a fifth or less."""
    make, config = partial(make_data, data_dir=tiny_faces), from_dict(get_config("synthetic").to_dict())
    stage = dataclasses.replace(config.stages["landmarks"], max_steps=100)
    data = dataclasses.replace(config.data, alignment="jaa256")
    config = dataclasses.replace(config, data=data, stages={"landmarks": stage})
    train.run(config, make, tmp_path)
    scores = evaluate.read_scores(evaluate.run(tmp_path, make))
    start = _error_at_the_start(config, make(config))
    assert scores["other_stages"]["landmarks"]["terms"]["nme"] < start / 5
