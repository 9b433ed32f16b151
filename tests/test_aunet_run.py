"""AUNet's stages as runs: killed in each they give the same bits; what is frozen and handed on."""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from small_run import small_aunet_config, small_windows_config

from data_pipelines.loader import make_data
from jaxau import checkpoint, evaluate, metrics, train, weights
from jaxau.report import paper_figures


@pytest.fixture(scope="module")
def finished(tiny_faces, tmp_path_factory):
    """An uninterrupted run of all stages, scored."""
    workdir = tmp_path_factory.mktemp("run")
    open_data = partial(make_data, data_dir=tiny_faces)
    train.run(small_aunet_config(), open_data, workdir)
    evaluate.run(workdir, open_data)
    return workdir


def test_killed_in_every_stage_gives_the_same_bits(tiny_faces, finished, tmp_path):
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(tiny_faces), str(tmp_path)]
    # In labels, in flow, while a checkpoint of flow is written, in tuples.
    events = ["batch:6", "batch:9", "save:1", "term:5", "none"]
    codes = [subprocess.run([*child, event, "aunet"], capture_output=True).returncode for event in events]
    assert codes == [-9, -9, -9, 143, 0]
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    for stage in ("labels", "flow", "tuples"):
        got, want = (checkpoint.load_model(run / stage).info for run in (tmp_path, finished))
        assert got == want  # includes a hash over all parameters, and the thresholds


def test_the_auto_encoder_learns_and_is_then_frozen(finished):
    models = {
        stage: checkpoint.load_model(finished / stage).variables for stage in ("labels", "flow", "tuples")
    }
    learned = models["labels"]["params"]["vae"]
    assert set(models["labels"]["params"]) == {"vae"} and set(learned) == {"synthetic"}
    for stage in ("flow", "tuples"):
        same = jax.tree.map(lambda a, b: bool((a == b).all()), learned, models[stage]["params"]["vae"])
        assert all(jax.tree.leaves(same))
    assert models["flow"]["params"]["head"]["conv1x1_diff"]["kernel"].shape[2] == 4
    assert models["tuples"]["params"]["head"]["conv1x1_diff"]["kernel"].shape[2] == 8


def test_scores_of_all_stages(finished):
    scores = evaluate.read_scores(finished / "eval" / "synthetic")
    assert list(scores["stages"]) == ["flow", "tuples"]
    terms = scores["other_stages"]["labels"]["terms"]
    assert terms["loss"] == pytest.approx(terms["reconstruction"] + 0.3 * terms["divergence"], rel=1e-5)
    # Over test subjects, without noise: what the network and the loss make of all their labels at once.
    assert 0 < terms["reconstruction"] < 4 * np.log(2) * 1.2


def test_windows_learn_and_killed_in_them_give_the_same_bits(tiny_faces, tmp_path):
    """The stage before tuples in which consecutive frames share the FAN."""
    open_data, whole, killed = partial(make_data, data_dir=tiny_faces), tmp_path / "a", tmp_path / "b"
    train.run(small_windows_config(), open_data, whole)
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(tiny_faces), str(killed)]
    assert subprocess.run([*child, "batch:18", "windows"], capture_output=True).returncode == -9
    assert not (killed / "windows" / "model").exists()
    train.run(small_windows_config(), open_data, killed)
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    for stage in ("windows", "tuples"):
        got, want = (checkpoint.load_model(run / stage).info for run in (killed, whole))
        assert got == want

    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    learned = [line["detection"] for line in lines if line["stage"] == "windows" and "detection" in line]
    assert len(learned) == 20 and np.mean(learned[-5:]) < 0.9 * np.mean(learned[:5])
    windows, tuples = (
        checkpoint.load_model(whole / stage).variables["params"]["head"]["conv1x1"]["kernel"]
        for stage in ("windows", "tuples")
    )
    assert 0 < np.abs(windows - tuples).max() < 0.01  # tuples go on from there, three steps
    scored = {line["stage"] for line in lines if 0 < line.get("inner/f1", 0) < 1}
    assert scored == {"windows", "tuples"}


def test_figures_of_a_run(tiny_faces, finished):
    """Figs. 8 and 10: correlations and the time course are those of the stored predictions."""
    open_data = partial(make_data, data_dir=tiny_faces)
    found = evaluate.read_predictions(finished / "eval" / "synthetic", "tuples")
    matrices, _ = paper_figures.DRAW["predicted relations"]({"AUNet": finished}, open_data).values()
    aus = small_aunet_config().data.aus
    wanted = metrics.adjacency(found["truth"], found["mask"])
    shown = [text.get_text() for text in matrices.axes[0].texts]
    for text, value in zip(shown, wanted.ravel(), strict=True):
        assert text == ("–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("0.", "."))
    (timeline,) = paper_figures.DRAW["timeline"]({"AUNet": finished}, open_data).values()
    assert len(timeline.axes) == len(aus)
    drawn = timeline.axes[0].lines[-1].get_ydata()  # of the first AU over one video
    videos = {(s, v) for s, v in zip(found["subject"], found["video"], strict=True)}
    rows = [np.flatnonzero((found["subject"] == s) & (found["video"] == v)) for s, v in videos]
    assert any(np.array_equal(drawn, found["probability"][of, 0]) for of in rows)


def test_a_run_on_other_aus_starts_from_it(tiny_faces, finished, tmp_path):
    """As DISFA's from BP4D's: heads matched by AU, the labels' auto-encoder its own."""
    config = small_aunet_config()
    stages = {
        name: dataclasses.replace(stage, max_steps=1, optim=dataclasses.replace(stage.optim, lr=1e-12))
        for name, stage in config.stages.items()
        if name != "flow"
    }
    data = dataclasses.replace(config.data, aus=(12, 2, 1))
    config = dataclasses.replace(config, data=data, stages=stages, finetune=str(finished))
    assert weights.left_random(config) == []
    train.run(config, partial(make_data, data_dir=tiny_faces), tmp_path)
    old, new = (checkpoint.load_model(run).variables["params"] for run in (finished, tmp_path))
    head, given = (params["head"]["predictor_3"]["kernel"] for params in (new, old))
    np.testing.assert_allclose(head[:, [0, 2]], given[:, [2, 0]], atol=1e-6)
    for of in ("trunk",):
        close = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-6), old[of], new[of])
        assert all(jax.tree.leaves(close))
    assert new["vae"]["synthetic"]["fc1"]["kernel"].shape[0] == 3


def test_a_random_fan_is_said_loudly(capsys):
    config = small_aunet_config()
    assert weights.left_random(config) == []  # a ResNet learns
    fields = {"width": 16, "hourglasses": 1}
    stages = {
        name: dataclasses.replace(stage, trainable=("head",) if name == "tuples" else ())
        for name, stage in config.stages.items()
        if name != "flow"
    }
    data = dataclasses.replace(config.data, image_size=64)
    config = dataclasses.replace(config, data=data, stages=stages, network=fields)
    weights.check(config)
    assert "WARNING: fan is random and no stage trains it: give config.weights.fan" in capsys.readouterr().err
    assert weights.fitting(config, {"fan": "a", "trunk": "b"}) == {"fan": "a"}
