"""Cross-validation: all folds, resumed after a kill; their mean and pooled scores by hand."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scored_folds import AUS, FOLDS, predictions, thresholds, write_folds
from sklearn.metrics import f1_score, roc_auc_score
from small_run import small_config

from data_pipelines import protocols
from data_pipelines.loader import make_data
from data_pipelines.records import read_manifest
from jaxau import checkpoint, crossval, evaluate, train
from jaxau.report import tables

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:interval may be too narrow")


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return write_folds(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def merged(folds, tmp_path_factory):
    folder = crossval.merge(folds, "synthetic", tmp_path_factory.mktemp("merged"))
    return evaluate.read_scores(folder)


def f1_by_hand(fold, column, threshold):
    found = predictions(fold)
    coded = found["mask"][:, column]
    return f1_score(found["truth"][coded, column], found["probability"][coded, column] >= threshold)


def by_au(score):
    return {row["au"]: row for row in score["per_au"]}


@pytest.mark.parametrize("selection", ["at_half", "honest"])
def test_mean_of_folds_by_hand(merged, selection):
    score = merged["mean_of_folds"]["stages"]["frames"][selection]
    rows = by_au(score)
    chosen = {1: 0.5, 2: 0.5, 3: 0.5}
    fold_means = []
    for column, au in enumerate(AUS):
        defined = [] if au == 4 else [1, 3] if au == 26 else [1, 2, 3]
        if selection == "honest":
            chosen = {fold: thresholds(fold)[column] for fold in (1, 2, 3)}
        values = [f1_by_hand(fold, column, chosen[fold]) for fold in defined]
        assert rows[au]["f1"] == (pytest.approx(np.mean(values)) if values else None)
        assert rows[au]["folds"] == len(defined)
        fold_means += [(fold, value) for fold, value in zip(defined, values, strict=True)]
    of_folds = [np.mean([value for fold, value in fold_means if fold == k]) for k in (1, 2, 3)]
    assert score["mean"]["f1"] == pytest.approx(np.mean(of_folds))
    assert score["mean"]["aus"] == 3 and score["mean"]["undefined"] == [4]
    assert score["mean"]["f1_low"] is None and rows[1]["threshold"] is None
    positives = sum((predictions(f)["truth"] * predictions(f)["mask"]).sum(0) for f in (1, 2, 3))
    assert [rows[au]["positives"] for au in AUS] == positives.tolist()


@pytest.mark.parametrize("selection", ["at_half", "honest"])
def test_pooled_by_hand(merged, selection):
    score = merged["pooled"]["stages"]["frames"][selection]
    rows = by_au(score)
    found = [predictions(fold) for fold in (1, 2, 3)]
    for column, au in enumerate(AUS):
        coded = [one["mask"][:, column] for one in found]
        truth = np.concatenate([one["truth"][c, column] for one, c in zip(found, coded, strict=True)])
        probability = [one["probability"][c, column] for one, c in zip(found, coded, strict=True)]
        used = [0.5] * 3 if selection == "at_half" else [thresholds(fold)[column] for fold in (1, 2, 3)]
        present = np.concatenate([p >= t for p, t in zip(probability, used, strict=True)])
        if au == 4:
            assert rows[au]["f1"] is None
            continue
        assert rows[au]["f1"] == pytest.approx(f1_score(truth, present))
        assert rows[au]["auc"] == pytest.approx(roc_auc_score(truth, np.concatenate(probability)))
        assert rows[au]["f1_low"] < rows[au]["f1"] < rows[au]["f1_high"]
        assert rows[au]["threshold"] == (0.5 if selection == "at_half" else None)
    assert score["subjects"] == 15 and score["interval_note"] is None  # enough subjects only when pooled
    assert score["mean"]["aus"] == 3


def test_the_folds_and_the_baselines_stand_beside(merged, folds):
    assert [scores["fold"] for scores in merged["folds"]] == [1, 2, 3]
    assert merged["folds"][1] == evaluate.read_scores(folds[1] / "eval" / "synthetic")
    always = by_au(merged["pooled"]["baselines"]["always_on"])[1]
    rate = always["base_rate"]
    assert always["f1"] == pytest.approx(2 * rate / (1 + rate))
    pooled, mean = (
        merged[key]["baselines"]["pixels_logistic_regression"] for key in ("pooled", "mean_of_folds")
    )
    assert pooled["per_au"] == merged["pooled"]["stages"]["frames"]["at_half"]["per_au"]
    assert mean["mean"]["f1"] == merged["mean_of_folds"]["stages"]["frames"]["at_half"]["mean"]["f1"]
    assert merged["pooled"]["subjects"]["test"] == [f"S{i:03d}" for i in range(15)]
    assert merged["mean_of_folds"]["stages"]["frames"]["epoch"] == [5, 6, 7]


def test_tables_hold_each_fold_both_summaries_and_what_is_undefined(merged, tmp_path):
    table = tables.fold_table(merged, "frames", "honest").set_index("fold")
    assert list(table.index) == ["fold 1", "fold 2", "fold 3", "mean of 3 folds", "3 folds pooled"]
    assert (table["AU04"] == tables.UNDEFINED).all()
    assert (table["AU26"] == tables.UNDEFINED).tolist() == [False, True, False, False, False]
    f1 = by_au(merged["mean_of_folds"]["stages"]["frames"]["honest"])[12]["f1"]
    assert table.loc["mean of 3 folds", "AU12"] == tables.number(f1)
    text = tables.print_crossval_summary(merged)
    assert text.startswith("synthetic | ") and "3 folds pooled, frames all | 15 test subjects" in text
    assert "AU26: no positive frame in some folds" in text and "AU04: no positive frame, so" in text
    markdown, csv, latex = (p.read_text() for p in tables.write_crossval_tables(merged, tmp_path))
    assert markdown.startswith("# Scores of 3 folds (synthetic)") and "epochs 5, 6, 7" in markdown
    assert latex.count(r"\begin{tabular}") == 2
    expected = {"1", "2", "3", "mean of 3 folds", "3 folds pooled"}
    assert set(pd.read_csv(io.StringIO(csv)).fold) == expected


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"manifest_hash": "other"}, "fold2: manifest_hash is 'other', but '6f1d5b0c9a7e42d1' in .*fold1"),
        ({"aus": [4, 1, 12, 26]}, r"fold2: aus is \[4, 1, 12, 26\], but \[1, 4, 12, 26\] in"),
        ({"frames": "landmarks"}, "fold2: frames is 'landmarks'"),
        ({"stages": {}}, "other stages are scored"),
        ({"subjects": {"test": ["S001"]}}, r"subjects \['S001'\] are tested in more than one"),
    ],
)
def test_folds_that_do_not_belong_together(tmp_path, fields, message):
    folds = write_folds(tmp_path)
    change(folds[1] / "eval" / "synthetic" / "scores.json", **fields)
    with pytest.raises(ValueError, match=message):
        crossval.merge(folds, "synthetic", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_folds_of_another_configuration_or_unfinished(tmp_path):
    folds = write_folds(tmp_path)
    (folds[2] / "eval" / "synthetic" / "frames_predictions.npz").unlink()
    with pytest.raises(ValueError, match="fold3.*frames_predictions.npz: not found; delete"):
        crossval.merge(folds, "synthetic", tmp_path / "merged")
    change(folds[2] / "config.json", name="aar")
    with pytest.raises(ValueError, match="fold3: another configuration than .*fold1"):
        crossval.merge(folds, "synthetic", tmp_path / "merged")
    (folds[2] / "eval" / "synthetic" / "scores.json").unlink()
    with pytest.raises(ValueError, match="fold3.*scores.json: not found; run launch.evaluate"):
        crossval.merge(folds, "synthetic", tmp_path / "merged")


def command(data_dir, workdir, *overrides):
    flags = (f"--data_dir={data_dir}", f"--workdir={workdir}", *overrides)
    return [sys.executable, "-m", "launch.crossval", "--config=tests/small_disfa.py", *flags]


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def steps(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


def test_three_folds_of_disfa_go_on_after_a_kill_and_skip_what_is_finished(disfa_data, tmp_path):
    first = subprocess.Popen(command(disfa_data, tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL)
    second_fold = tmp_path / "fold2" / "frames" / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(second_fold.glob("[0-9]*/state")) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (tmp_path / "fold3").exists() and not (tmp_path / "crossval").exists()
    assert not (tmp_path / "fold2" / "frames" / "model").exists()
    finished = contents(tmp_path / "fold1" / "frames" / "model")
    log = (tmp_path / "fold1" / "metrics.jsonl").read_bytes()

    again = subprocess.run(command(disfa_data, tmp_path), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "fold1" / "frames" / "model") == finished
    assert (tmp_path / "fold1" / "metrics.jsonl").read_bytes() == log
    for fold in range(1, FOLDS + 1):
        done = steps(tmp_path / f"fold{fold}")
        assert done == list(range(1, len(done) + 1)) and len(done) > 10
    scores = evaluate.read_scores(tmp_path / "crossval" / "disfa")
    pooled = scores["pooled"]["stages"]["frames"]["at_half"]
    assert pooled["subjects"] == 27 and len(scores["pooled"]["subjects"]["test"]) == 27
    rows = by_au(pooled)
    # 642 frames less the labels that are masked: see disfa_folder.
    assert [rows[au]["coded"] for au in (1, 2, 4, 6, 9, 12, 25, 26)] == [641, 641, 641, *[642] * 5]
    assert 0 < pooled["mean"]["f1"] < 1
    assert "mean of 3 folds" in again.stdout and "corpus disfa | protocol disfa-3fold" in again.stdout
    for ending in ("md", "csv", "tex"):
        assert (tmp_path / "crossval" / "disfa" / f"scores.{ending}").is_file()

    wrong = subprocess.run(
        command(disfa_data, tmp_path, "--config.seed=1"), cwd=ROOT, capture_output=True, text=True
    )
    assert wrong.returncode == 1 and "holds a run with another configuration" in wrong.stderr


def test_a_single_fold_is_refused(disfa_data, tmp_path):
    done = subprocess.run(
        command(disfa_data, tmp_path, "--config.data.fold=2"), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "error: config.data.fold: 2 is given, but a cross" in done.stderr


def redraws(pooled, of_folds):
    """Merged scores as far as `crossval.spread` reads them."""

    def part(f1):
        about = {key: key for key in crossval._SAME} | {"synthetic": True, "selection": "honest"}
        stage = {"at_half": {"mean": {"f1": 0.0}}, "honest": {"mean": {"f1": f1}}}
        return about | {"stages": {"frames": {"at_half": {}}, "clips": stage}}

    return [
        {"folds": [{}] * 3, "pooled": part(a), "mean_of_folds": part(b)}
        for a, b in zip(pooled, of_folds, strict=True)
    ]


def test_the_spread_of_redraws_by_hand():
    floor = crossval.spread(redraws([0.60, 0.62, 0.58, 0.61, 0.59], [0.5, None, 0.54, None, 0.52]))
    found = floor["pooled"]
    sd = (0.001 / 4) ** 0.5  # deviations 0, .02, -.02, .01, -.01
    assert found["mean"] == pytest.approx(0.60) and found["sd"] == pytest.approx(sd)
    # Tabulated quantiles of chi-square, 4 degrees of freedom: 11.143 and 0.484.
    assert found["sd_low"] == pytest.approx(sd * (4 / 11.143) ** 0.5, rel=1e-3)
    assert found["sd_high"] == pytest.approx(sd * (4 / 0.4844) ** 0.5, rel=1e-3)
    assert found["difference"] == pytest.approx(2.772 * sd, rel=1e-3)
    assert found["difference_high"] / found["sd_high"] == pytest.approx(2.772, rel=1e-3)
    assert (found["lowest"], found["highest"]) == (0.58, 0.62) and found["range"] == pytest.approx(0.04)
    assert floor["mean_of_folds"]["sd"] == pytest.approx(0.02)  # over the three that are defined
    assert [one["mean_of_folds"] for one in floor["redraws"]] == [0.5, None, 0.54, None, 0.52]
    assert (floor["stage"], floor["thresholds"]) == ("clips", "honest")
    text = tables.print_noise_floor(floor | {"protocol": "synthetic-3fold"})
    assert "noise floor (synthetic): " in text and "5 redraws of synthetic-3fold, stage clips" in text
    assert ".600 .620 .580 .610 .590; mean .600, standard deviation .016 [.009, .045], range .040" in text
    assert "up to .044 [.026, .126]" in text and ".500 – .540 – .520" in text


def test_one_defined_redraw_has_no_spread():
    assert set(crossval.spread(redraws([0.6, None], [0.6, 0.6]))["pooled"].values()) == {None}


def test_each_redraw_has_its_own_seed_and_folder(tmp_path, monkeypatch):
    merged = redraws([0.6, 0.5], [0.4, 0.3])

    def run(config, folds, make_data, workdir):
        assert (config.data.fold, folds, make_data) == (1, 3, None)
        folder = workdir / "crossval" / "synthetic"
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text(json.dumps(merged[config.data.fold_seed - 1]))
        return folder

    monkeypatch.setattr(crossval, "run", run)
    path = crossval.noise_floor(small_config(), 3, 2, None, tmp_path)
    assert path == tmp_path / "crossval" / "synthetic" / "noise_floor.json"
    assert {p.name for p in tmp_path.iterdir()} == {"redraw1", "redraw2", "crossval"}
    floor = json.loads(path.read_text())
    assert floor["protocol"] == "synthetic-3fold" and floor["pooled"]["mean"] == pytest.approx(0.55)


def test_a_redraw_reaches_data_and_labels(tiny_faces):
    manifest = read_manifest(tiny_faces, "synthetic")
    for seed in (0, 1, 2):
        config = small_config(fold=2, fold_seed=seed)
        split = make_data(config, tiny_faces).split
        assert split.test == tuple(sorted(protocols.folds("synthetic-3fold", manifest, seed)[1]))
        assert config.data.protocol_name == "synthetic-3fold" + (f", redrawn {seed}" if seed else "")


@pytest.mark.slow
def test_redraws_are_cross_validations_of_their_own_and_skip_what_is_finished(
    tiny_faces, tmp_path, monkeypatch
):
    stages = {"frames": dataclasses.replace(small_config().stages["frames"], epochs=1)}
    config = dataclasses.replace(small_config(), stages=stages, selection="conventional")
    make = partial(make_data, data_dir=tiny_faces)
    path = crossval.noise_floor(config, 3, 2, make, tmp_path)
    assert path == tmp_path / "crossval" / "synthetic" / "noise_floor.json"
    floor, manifest = json.loads(path.read_text()), read_manifest(tiny_faces, "synthetic")
    tested = {}
    for redraw in (1, 2):
        merged = evaluate.read_scores(tmp_path / f"redraw{redraw}" / "crossval" / "synthetic")
        tested[redraw] = [one["subjects"]["test"] for one in merged["folds"]]
        own = protocols.folds("synthetic-3fold", manifest, redraw)
        assert tested[redraw] == [sorted(test) for test in own]
        for one in merged["folds"]:
            assert not set(one["subjects"]["train"]) & set(one["subjects"]["test"])
        assert merged["pooled"]["protocol"] == f"synthetic-3fold, redrawn {redraw}"
        info = checkpoint.read_info(tmp_path / f"redraw{redraw}" / "fold1")
        assert info["protocol"] == f"synthetic-3fold, redrawn {redraw}"
        f1 = merged["pooled"]["stages"]["frames"]["at_half"]["mean"]["f1"]
        assert floor["redraws"][redraw - 1]["pooled"] == f1
    assert tested[1] != tested[2] and floor["protocol"] == "synthetic-3fold"
    (tmp_path / "redraw2" / "fold3" / "frames" / "model" / "model.json").unlink()
    fitted = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda *a: fitted.append(a[3]) or fit(*a))
    crossval.noise_floor(config, 3, 2, make, tmp_path)
    assert fitted == [tmp_path / "redraw2" / "fold3"]
    assert json.loads(path.read_text()) == floor


@pytest.mark.parametrize(
    ("repeats", "fold_seed", "message"),
    [
        (1, 0, "repeats=1: a spread needs at least 2"),
        (3, 2, "config.data.fold_seed: 2 is given, but repeats"),
    ],
)
def test_what_a_noise_floor_cannot_be(tmp_path, repeats, fold_seed, message):
    with pytest.raises(ValueError, match=message):
        crossval.noise_floor(small_config(fold_seed=fold_seed), 3, repeats, None, tmp_path)


def test_groups_of_all_folds_are_pooled_each_with_its_own_folds_thresholds(merged):
    score = merged["pooled"]["groups"]["sex"]["female"]
    assert score["subjects"] == 9  # of 5 subjects a fold every other one
    values = []
    for fold in (1, 2, 3):
        found = predictions(fold)
        rows = found["mask"][:, 0] & np.isin(found["subject"], np.unique(found["subject"])[::2])
        values.append((found["truth"][rows, 0], found["probability"][rows, 0] >= thresholds(fold)[0]))
    truth, present = (np.concatenate(part) for part in zip(*values, strict=True))
    assert by_au(score)[1]["f1"] == pytest.approx(f1_score(truth, present))
    assert merged["pooled"]["events"]["per_au"][0]["true_events"] > 0


@pytest.mark.slow
def test_the_papers_configuration_made_small_runs_all_folds(disfa_data, tmp_path):
    overrides = (
        "network.block=basic", "network.stage_sizes=(1,1)", "network.widths=(8,12)", "network.stem=3x3",
        "network.features=8", "data.image_size=32", "data.clip_length=8", "data.subsequences=2",
        "data.frames=landmarks", "stages.frames.epochs=2", "stages.frames.batch_size=16",
        "stages.clips.epochs=2",
    )  # fmt: skip
    arguments = command(disfa_data, tmp_path, *(f"--config.{override}" for override in overrides))
    arguments[3] = "--config=configs/lac.py:disfa"
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scores = evaluate.read_scores(tmp_path / "crossval" / "disfa")
    assert list(scores["pooled"]["stages"]) == ["frames", "clips"]
    assert scores["pooled"]["frames"] == "landmarks"
