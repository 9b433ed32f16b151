"""Files that others may find at any moment."""

import subprocess
import sys

import pytest

from jaxau import files


def test_json_comes_back_and_damage_is_named(tmp_path):
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"a": [1, None]})
    assert files.read_json(path) == {"a": [1, None]}
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]
    for content in ("", '{"a": [1'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"a.json: damaged .*; restore it"):
            files.read_json(path)


def test_one_process_at_a_time_and_the_dead_hold_nothing(tmp_path):
    program = (
        "import sys, pathlib; from jaxau import files\n"
        "with files.exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"another process is working here .process {other.pid}."):
        with files.exclusive(tmp_path):
            pass
    other.kill()
    other.wait()
    with files.exclusive(tmp_path):
        pass
    with files.exclusive(tmp_path):  # and again, when released
        pass
