import json

import pytest
from prediction_kit import fake_model

import jaxau.checkpoint
from jaxau import cli


def test_info_of_a_network_is_one_json_object(capsys):
    assert cli.main(["info", "lac", "--aus=12", "--json"]) == 0
    captured = capsys.readouterr()
    info = json.loads(captured.out)
    assert set(info) == {"network", "parameters", "trainable_parameters", "macs", "input"}
    assert info["network"] == "lac" and info["parameters"] > 20e6 and info["macs"] > 1e9
    assert captured.err == ""
    assert cli.main(["info", "lac", "--aus=8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] < info["parameters"]


def test_info_of_a_network_to_read(capsys):
    assert cli.main(["info", "lac"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["network"] == "lac" and "," in lines["parameters"]


def test_info_of_a_checkpoint(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(jaxau.checkpoint, "read_info", lambda path: fake_model().info)
    assert cli.main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fake_model().info
    assert cli.main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for words in ("synthetic faces (test)", "jaa256", "Apache-2.0", "[0.5, 0.4, 0.6]", "[1, 12, 25]"):
        assert words in said


def test_errors_are_one_line_without_traceback(capsys, tmp_path):
    assert cli.main(["info", "lca"]) == 1
    captured = capsys.readouterr()
    assert "'lca': neither a network (" in captured.err and captured.out == ""
    assert cli.main(["info", "lac", "--aus=0", "--json"]) == 1
    assert "0 AUs: give between 1" in capsys.readouterr().err
    assert cli.main(["info", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict"])
    assert stopped.value.code == 2
