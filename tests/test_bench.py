"""``launch.bench`` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "--config=configs/lac.py:synthetic,stages=frames",
    "--config.data.image_size=32",
    "--config.stages.frames.augment.resize_to=36",
    "--config.network.stage_sizes=(1,)",
    "--config.network.widths=(8,)",
    "--config.network.features=8",
)


def _bench(*arguments, env=None):
    command = [sys.executable, "-m", "launch.bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)


def test_json_is_all_that_stands_on_standard_output(tiny_faces, tmp_path):
    run = ("--nosteps", "--loader", f"--data_dir={tiny_faces}", "--repeats=2", "--seconds=0.2", "--json")
    done = _bench(*run, *SMALL, f"--out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    row = found["sections"]["loader"]["rows"][0]
    assert row["frames_per_second"]["median"] > 0 and row["stall_share"]["n"] == 2
    written = list((tmp_path / "out").iterdir())
    assert sorted(path.suffix for path in written) == [".json", ".md"]
    page = next(path for path in written if path.suffix == ".md").read_text()
    assert "## Input pipeline" in page and "on synthetic faces" in page
    assert str(tiny_faces.parent) not in page + done.stdout  # of folders, only the last name
    assert f"--data_dir={tiny_faces.name}" in page
    stored = json.loads(next(path for path in written if path.suffix == ".json").read_text())
    assert stored == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks=lax"], "--networks ['lax']: choose from ['aar', 'aunet'"),
        (["--nosteps"], "nothing to measure"),
        (["--nosteps", "--loader"], "--loader without --data_dir"),
        (["--nosteps", "--predict", "--video=a.mp4"], "one of --landmarks and --detector_weights"),
        (["--against=jax"], "--against"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path):
    done = _bench(*arguments, f"--out={tmp_path}")
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    assert not list(tmp_path.iterdir())


def test_without_torch_the_extra_is_named(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = _bench("--against=torch", f"--out={tmp_path}/out", env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1 and "in the extra parity" in done.stderr and "Traceback" not in done.stderr
