"""The loop: resumes bit for bit, stops on request and on NaN, hands parameters on, freezes, selects."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import numpy as np
import pytest
from small_run import small_config

from data_pipelines.loader import make_data
from jaxau import checkpoint, evaluate, metrics, optim, train
from jaxau.config import Stage
from jaxau.report import html, tables


@pytest.fixture(scope="module")
def finished(tiny_faces, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("run")
    train.run(small_config(), partial(make_data, data_dir=tiny_faces), workdir)
    return workdir


def _log(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_killed_again_and_again_gives_the_same_bits(tiny_faces, finished, tmp_path):
    """Mid-epoch, while a checkpoint is written, on SIGTERM, and between the stages."""
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(tiny_faces), str(tmp_path)]
    events = ["batch:2", "batch:5", "save:2", "term:2", "model", "save:1", "batch:2", "none"]
    codes = [subprocess.run([*child, event], capture_output=True).returncode for event in events]
    assert codes == [-9, -9, -9, 143, -9, -9, -9, 0]
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    for stage in ("frames", "clips"):
        got, want = (checkpoint.load_model(run / stage).info for run in (tmp_path, finished))
        assert got == want  # includes a hash over all parameters, and the thresholds
        states = []
        for run in (tmp_path, finished):
            with checkpoint.Checkpoints(run / stage / "checkpoints") as checkpoints:
                states.append((checkpoints.latest, checkpoints.best))
        assert states[0] == states[1]


def test_sigterm_saves_the_very_step(tiny_faces, tmp_path):
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(tiny_faces), str(tmp_path)]
    assert subprocess.run([*child, "term:5"], capture_output=True).returncode == 143
    with checkpoint.Checkpoints(tmp_path / "frames" / "checkpoints") as checkpoints:
        assert checkpoints.latest == 5
    assert [line["step"] for line in _log(tmp_path) if "loss" in line] == [1, 2, 3, 4, 5]


def test_each_step_is_logged_once_and_each_epoch_scored(finished):
    config = small_config()
    for name, stage in config.stages.items():
        lines = [line for line in _log(finished) if line["stage"] == name]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == list(range(1, len(steps) + 1))
        epochs = [line for line in lines if "inner/f1" in line]
        assert [line["epoch"] for line in epochs] == list(range(1, stage.epochs + 1))
        for key in ("distribution/AU01", "recall/AU25", "weight/AU12"):  # what the dynamic weights did
            assert all(key in line for line in epochs), key
        assert len({line["weight/AU12"] for line in epochs}) == stage.epochs
        assert all(
            np.isfinite(value) for line in lines for value in line.values() if not isinstance(value, str)
        )


def test_a_finished_run_is_left_alone(tiny_faces, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("[!.]*") if path.is_file()}
    assert train.run(small_config(), partial(make_data, data_dir=tiny_faces), finished) == {}
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("[!.]*") if path.is_file()}


def test_the_best_epoch_is_selected(finished):
    scores = {
        line["epoch"]: line["inner/f1"]
        for line in _log(finished)
        if line["stage"] == "clips" and "inner/f1" in line
    }
    chosen = checkpoint.load_model(finished / "clips").info["epoch"]
    assert scores[chosen] == max(scores.values())


def test_the_next_stage_starts_from_the_earlier_and_freezes_its_trunk(finished):
    frames, clips = (checkpoint.load_model(finished / stage).variables for stage in ("frames", "clips"))
    chex.assert_trees_all_equal(frames["params"]["trunk"], clips["params"]["trunk"])
    chex.assert_trees_all_equal(frames["batch_stats"], clips["batch_stats"])
    changed = frames["params"]["classifier_weight"] != clips["params"]["classifier_weight"]
    assert changed.any()
    assert "lstm" in clips["params"] and "lstm" not in frames["params"]


def test_nan_names_the_step_and_the_records(tiny_faces, tmp_path):
    config = small_config()
    wild = dataclasses.replace(config.stages["frames"].optim, lr=1e30, clip_norm=0.0)
    stages = {"frames": dataclasses.replace(config.stages["frames"], optim=wild)}
    config = dataclasses.replace(config, stages=stages)
    with pytest.raises(
        ValueError, match=r"stage frames, step \d+: .*not finite.*Records of the batch: \[\d+"
    ) as e:
        train.run(config, partial(make_data, data_dir=tiny_faces), tmp_path)
    step = int(str(e.value).split("step ")[1].split(":")[0])
    logged = [line["step"] for line in _log(tmp_path) if "loss" in line]
    assert logged == list(range(1, step))  # what was good is kept


def test_another_configuration_in_the_same_folder_is_refused(tiny_faces, finished):
    config = small_config()
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, aus=(1, 2)))
    with pytest.raises(
        ValueError, match=r"another configuration.*--workdir.*\n.*config.data.aus: \[1, 4, 12, 25\] there"
    ):
        train.run(other, partial(make_data, data_dir=tiny_faces), finished)


def test_trainable_prefixes_must_exist():
    params = {"trunk": {"conv1": np.zeros((2, 2))}, "lstm": {"kernel": np.zeros((2, 2))}}
    stage = Stage("clips", 1, 1, trainable=("lsmt",))
    with pytest.raises(
        ValueError, match=r"\['lsmt'\] names no parameter; parameters start with \['lstm', 'trunk'\]"
    ):
        optim.trainable_labels(stage, params)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_schedules(schedule):
    make = optim.make_schedule(optim.Optim(lr=0.5, schedule=schedule, warmup_steps=4), total_steps=14)
    np.testing.assert_allclose([make(0), make(4)], [0.125, 0.5])
    np.testing.assert_allclose(make(14), 0.5 if schedule == "constant" else 0.0, atol=1e-8)
    np.testing.assert_allclose(make(9), 0.5 if schedule == "constant" else 0.25, rtol=1e-6)


def test_evaluation_scores_all_stages_once(tiny_faces, finished, monkeypatch):
    folder = evaluate.run(finished, partial(make_data, data_dir=tiny_faces))
    scores = evaluate.read_scores(folder)
    assert set(scores["stages"]) == {"frames", "clips"}
    assert set(scores["baselines"]) == {"always_on", "pixels_logistic_regression"}
    parts = [set(scores["subjects"][part]) for part in ("train", "inner", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 9
    for stage in ("frames", "clips"):
        found = np.load(folder / f"{stage}_predictions.npz")
        assert len(found["probability"]) == 3 * 2 * 24  # each test frame once, padding dropped
        assert len(np.unique(found["record"])) == len(found["record"])
    monkeypatch.setattr(evaluate, "predict", lambda *_: pytest.fail("scored already"))
    assert evaluate.run(finished, partial(make_data, data_dir=tiny_faces)) == folder


def test_another_data_set_of_the_same_name_is_refused(tiny_faces, finished, tmp_path):
    """Its folds may test subjects that were learned from."""
    manifest = tiny_faces / "synthetic" / "manifest.json"
    shutil.copytree(tiny_faces, tmp_path / "data")
    other = json.loads(manifest.read_text())
    other["hash"] = "0" * 64
    (tmp_path / "data" / "synthetic" / "manifest.json").write_text(json.dumps(other))
    for call in (partial(evaluate.run, finished), partial(train.run, small_config(), workdir=finished)):
        with pytest.raises(ValueError, match=r"was trained on the data set \w+, but --data_dir holds 0000"):
            call(make_data=partial(make_data, data_dir=tmp_path / "data"))


def test_unfinished_stages_are_named_after_the_others_are_scored(tiny_faces, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    shutil.rmtree(tmp_path / "run" / "clips" / "model")
    with pytest.raises(ValueError, match=r"stages \['clips'\].*not finished.*launch.train"):
        evaluate.run(tmp_path / "run", partial(make_data, data_dir=tiny_faces))
    scores = evaluate.read_scores(tmp_path / "run" / "eval" / "synthetic")
    assert set(scores["stages"]) == {"frames"}


def test_scores_of_other_subjects_are_not_kept(tiny_faces, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    folder = evaluate.run(tmp_path / "run", partial(make_data, data_dir=tiny_faces))
    scores = evaluate.read_scores(folder)
    wrong = {**scores, "subjects": {**scores["subjects"], "test": ["S999"]}}
    wrong["stages"] = {"frames": {**scores["stages"]["frames"], "at_half": "of others"}}
    (folder / "scores.json").write_text(json.dumps(wrong))
    evaluate.run(tmp_path / "run", partial(make_data, data_dir=tiny_faces))
    assert evaluate.read_scores(folder) == scores


def _run(selection: str, tiny_faces: Path, workdir: Path) -> Path:
    config = dataclasses.replace(small_config(), selection=selection)
    train.run(config, partial(make_data, data_dir=tiny_faces), workdir)
    return workdir


@pytest.fixture(scope="module")
def conventional(tiny_faces, tmp_path_factory):
    return _run("conventional", tiny_faces, tmp_path_factory.mktemp("conventional"))


@pytest.fixture(scope="module")
def optimistic(tiny_faces, tmp_path_factory):
    return _run("optimistic", tiny_faces, tmp_path_factory.mktemp("optimistic"))


def test_only_honest_runs_hold_subjects_back(tiny_faces, finished, conventional, optimistic):
    honest = json.loads((finished / "data.json").read_text())["subjects"]
    assert len(honest["inner"]) == 2 and len(honest["train"]) == 4
    data = make_data(small_config(), tiny_faces)
    for run in (conventional, optimistic):
        subjects = json.loads((run / "data.json").read_text())["subjects"]
        assert subjects["inner"] == [] and subjects["test"] == honest["test"]
        assert sorted(subjects["train"]) == sorted(honest["train"] + honest["inner"])
        steps = {line["stage"]: line["step"] for line in _log(run) if "loss" in line}
        batches = {name: stage.batch_size for name, stage in small_config().stages.items()}
        for name, stage in small_config().stages.items():  # half as many examples again
            examples = data.num_examples(name) * 6 // 4
            assert steps[name] == -(-stage.epochs * examples // batches[name]), name


def test_a_conventional_run_scores_no_epoch_and_takes_the_last(tiny_faces, conventional, monkeypatch):
    assert not any("f1" in key for line in _log(conventional) for key in line)
    assert [line["epoch"] for line in _log(conventional) if "weight/AU12" in line] == [1, 2, 1, 2, 3]
    for name, stage in small_config().stages.items():
        info = checkpoint.load_model(conventional / name).info
        assert (info["selection"], info["epoch"]) == ("conventional", stage.epochs)
        assert info["thresholds"] == [0.5] * 4 and info["threshold_source"].startswith("conventional: .5")
        with checkpoint.Checkpoints(conventional / name / "checkpoints") as checkpoints:
            assert checkpoints.best is None
    scores = evaluate.read_scores(evaluate.run(conventional, partial(make_data, data_dir=tiny_faces)))
    assert scores["selection"] == "conventional"
    assert [set(stage) for stage in scores["stages"].values()] == [{"hash", "epoch", "at_half"}] * 2
    text = tables.print_summary(scores) + tables.markdown(scores) + tables.latex(scores)
    assert "selection conventional" in text and not re.search("honest|optimistic|threshold ", text)


def test_an_optimistic_run_chooses_on_the_test_subjects_and_says_so(tiny_faces, optimistic, tmp_path):
    make = partial(make_data, data_dir=tiny_faces)
    folder = evaluate.run(optimistic, make)
    scores = evaluate.read_scores(folder)
    for name in small_config().stages:
        info = checkpoint.load_model(optimistic / name).info
        assert info["selection"] == "optimistic" and info["threshold_source"].startswith(
            "optimistic: best F1 on the 3 test"
        )
        of_epoch = {
            line["epoch"]: line["test/f1"]
            for line in _log(optimistic)
            if line["stage"] == name and "test/f1" in line
        }
        assert set(of_epoch) == set(range(1, small_config().stages[name].epochs + 1))
        assert of_epoch[info["epoch"]] == max(of_epoch.values())
        stage = scores["stages"][name]
        assert set(stage) == {"hash", "epoch", "at_half", "optimistic"}
        # The very subjects that chose: the best epoch's score is the test score.
        assert stage["at_half"]["mean"]["f1"] == pytest.approx(max(of_epoch.values()), abs=1e-6)
        found = evaluate.read_predictions(folder, name)
        best = metrics.best_thresholds(found["probability"], found["truth"], found["mask"]).value
        np.testing.assert_allclose(info["thresholds"], best)
    assert scores["selection"] == "optimistic"
    assert all(
        word in tables.notes(scores)[0] for word in ("optimistic", "test subjects were read to choose")
    )
    for text in (tables.print_summary(scores), tables.markdown(scores)):
        headings = [line for line in text.splitlines() if re.match("(## |# |)(stage|Stage|Scores)", line)]
        assert len(headings) >= 2 and all("(optimistic)" in line for line in headings)
    rows = tables.long_table(scores)
    assert rows[rows.system.isin(["frames", "clips"])].selection.str.contains("optimistic").all()
    assert "honest" not in json.dumps(scores)
    page = html.write_run_page(optimistic, "synthetic", {}, tmp_path / "page.html").read_text()
    assert "honest" not in page and "chosen on the test subjects (optimistic)" in page
    assert "unseen" not in re.search("<title>.*?</h1>", page, re.S).group() and "(optimistic)</title>" in page


def test_honest_runs_never_say_optimistic(finished, tiny_faces):
    scores = evaluate.read_scores(evaluate.run(finished, partial(make_data, data_dir=tiny_faces)))
    assert scores["selection"] == "honest" and set(scores["stages"]["clips"]) >= {"at_half", "honest"}
    assert "optimistic" not in tables.print_summary(scores) + json.dumps(scores)
    assert checkpoint.read_info(finished)["threshold_source"] == "best F1 on 2 inner subjects"
    assert tuple(tables.SELECTIONS) == evaluate.RULES


def test_an_au_that_nobody_shows_is_named(tiny_faces, tmp_path):
    config = small_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, aus=(1, 27)))
    data = make_data(config, tiny_faces)
    data.statistics["n_occ"][1] = 0
    with pytest.raises(ValueError, match=r"AU \[27\] never occurs on the \d+ training subjects of fold 1"):
        train.run(config, lambda _: data, tmp_path)
