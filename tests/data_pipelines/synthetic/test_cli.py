"""The ``jaxau-faces`` command."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipelines.synthetic import Person, render
from data_pipelines.synthetic.cli import main, parse_aus


def test_draw_writes_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "face.png"
    arguments = ["draw", "--person", "3", "--au", "12=4,6=3", "--yaw", "10", "--size", "96"]
    assert main([*arguments, "--out", str(out)]) == 0
    written = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(written, render(Person(3), {12: 4, 6: 3}, yaw=10, size=96))


def test_sheet_shows_all_expressions(tmp_path: Path) -> None:
    out = tmp_path / "sheet.jpg"
    assert main(["sheet", "--people", "1", "--size", "32", "--out", str(out)]) == 0
    assert cv2.imread(str(out)).shape == (11 * 32, 3 * 32, 3)  # 1 + 25 + 5 expressions


def test_clip_and_nuisance_are_drawn(tmp_path: Path) -> None:
    for command, shape in (("clip", (3 * 32, 10 * 32, 3)), ("nuisance", (4 * 32, 6 * 32, 3))):
        out = tmp_path / f"{command}.png"
        assert main([command, "--size", "32", "--out", str(out)]) == 0
        assert cv2.imread(str(out)).shape == shape


def test_the_ladder_of_a_stream_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ladder", "--tier", "large"]) == 2
    assert "--tier large" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--au", "12:4"], "NUMBER=INTENSITY"),
        (["--au", "12=4,12=3"], "named twice"),
        (["--au", "3=1"], "AU 3"),
        (["--au", "12=nan"], "AU 12 = nan"),
        (["--size", "4"], "--size 4"),
        (["--yaw", "120"], "--yaw 120"),
        (["--person", "-2"], "seed -2"),
        (["--out", "face.gif"], "must end in"),
    ],
)
def test_wrong_requests_are_explained(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "face.png"
    assert main(["draw", "--out", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "nowhere" / "face.png"
    assert main(["draw", "--size", "32", "--out", str(out)]) == 1
    assert "could not be written" in capsys.readouterr().err


def test_no_action_units_is_a_neutral_face() -> None:
    assert parse_aus("") == {}
    assert parse_aus(" 12=4, 6=2.5") == {12: 4.0, 6: 2.5}
