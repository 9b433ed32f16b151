"""The same training on 1 and on 8 simulated devices, data parallel and with split parameters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxau import sharding
from jaxau.config import Stage


def _run(devices: int, folder: Path, *jobs: str) -> dict:
    flags = f"--xla_force_host_platform_device_count={devices}"
    if devices == 1:  # XLA's default scheduler on CPUs minds no memory; this one does, as on accelerators
        flags += " --xla_cpu_enable_concurrency_optimized_scheduler=false"
    script = Path(__file__).parent / "sharded_step.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *jobs],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def eight(folder):
    jobs = ("accumulate:1:2:parts", "constraint:1:constraint", "grouped:1:grouped")
    return _run(8, folder, "train:1:data", "train:4:fsdp", *jobs)


@pytest.fixture(scope="module")
def single(folder, eight):
    return _run(1, folder, "train:1:single", "open:1:fsdp:fsdp_on_one", "accumulate:1:6:parts")


@pytest.mark.parametrize(("form", "shards"), [("data", 1), ("fsdp", 4)])
def test_eight_devices_train_as_one(folder, eight, single, form, shards):
    many = eight[form]
    assert many["devices"] == 8 and many["shards"] == shards
    np.testing.assert_allclose(many["losses"], single["single"]["losses"], rtol=1e-5)
    got, want = np.load(folder / f"{form}.npz"), np.load(folder / "single.npz")
    assert set(got) == set(want) and len(got) > 20
    for path in want:
        bound = 1e-5 * np.abs(want[path]).max()
        np.testing.assert_allclose(got[path], want[path], rtol=0, atol=bound, err_msg=path)


def test_the_work_is_divided(eight, single):
    for form in ("data", "fsdp"):
        assert 8 * eight[form]["flops"] / single["single"]["flops"] <= 1.05, form


def test_data_parallel_steps_move_no_activations(eight):
    assert eight["data"]["moved"] == []
    assert eight["parts"]["moved"] == []  # each device takes its share of each part from its own examples


def test_a_batch_in_parts_needs_less_memory(eight, single):
    assert single["parts"]["memory"] < 0.6 * single["single"]["memory"]


def test_split_parameters_are_all_that_is_gathered(eight):
    moved, state = eight["fsdp"]["moved"], eight["fsdp"]["state"]
    assert {kind for kind, _ in moved} == {"all-gather"}
    assert {shape for _, shape in moved} <= set(state)
    assert not any(shape.startswith("[48") for shape in state)  # the batch: no parameter looks like it


@pytest.mark.parametrize("mistake", ["constraint", "grouped"])
def test_moved_activations_would_be_seen(eight, mistake):
    """A constraint that puts the batch on every device; a grouped convolution, whose batch XLA gathers."""
    [(kind, shape)] = eight[mistake]["moved"]
    assert kind == "all-gather" and shape.startswith("[48, ")


def test_a_checkpoint_of_eight_devices_opens_on_one_and_back(folder, eight, single):
    back = _run(8, folder, "open:4:fsdp_on_one:fsdp_again", "open:1:fsdp_on_one:data_again")
    assert single["fsdp_on_one"] == {"hash": eight["fsdp"]["hash"], "placed": True}
    assert back["fsdp_again"] == back["data_again"] == single["fsdp_on_one"]
    assert single["single"]["hash"] != eight["fsdp"]["hash"]  # rounding differs, so equality means something


def test_a_batch_must_split_evenly():
    mesh = sharding.make_mesh()
    n = mesh.size
    sharding.check_batch_size(Stage("frames", 1, 6 * n, accumulate=2), mesh, "config.stages.frames")
    message = rf"config.stages.frames.batch_size: {6 * n} is not a multiple of {n} devices x 4 parts"
    with pytest.raises(ValueError, match=message):
        sharding.check_batch_size(Stage("frames", 1, 6 * n, accumulate=4), mesh, "config.stages.frames")
    eight_devices = jax.sharding.AbstractMesh((8, 1), ("data", "fsdp"))
    with pytest.raises(ValueError, match=r"12 is not a multiple of 8 devices x 1 parts"):
        sharding.check_batch_size(Stage("frames", 1, 12), eight_devices, "config.stages.frames")
    with pytest.raises(ValueError, match=r"config.mesh.fsdp: 1000 does not divide the \d+ devices"):
        sharding.make_mesh(1000)
