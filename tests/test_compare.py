"""Two runs compared: frames matched by hand, differences by scikit-learn, and what is said of the rest."""

import dataclasses
import json
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scored_folds import AUS, predictions, thresholds, write_folds
from sklearn.metrics import f1_score
from small_run import small_config

from data_pipelines.loader import make_data
from jaxau import cli, compare, crossval, evaluate, files, metrics, train
from jaxau.report import comparison

SUBJECTS, FRAMES = 20, 30


def labels(aus, subjects=SUBJECTS):
    """Truth and mask of the AUs of a corpus; the same for every run. AU 4 never occurs."""
    truth, mask = {}, {}
    for au in aus:
        rng = np.random.default_rng(100 + au)
        truth[au] = (rng.random(subjects * FRAMES) < 0.3).astype(np.int32) * (au != 4)
        mask[au] = rng.random(subjects * FRAMES) < 0.9
    return (np.stack([part[au] for au in aus], axis=1) for part in (truth, mask))


def write_run(folder, aus, quality, seed, rule="honest", keep=None, chosen=0.4, **described):
    """A scored run whose probabilities part present from absent by ``quality``; rows shuffled by the seed."""
    rng = np.random.default_rng(seed)
    truth, mask = labels(aus)
    n = len(truth)
    noise = 0.15 * rng.normal(size=truth.shape)
    found = {
        "probability": np.clip(0.4 + quality * (truth - 0.4) + noise, 0, 1),
        "truth": truth,
        "mask": mask,
        "subject": np.arange(n) // FRAMES,
        "video": np.arange(n) // (FRAMES // 2) % 2,
        "frame": np.arange(n) % (FRAMES // 2),
    }
    order = rng.permutation(n)
    order = order if keep is None else order[keep(found)[order]]
    found = {name: values[order] for name, values in found.items()}
    arrays = found["probability"], found["truth"], found["mask"]
    scores = {
        at: metrics.score(*arrays, t, found["subject"], aus, 0)
        for at, t in (("at_half", 0.5), (rule, chosen))
    }
    evaluation = folder / "eval" / described.get("corpus", "faces")
    about = {
        "corpus": "faces",
        "synthetic": False,
        "trained_on": "faces",
        "fold": 1,
        "protocol": "faces-3fold",
    }
    about |= {"frames": "all", "selection": rule, "manifest_hash": "a" * 64, "aus": list(aus)}
    about |= {"stages": {"stills": {"at_half": scores["at_half"]}, "clips": scores}} | described
    files.write_json(evaluation / "scores.json", about)
    for stage in ("stills", "clips"):
        np.savez(evaluation / f"{stage}_predictions.npz", **found)
    return folder, found


def table(found, aus):
    """Predictions by subject, video and frame."""
    index = pd.MultiIndex.from_arrays([found[name] for name in ("subject", "video", "frame")])
    parts = [
        pd.DataFrame(found[name], index=index, columns=list(aus)) for name in ("probability", "truth", "mask")
    ]
    return [part.sort_index() for part in parts]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Other AUs in another order, other rows in another order; A is clearly better."""
    folder = tmp_path_factory.mktemp("runs")
    a = write_run(folder / "a", (1, 4, 12, 26), 0.5, 1)
    b = write_run(folder / "b", (12, 4, 6, 1), 0.2, 2, keep=lambda found: found["subject"] > 2, chosen=0.35)
    return a, b


def test_differences_are_scikit_learns_on_the_matched_frames(two_runs):
    (a, found_a), (b, found_b) = two_runs
    result = compare.compare(a, b, bootstrap=200)
    tables = table(found_a, (1, 4, 12, 26)), table(found_b, (12, 4, 6, 1))
    matched = tables[1][0].index  # b tested a part of what a did
    assert result["aus"] == [1, 4, 12] and result["aus_only_in_a"] == [26] and result["aus_only_in_b"] == [6]
    for rule, (t_a, t_b) in (("chosen", (0.4, 0.35)), ("at_half", (0.5, 0.5))):
        rows = {row["au"]: row for row in result[rule]["per_au"]}
        assert rows[4]["difference"] is None
        differences = []
        for au in (1, 12):
            (p_a, truth, mask), (p_b, _, _) = ([part.loc[matched, au] for part in parts] for parts in tables)
            coded = mask.to_numpy(bool)
            f1_a, f1_b = (f1_score(truth[coded], p[coded] >= t) for p, t in ((p_a, t_a), (p_b, t_b)))
            assert rows[au]["f1_a"] == pytest.approx(f1_a) and rows[au]["f1_b"] == pytest.approx(f1_b)
            assert rows[au]["difference"] == pytest.approx(f1_a - f1_b)
            assert rows[au]["low"] < f1_a - f1_b < rows[au]["high"]
            differences.append(f1_a - f1_b)
        assert result[rule]["mean"]["difference"] == pytest.approx(np.mean(differences))
        assert result[rule]["mean"]["aus"] == 2
    assert result["chosen"]["mean"]["low"] > 0
    assert result["verdict"].startswith("A has the higher mean F1: the 95 % interval")
    assert compare.compare(b, a, bootstrap=200)["verdict"].startswith("B has the higher")


def test_what_does_not_match_is_counted_and_said(two_runs):
    (a, _), (b, _) = two_runs
    result = compare.compare(a, b, bootstrap=0)
    assert result["matched"] == {
        "frames": 17 * FRAMES,
        "subjects": 17,
        "only_a_other_subjects": 3 * FRAMES,
        "only_a_same_subjects": 0,
        "only_b_other_subjects": 0,
        "only_b_same_subjects": 0,
    }
    assert f"{3 * FRAMES} frames only in A: subjects that the other did not test" in result["notes"]
    assert "not compared, only in B: AU06" in result["notes"]
    assert any("not corrected for 2 comparisons" in note for note in result["notes"])
    assert any(note.startswith("AU04: no positive frame") for note in result["notes"])
    assert result["verdict"] == "no verdict: no interval, so that chance is not excluded"


def test_relations_of_both_runs(two_runs):
    (a, found_a), (b, found_b) = two_runs
    result = compare.compare(a, b, bootstrap=0)["relations"]
    parts = [table(found_b, (12, 4, 6, 1)), table(found_a, (1, 4, 12, 26))]
    matched = parts[0][0].index
    for name, (p, truth, mask), threshold in zip("ba", parts, (0.35, 0.4), strict=True):
        present, true = ((values.loc[matched, [1, 12]]) for values in (p >= threshold, truth))
        both = mask.loc[matched, [1, 12]].all(axis=1)
        r = [np.corrcoef(values[both].to_numpy(float).T)[0, 1] for values in (present, true)]
        assert result[name]["l2_distance"] == pytest.approx(np.sqrt(2) * abs(r[0] - r[1]))
        assert result[name]["pairs"] == 1 and result[name]["undefined_pairs"] == 2
        assert result[name]["dependency"]["pairs"] == 2


def test_a_run_against_itself_shows_no_difference(two_runs):
    (a, _), _ = two_runs
    result = compare.compare(a, a, bootstrap=100)
    assert result["chosen"]["mean"]["difference"] == 0 and result["chosen"]["t_test"]["t"] is None
    assert result["verdict"].startswith("no difference shown:")


def test_other_data_sets_are_compared_if_their_labels_agree(two_runs, tmp_path):
    (a, _), _ = two_runs
    other, found = write_run(tmp_path / "c", (1, 4, 12, 26), 0.4, 3, manifest_hash="b" * 64)
    result = compare.compare(a, other, bootstrap=0)
    assert result["matched"]["frames"] == SUBJECTS * FRAMES
    assert any("different data sets (aaaaaaaaaaaa, bbbbbbbbbbbb)" in note for note in result["notes"])
    found["truth"] = 1 - found["truth"]
    np.savez(other / "eval/faces/clips_predictions.npz", **found)
    with pytest.raises(
        ValueError, match=r"600 of 600 frames have other labels .*aaaaaaaaaaaa.* than .*bbbbbbbbbbbb"
    ):
        compare.compare(a, other)


def test_labels_under_the_mask_do_not_matter_but_the_mask_does(two_runs, tmp_path):
    (a, _), _ = two_runs
    other, found = write_run(tmp_path / "c", (1, 4, 12, 26), 0.4, 3)
    found["truth"] = np.where(found["mask"], found["truth"], 1 - found["truth"])
    np.savez(other / "eval/faces/clips_predictions.npz", **found)
    compare.compare(a, other, bootstrap=0)
    found["mask"][0, 0] = not found["mask"][0, 0]
    np.savez(other / "eval/faces/clips_predictions.npz", **found)
    with pytest.raises(ValueError, match="1 of 600 frames have other labels"):
        compare.compare(a, other)


def test_how_the_runs_were_chosen_is_said(two_runs, tmp_path):
    (a, _), _ = two_runs
    optimistic, _ = write_run(tmp_path / "o", (1, 12), 0.2, 4, rule="optimistic", synthetic=True)
    result = compare.compare(a, optimistic, bootstrap=100)
    assert result["verdict"].startswith("A has the higher mean F1 (synthetic, optimistic):")
    assert "B is optimistic: test subjects chose its epoch and thresholds" in result["notes"]
    conventional = compare.compare(a, optimistic, stage="stills", bootstrap=0)
    assert conventional["a"]["thresholds"] == "at_half" and conventional["chosen"] == conventional["at_half"]
    assert "A chose no thresholds (conventional): .5 stands for them" in conventional["notes"]


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    with pytest.warns(UserWarning, match="interval"):
        workdirs = write_folds(folder)
        crossval.merge(workdirs, "synthetic", folder / "crossval" / "synthetic")
    return folder


def test_folds_of_a_cross_validation_are_pooled_with_their_own_thresholds(folds):
    result = compare.compare(folds, folds, bootstrap=0)
    assert result["a"]["fold"] == "3 folds" and result["matched"]["subjects"] == 15
    for column, au in enumerate(AUS):
        truth, present = [], []
        for fold in (1, 2, 3):
            found = predictions(fold)
            coded = found["mask"][:, column]
            truth.append(found["truth"][coded, column])
            present.append(found["probability"][coded, column] >= thresholds(fold)[column])
        row = result["chosen"]["per_au"][column]
        expected = f1_score(np.concatenate(truth), np.concatenate(present)) if au != 4 else None
        assert row["f1_a"] == row["f1_b"] == (None if au == 4 else pytest.approx(expected))


def test_a_fold_against_the_whole_cross_validation(folds):
    result = compare.compare(folds / "fold2", folds, bootstrap=0)
    assert result["matched"]["subjects"] == 5 and result["matched"]["only_b_other_subjects"] == 400
    assert any("different folds: fold 2 and 3 folds" in note for note in result["notes"])
    with pytest.raises(ValueError, match="fold 1.*fold 2.*tested no frame in common: compare the same fold"):
        compare.compare(folds / "fold1", folds / "fold2")


def test_what_cannot_be_compared_is_one_line(two_runs, tmp_path, capsys):
    (a, _), _ = two_runs
    other, _ = write_run(tmp_path / "other", (1, 12), 0.4, 3, corpus="more")
    foreign, found = write_run(tmp_path / "foreign", (2, 6), 0.4, 3)
    twice, found = write_run(tmp_path / "twice", (1, 12), 0.4, 3)
    doubled = {name: np.concatenate([values, values[:1]]) for name, values in found.items()}
    np.savez(twice / "eval/faces/clips_predictions.npz", **doubled)
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((a, tmp_path / "empty"), "empty: no scores; give a folder that launch.evaluate"),
        ((a, other), "is scored on faces, "),
        ((a, a, "--corpus=more"), "not scored on 'more', but on faces"),
        ((a, a, "--stage=features"), "no stage 'features' is scored, but stills, clips"),
        ((a, foreign), "they have none in common"),
        ((a, twice), "was predicted twice"),
    ):
        assert cli.main(["compare", *map(str, arguments)]) == 1
        captured = capsys.readouterr()
        assert message in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""


def test_what_is_printed_and_written(two_runs, tmp_path, capsys):
    (a, _), (b, _) = two_runs
    arguments = ["compare", str(a), str(b), "--bootstrap=100"]
    assert cli.main([*arguments, "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "510 frames of 17 subjects, tested by both" in said and "verdict: A has the higher" in said
    assert "at threshold .5, mean over 2 AUs: A - B = +" in said and "paired t-test over 17 subjects" in said
    line = next(line for line in said.splitlines() if line.startswith("AU12"))
    assert line.endswith("*") and "lip corner puller" in line
    assert "AU04" in said and "stage clips, honest thresholds" in said
    result = json.loads((tmp_path / "new/comparison.json").read_text())
    rows = pd.read_csv(tmp_path / "new/comparison.csv")
    mean = rows[(rows["thresholds"] == "at_half") & (rows["au"] == "mean")].iloc[0]
    assert mean["difference"] == pytest.approx(result["at_half"]["mean"]["difference"], abs=1e-12)
    assert (tmp_path / "new/comparison.md").read_text().count("| AU12 lip corner puller |") == 2
    assert cli.main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result and captured.err == ""


def test_a_run_as_training_and_evaluation_leave_it(tiny_faces, tmp_path):
    """Real files: each test frame is predicted once, and its F1 is that of the scores."""
    make = partial(make_data, data_dir=tiny_faces)
    config = small_config()
    stage = dataclasses.replace(config.stages["frames"], epochs=1)
    train.run(dataclasses.replace(config, stages={"frames": stage}), make, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scores = evaluate.read_scores(evaluate.run(tmp_path, make))
    result = compare.compare(tmp_path, tmp_path, bootstrap=50)
    assert result["matched"]["frames"] == len(scores["subjects"]["test"]) * 2 * 24
    assert result["a"]["thresholds"] == "honest" and "(synthetic)" in result["verdict"]
    for row, scored in zip(
        result["chosen"]["per_au"], scores["stages"]["frames"]["honest"]["per_au"], strict=True
    ):
        assert row["au"] == scored["au"] and row["f1_b"] == scored["f1"]
    assert "synthetic | corpus synthetic" in comparison.print_comparison(result)
