"""The same training on 1 and on 8 simulated devices, data parallel and with split parameters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxau import sharding


def _steps(devices: int, fsdp: int) -> dict:
    flags = f"--xla_force_host_platform_device_count={devices}"
    script = Path(__file__).parent / "sharded_step.py"
    done = subprocess.run(
        [sys.executable, str(script), str(fsdp)],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def single():
    return _steps(1, 1)


@pytest.mark.parametrize("fsdp", [1, 4])
def test_eight_devices_train_as_one(single, fsdp):
    many = _steps(8, fsdp)
    assert many["devices"] == 8 and many["shards"] == fsdp
    np.testing.assert_allclose(many["losses"], single["losses"], rtol=1e-5)
    np.testing.assert_allclose(many["checksums"], single["checksums"], rtol=1e-4)


def test_a_batch_must_split_evenly():
    mesh = sharding.make_mesh()
    sharding.check_batch_size(mesh.size * 3, mesh, "config.stages.frames.batch_size")
    with pytest.raises(ValueError, match=r"config.mesh.fsdp: 1000 does not divide the \d+ devices"):
        sharding.make_mesh(1000)
