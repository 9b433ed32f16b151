"""Fixtures of the tests of prediction."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for prediction_kit

import prediction_kit as kit  # noqa: E402

import jaxau.predict  # noqa: E402
from jaxau import cli  # noqa: E402
from jaxau.faces.video import write_video  # noqa: E402


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """The command with a fake checkpoint; returns its exit status and standard error."""

    def command(*arguments: object, clip_length: int = 0) -> tuple[int, str]:
        monkeypatch.setattr(jaxau.predict, "load_model", lambda path: kit.fake_model(clip_length))
        common = ["--checkpoint", "fake", "--out", str(tmp_path / "out")]
        status = cli.main(["predict", *map(str, arguments), *common])
        captured = capfd.readouterr()
        assert captured.out == ""
        return status, captured.err

    return command


@pytest.fixture
def small_video(tmp_path):
    """20 frames; landmarks of one face in all but frames 6, 7 and 19."""
    write_video(tmp_path / "a.mp4", [kit.picture(i) for i in range(20)], fps=10)
    with_face = [i for i in range(20) if i not in (6, 7, 19)]
    return tmp_path / "a.mp4", kit.write_landmarks(tmp_path / "l.csv", kit.landmark_rows("a.mp4", with_face))
