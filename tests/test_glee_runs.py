"""Runs of GLEE-Net: the siamese start, what is frozen, expressions from records, killed and resumed."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from small_run import small_glee_config

from data_pipelines.expressions import FILE, fit_records
from data_pipelines.loader import make_data
from jaxau import checkpoint, evaluate, models, train, weights
from jaxau.config import Config

STAGES = ("identity", "triplets", "frames")


@pytest.fixture(scope="module")
def data_dir(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the faces, with their expressions."""
    folder = tmp_path_factory.mktemp("glee") / "data"
    shutil.copytree(tiny_faces, folder)
    assert fit_records(folder, "synthetic")["fitted"] > 400  # of 432
    return folder


@pytest.fixture(scope="module")
def finished(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    make = partial(make_data, data_dir=data_dir)
    train.run(small_glee_config(), make, workdir)
    evaluate.run(workdir, make)
    return workdir


def test_batches_hold_expressions_of_their_faces(data_dir: Path) -> None:
    data = make_data(small_glee_config(), data_dir, threads=0)
    assert "expression" not in next(data.train("identity"))
    stored = np.load(data_dir / "synthetic" / FILE)
    batch = next(data.evaluate("frames", "test", 16))
    assert batch["expression"].shape == (16, 51) and batch["expression_mask"].all()
    np.testing.assert_array_equal(batch["expression"], stored[batch["record"], 0])
    drawn = next(data.train("frames"))
    straight, turned = ((drawn["expression"] == stored[drawn["record"], side]).all(-1) for side in (0, 1))
    assert (straight ^ turned).all() and straight.any() and turned.any()  # some are mirrored


def test_a_data_set_without_expressions_is_refused(tiny_faces: Path) -> None:
    data = make_data(small_glee_config(), tiny_faces, threads=0)
    with pytest.raises(ValueError, match="--fit_3dmm"):
        next(data.train("frames"))


def _fresh(config: Config, stage: str) -> train.TrainState:
    batch = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), models.first_batch(config, stage))
    given, _ = models.arguments(models.role(config, stage), batch, train=False)
    variables = jax.jit(models.create(config, stage).init)(jax.random.key(0), *given)
    return train.TrainState(
        step=jnp.int32(0), opt_state={}, ema_params={}, loss_state={}, rng=jax.random.key(0), **variables
    )


def test_the_face_model_begins_as_the_identity_model_but_for_batch_norm(finished: Path) -> None:
    config = small_glee_config()
    state = _fresh(config, "triplets")
    state = weights.hand_on(state, finished / "identity")
    begun = flatten_dict(weights.begin_siamese(state, config, finished / "identity").params)
    known = flatten_dict(checkpoint.load_model(finished / "identity").variables["params"])
    for path, leaf in begun.items():
        if path[0] != "face":
            continue
        other = np.asarray(known["identity", *path[1:]])
        if path[-2] in ("bn", "last_bn"):
            np.testing.assert_array_equal(leaf, 1.0 if path[-1] == "scale" else 0.0)
        else:
            np.testing.assert_array_equal(leaf, other)
    # Later stages keep the face model that they are handed.
    state = weights.hand_on(_fresh(config, "frames"), finished / "triplets")
    kept = weights.begin_siamese(state, config, finished / "triplets").params["face"]
    jax.tree.map(np.testing.assert_array_equal, kept, state.params["face"])


def test_the_identity_model_never_changes_after_its_stage(finished: Path) -> None:
    found = [checkpoint.load_model(finished / stage).variables for stage in STAGES]
    for kind in ("params", "batch_stats"):
        for model in found[1:]:
            later, first = flatten_dict(model[kind]["identity"]), flatten_dict(found[0][kind]["identity"])
            for path, leaf in later.items():
                np.testing.assert_array_equal(leaf, first[path])
    assert "logits" in found[0]["params"]["identity"] and "logits" not in found[1]["params"]["identity"]


def test_scores_and_what_the_checkpoint_says(finished: Path) -> None:
    found = evaluate.read_scores(finished / "eval" / "synthetic")
    assert set(found["stages"]) == {"frames"}
    info = checkpoint.load_model(finished / "frames").info
    assert info["face_model"] == "built-in" and info["inputs"] == ["image", "expression", "expression_mask"]
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == set(STAGES)


@pytest.mark.slow
def test_killed_in_each_stage_gives_the_same_bits(data_dir: Path, finished: Path, tmp_path: Path) -> None:
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(data_dir), str(tmp_path)]
    events = ["batch:4", "model", "batch:4", "model", "term:4", "none"]
    codes = [subprocess.run([*child, event, "glee"], capture_output=True).returncode for event in events]
    assert codes == [-9, -9, -9, -9, 143, 0]
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    for stage in STAGES:
        got, want = (checkpoint.load_model(run / stage).info for run in (tmp_path, finished))
        assert got == want  # with a hash over all parameters
