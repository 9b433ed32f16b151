"""Scores on another corpus, by group of subjects, of events and of relations between AUs."""

import dataclasses
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from input_kit import evaluation_input
from sklearn.metrics import f1_score
from small_run import small_config

from data_pipelines.loader import make_data
from data_pipelines.records import Records, read_manifest
from data_pipelines.synthetic import SynthConfig, SynthFaces
from jaxau import checkpoint, evaluate, metrics, train
from jaxau.report import html, tables

ROOT = Path(__file__).resolve().parents[1]
AUS = (25, 4, 24, 1)  # DISFA codes 1, 4 and 25 in that order, and not 24
COMMON = [25, 4, 1]
pytestmark = pytest.mark.filterwarnings("ignore:interval may be too narrow", "ignore:no interval")


def config(**fields):
    whole = small_config()
    stage = dataclasses.replace(whole.stages["frames"], epochs=1)
    data = dataclasses.replace(whole.data, aus=AUS)
    return dataclasses.replace(whole, data=data, stages={"frames": stage}, **fields)


@pytest.fixture(scope="module")
def run(tiny_faces, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train.run(config(), partial(make_data, data_dir=tiny_faces), workdir)
    return workdir


@pytest.fixture(scope="module")
def crossed(run, disfa_data):
    coded = read_manifest(disfa_data, "disfa")["aus"]
    folder = evaluate.cross_corpus(run, partial(make_data, data_dir=disfa_data), "disfa", coded)
    return folder, evaluate.read_scores(folder)


def test_another_corpus_is_scored_on_the_aus_of_both_whatever_their_order(run, crossed, disfa_data):
    folder, scores = crossed
    assert folder == run / "eval" / "disfa" and scores["aus"] == COMMON
    assert scores["not_coded"] == [24] and scores["not_predicted"] == [2, 5, 6, 9, 12, 15, 17, 20, 26]
    found, model = evaluate.read_predictions(folder, "frames"), checkpoint.load_model(run)
    source = Records(disfa_data, "disfa")
    assert sorted(found["record"]) == list(range(len(source)))  # every frame of every subject, once
    coded = source.manifest["aus"]
    for row in range(0, len(source), 97):
        frame = source.frame(int(found["record"][row]))
        image, _ = evaluation_input(
            frame.image[None], frame.landmarks[None], "jaa256", config().stages["frames"].augment, 32
        )
        logits = np.asarray(model.network.apply(model.variables, image, train=False)["logits"][0])
        for column, au in enumerate(COMMON):
            expected = 1 / (1 + np.exp(-logits[AUS.index(au)]))
            assert found["probability"][row, column] == pytest.approx(expected, abs=1e-5)
            intensity = frame.intensity[coded.index(au)]
            assert found["mask"][row, column] == np.isfinite(intensity)
            assert found["truth"][row, column] == (np.nan_to_num(intensity) >= 2)


def test_another_corpus_is_scored_with_the_models_own_thresholds(run, crossed):
    folder, scores = crossed
    stage, found = scores["stages"]["frames"], evaluate.read_predictions(folder, "frames")
    thresholds = dict(zip(AUS, checkpoint.read_info(run)["thresholds"], strict=True))
    assert set(stage) == {"hash", "epoch", "at_half", "model"}
    for column, au in enumerate(COMMON):
        coded, row = found["mask"][:, column], stage["model"]["per_au"][column]
        assert (row["au"], row["threshold"]) == (au, thresholds[au])
        present = found["probability"][coded, column] >= thresholds[au]
        assert row["f1"] == pytest.approx(f1_score(found["truth"][coded, column], present))
    assert list(scores["baselines"]) == ["always_on"]


def test_what_is_said_of_scores_on_another_corpus(run, crossed, tmp_path):
    _, scores = crossed
    trained = json.loads((run / "data.json").read_text())["subjects"]
    assert scores["trained_on_corpus"] == "synthetic" and scores["protocol"] == "all"
    assert scores["selection"].startswith("cross-corpus: thresholds of the model")
    assert scores["subjects"]["train"] == trained["train"] and len(scores["subjects"]["test"]) == 27
    assert scores["synthetic"] is True  # of the model
    text = tables.print_summary(scores) + tables.markdown(scores)
    assert "corpus disfa | trained on synthetic | protocol all, every subject, frames all | 27 test" in text
    assert (
        "AU24: the corpus does not code it" in text and "AU02, AU05" in text and "the model lacks it" in text
    )
    assert "fold 1" not in text and "honest F1" not in text and "model thresholds F1" in text
    page = html.write_run_page(run, "disfa", {}, tmp_path / "page.html").read_text()
    assert "fold 1" not in page and "all, every subject of corpus disfa" in page
    assert "of another corpus, disfa" in page


def test_what_another_corpus_cannot_be(run, tiny_faces, disfa_data, crossed, tmp_path, monkeypatch):
    here, there = (partial(make_data, data_dir=folder) for folder in (tiny_faces, disfa_data))
    with pytest.raises(ValueError, match="corpus 'synthetic': .* was trained on it"):
        evaluate.cross_corpus(run, here, "synthetic", [1, 2])
    with pytest.raises(ValueError, match=r"codes AUs \[2\], .* predicts \[25, 4, 24, 1\]; .* none in common"):
        evaluate.cross_corpus(run, there, "disfa", [2])
    shutil.copytree(disfa_data, tmp_path / "data")
    manifest = tmp_path / "data" / "disfa" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"alignment": "jaa200"}))
    with pytest.raises(ValueError, match=r"config.data.alignment='jaa256': .* was aligned as 'jaa200'"):
        evaluate.cross_corpus(run, partial(make_data, data_dir=tmp_path / "data"), "disfa", [1])
    monkeypatch.setattr(evaluate, "predict", lambda *_: pytest.fail("scored already"))
    coded = read_manifest(disfa_data, "disfa")["aus"]
    assert evaluate.cross_corpus(run, there, "disfa", coded) == crossed[0]


def test_nothing_can_be_trained_where_every_subject_is_tested(tiny_faces, tmp_path):
    everyone = dataclasses.replace(config(), data=dataclasses.replace(config().data, protocol="all"))
    data = make_data(everyone, tiny_faces)
    assert data.statistics["n"] == 0 and not data.statistics["n_coded"].any() and len(data.split.test) == 9
    with pytest.raises(ValueError, match="never occurs on the 0 training subjects"):
        train.run(everyone, partial(make_data, data_dir=tiny_faces), tmp_path)


def test_the_command_takes_another_corpus_or_its_own(run, disfa_data, tiny_faces, crossed, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "eval")
    base = [sys.executable, "-m", "launch.evaluate", f"--workdir={tmp_path}/run"]
    for folder, corpus in ((disfa_data, "disfa"), (tiny_faces, "synthetic")):
        command = [*base, f"--data_dir={folder}", f"--corpus={corpus}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        scores = evaluate.read_scores(tmp_path / "run" / "eval" / corpus)
        assert scores["selection"].startswith("cross-corpus" if corpus == "disfa" else "honest")
        assert (tmp_path / "run" / "eval" / corpus / "scores.md").is_file()
    command = [*base, f"--data_dir={tiny_faces}", "--corpus=disfa"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "launch.prepare --corpus=disfa" in done.stderr


def test_groups_events_and_relations_of_the_test_subjects(run, tiny_faces):
    folder = evaluate.run(run, partial(make_data, data_dir=tiny_faces))
    scores, found = evaluate.read_scores(folder), evaluate.read_predictions(folder, "frames")
    manifest = read_manifest(tiny_faces, "synthetic")
    request = {f.name: manifest["request"][f.name] for f in dataclasses.fields(SynthConfig)}
    faces = SynthFaces(SynthConfig(**request))
    tested = [i for i, s in enumerate(manifest["subjects"]) if s["name"] in scores["subjects"]["test"]]
    thresholds = np.array([row["threshold"] for row in scores["stages"]["frames"]["honest"]["per_au"]])
    assert set(scores["groups"]) == {"sex", "skin tone", "age", "glasses"}
    for attribute, values in scores["groups"].items():  # each test subject is in one group
        assert sum(score["subjects"] for score in values.values()) == len(tested) == 3, attribute
    for value, male in (("male", True), ("female", False)):
        members = [i for i in tested if faces.person(i).traits.masculine == male]
        rows = np.isin(found["subject"], members)
        assert (value in scores["groups"]["sex"]) == bool(members)
        for column, row in enumerate(scores["groups"]["sex"].get(value, {"per_au": []})["per_au"]):
            truth, present = (
                found["truth"][rows, column],
                found["probability"][rows, column] >= thresholds[column],
            )
            assert row["f1"] == (pytest.approx(f1_score(truth, present)) if truth.any() else None)
    present = found["probability"] >= thresholds
    where = (found["truth"], found["mask"])
    expected = metrics.event_score(present, *where, found["subject"], found["video"], found["frame"], AUS)
    assert scores["events"] == expected and expected["per_au"][0]["true_events"] > 0
    assert scores["relations"]["adjacency"] == metrics.l2_distance(present, *where)
    assert scores["relations"]["dependency"] == metrics.dependency_f1(present, *where)


def test_group_tables_name_subjects_intervals_and_few_subjects(run, tiny_faces, tmp_path):
    scores = evaluate.read_scores(evaluate.run(run, partial(make_data, data_dir=tiny_faces)))
    shown = tables.group_table(scores).set_index("group")
    score = scores["groups"]["glasses"]["no"]
    assert shown.loc["glasses: no", "mean F1 [95 %]"] == tables.interval(score["mean"])
    assert shown.loc["glasses: no", "subjects"] == str(score["subjects"])
    assert (shown["warning"] == "few subjects").all()
    text = tables.markdown(scores)
    assert (
        "## Groups, stage frames, honest thresholds (synthetic)" in text and "Few subjects: intervals" in text
    )
    page = html.write_run_page(run, "synthetic", {}, tmp_path / "page.html").read_text()
    assert "Groups of test subjects, stage frames, honest thresholds (synthetic)" in page
    assert '<th scope="row">glasses: no</th>' in page and "dependency F1" in page
    table = tables.long_table(scores)
    groups = pd.Series(table.group.unique())
    assert groups.str.startswith(("sex", "skin", "age", "glasses")).sum() == len(groups) - 1
    rows = table[(table.group == "glasses: no") & (table.au == "mean")]
    assert rows.f1.tolist() == [score["mean"]["f1"]] and set(rows.selection) == {"honest thresholds"}


def test_a_corpus_without_attributes_has_no_groups(crossed):
    assert crossed[1]["groups"] == crossed[1]["attributes"] == {}
    assert not len(tables.group_table(crossed[1])) and "## Groups" not in tables.markdown(crossed[1])


def test_a_corpus_of_the_mixture_was_trained_on(run, disfa_data, monkeypatch):
    info = checkpoint.read_info(run)
    info["config"]["data"]["mixture"] = {"disfa": 0.5}
    monkeypatch.setattr(evaluate.checkpoint, "read_info", lambda _: info)
    with pytest.raises(ValueError, match="corpus 'disfa': .* was trained on it"):
        evaluate.cross_corpus(run, partial(make_data, data_dir=disfa_data), "disfa", [1])
