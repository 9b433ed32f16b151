"""The launchers as a user types them: mistakes end in one line and status 1."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _launch(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.stages.clips.optim.lrr=1", "config.stages.clips.optim.lrr: unknown field, did you mean"),
        ("--config.stages.clisp.optim.lr=1", 'Did you mean "clips" instead of "clisp"?'),
        ("--config.data.aus=(1,3)", "AU [3]: not among the known AUs"),
        ("--config.network.feature=3", "config.network.feature: unknown field, did you mean 'features'?"),
        ("--config.data.protocol=synthetic-4fold", "synthetic-4fold"),
        ("--config.data.alignment=jaa200", "was aligned as 'jaa256'"),
        ("--config.data.fold=4", "fold"),
        ("--config.stages.frames.optim.lr=fast", "could not convert string to float"),
    ],
)  # fmt: skip
def test_train_refuses(tiny_faces, tmp_path, override, message):
    flags = ("--config=configs/lac.py:synthetic", f"--data_dir={tiny_faces}", f"--workdir={tmp_path}")
    done = _launch("launch.train", *flags, override)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_train_names_a_missing_data_set(tmp_path):
    done = _launch(
        "launch.train",
        "--config=configs/lac.py:synthetic",
        f"--data_dir={tmp_path}",
        f"--workdir={tmp_path}/w",
    )
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr and "launch.prepare --corpus=synthetic" in done.stderr


def test_evaluate_names_a_missing_run(tmp_path):
    done = _launch("launch.evaluate", f"--workdir={tmp_path}/nothing", f"--data_dir={tmp_path}")
    assert done.returncode == 1 and "no finished model" in done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/lac.py:synthetic,fold=abc", "fold=abc is no number; folds are counted from 1"),
        ("configs/lac.py:bp5d", "give one of ['bp4d', 'disfa', 'synthetic']"),
        ("configs/lax.py", "configs/lax.py"),
    ],
)
def test_a_wrong_config_is_one_line(tmp_path, config, message):
    done = _launch("launch.train", f"--config={config}", f"--data_dir={tmp_path}", f"--workdir={tmp_path}/w")
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr


def test_required_flags_are_named():
    done = _launch("launch.train", "--config=configs/lac.py:synthetic")
    assert done.returncode == 1 and "data_dir" in done.stderr


@pytest.mark.parametrize("launcher", ["launch.train", "launch.crossval"])
def test_a_missing_config_is_one_line(tmp_path, launcher):
    done = _launch(launcher, f"--data_dir={tmp_path}", f"--workdir={tmp_path}/w")
    assert done.returncode == 1 and "--config must have a value" in done.stderr
    assert "Traceback" not in done.stderr
