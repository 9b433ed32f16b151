"""``jaxau score`` on a real OpenFace table and on small ones: numbers computed apart, what does not join."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from jaxau import cli

AUS = (1, 2, 4, 5, 12, 45)


def run(capsys, *arguments):
    """Exit status, JSON (or None) and what was said on standard error."""
    status = cli.main(["score", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    if status:
        assert captured.out == "" and len(captured.err.splitlines()) == 1, captured.err
        return status, None, captured.err
    return status, json.loads(captured.out), captured.err


def scored(capsys, *arguments):
    status, report, said = run(capsys, *arguments)
    assert status == 0 and said == "", said
    return report


def refused(capsys, *arguments):
    status, _, said = run(capsys, *arguments)
    assert status == 1
    return said


@pytest.fixture
def openface(shared):
    return shared / "media/OpenFace_Test.csv"


@pytest.fixture
def codes(openface):
    """A truth made from the table: occurrence with 15 % flipped, 5 % not coded, and a noisy intensity."""
    predicted = pd.read_csv(openface, skipinitialspace=True)
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"frame": predicted["frame"], "timestamp": predicted["timestamp"]})
    truth["subject"] = np.where(truth["frame"] <= 40, "A", "B")
    for au in AUS:
        code = predicted[f"AU{au:02d}_c"].astype(int)
        code = code.where(rng.random(100) > 0.15, 1 - code)
        truth[f"AU{au:02d}"] = code.where(rng.random(100) > 0.05, rng.choice([-1, 9], 100))
    truth["AU26_r"] = (predicted["AU26_r"] * 4 + 0.1 * rng.normal(size=100)).clip(0, 5).round(2)
    truth["AU20_r"] = truth["AU26_r"]
    return truth


def expected_rows(openface, codes):
    """F1, precision, recall and accuracy per AU from pandas and scikit-learn alone; frames by number."""
    both = codes.merge(pd.read_csv(openface, skipinitialspace=True), on="frame")
    rows = {}
    for au in AUS:
        coded = both[both[f"AU{au:02d}"].isin([0, 1])]
        pair = coded[f"AU{au:02d}"], coded[f"AU{au:02d}_c"]
        rows[au] = {
            "f1": f1_score(*pair),
            "precision": precision_score(*pair) if pair[1].any() else None,
            "recall": recall_score(*pair),
            "accuracy": accuracy_score(*pair),
            "positives": pair[0].sum(),
            "coded": len(coded),
        }
    return rows


def assert_rows(report, rows):
    found = {row["au"]: row for row in report["score"]["per_au"]}
    for au, row in rows.items():
        for name, value in row.items():
            assert found[au][name] == (None if value is None else pytest.approx(value, abs=1e-9)), (au, name)
    assert report["score"]["mean"]["f1"] == pytest.approx(np.mean([row["f1"] for row in rows.values()]))


def write(path, table):
    table.to_csv(path, index=False)
    return path


def test_a_real_openface_table_against_codes(capsys, openface, codes, tmp_path):
    truth = write(tmp_path / "truth.csv", codes)
    report = scored(capsys, "--truth", truth, "--pred", openface)
    assert report["tool"] == "OpenFace" and report["aus"] == [1, 2, 4, 5, 12, 20, 26, 45]
    assert_rows(report, expected_rows(openface, codes))
    assert report["score"]["mean"]["undefined"] == [20, 26]  # no intensity reaches 2
    assert report["score"]["mean"]["auc"] is None and any("no AUC" in note for note in report["notes"])
    assert report["clusters"] == "subject" and report["score"]["subjects"] == 2
    assert (
        report["score"]["mean"]["f1_low"] < report["score"]["mean"]["f1"] < report["score"]["mean"]["f1_high"]
    )
    counts = report["join"]
    assert (counts["joined"], counts["predicted"], counts["unpredicted"]) == (100, 100, 0)
    assert report["other_rule"] is None
    uncoded = {f"AU{au:02d}": int((~codes[f"AU{au:02d}"].isin([0, 1])).sum()) for au in AUS}
    assert counts["uncoded_labels"] == uncoded
    assert 6 in report["aus_only_in_predictions"] and report["aus_only_in_truth"] == []


def test_intensities_where_both_sides_have_them(capsys, openface, codes, tmp_path):
    report = scored(capsys, "--truth", write(tmp_path / "truth.csv", codes), "--pred", openface)
    predicted = pd.read_csv(openface, skipinitialspace=True)
    found = {row["au"]: row for row in report["intensity"]["per_au"]}
    assert set(found) == {20, 26}
    p, t = predicted["AU26_r"], codes["AU26_r"]
    assert found[26]["pcc"] == pytest.approx(np.corrcoef(p, t)[0, 1])
    assert found[26]["mae"] == pytest.approx((p - t).abs().mean())
    icc = 2 * np.cov(p, t)[0, 1] / (p.var() + t.var())  # of two raters
    assert found[26]["icc"] == pytest.approx(icc)
    assert found[20]["pcc"] is None  # the tool never moves
    low = scored(
        capsys, "--truth", tmp_path / "truth.csv", "--pred", openface, "--occurs_from=0.5", "--bootstrap=0"
    )
    row = next(row for row in low["score"]["per_au"] if row["au"] == 26)
    assert row["f1"] == pytest.approx(f1_score(t >= 0.5, predicted["AU26_c"]))
    assert row["positives"] == (t >= 0.5).sum() > 0 and row["f1_low"] is None


def test_header_with_and_without_spaces_give_the_same(capsys, openface, codes, tmp_path):
    truth = write(tmp_path / "truth.csv", codes)
    plain = write(tmp_path / "plain.csv", pd.read_csv(openface, skipinitialspace=True))
    assert b", AU01_c" in openface.read_bytes() and b", AU01_c" not in plain.read_bytes()
    first, second = (scored(capsys, "--truth", truth, "--pred", path) for path in (openface, plain))
    assert second.pop("predictions") == "plain.csv" and first.pop("predictions") == "OpenFace_Test.csv"
    assert first == second


def test_fewer_aus_on_either_side(capsys, openface, codes, tmp_path):
    truth = write(tmp_path / "truth.csv", codes[["frame", "AU04", "AU45"]])
    few = pd.read_csv(openface, skipinitialspace=True)[["frame", "confidence", "success", "AU04_c", "AU06_c"]]
    report = scored(capsys, "--truth", truth, "--pred", write(tmp_path / "few.csv", few))
    assert report["aus"] == [4] and report["aus_only_in_truth"] == [45]
    assert report["aus_only_in_predictions"] == [6]
    assert_rows(report, {4: expected_rows(openface, codes)[4]})
    assert any("only in the truth: AU45" in note for note in report["notes"])


def test_missing_rows_on_both_sides(capsys, openface, codes, tmp_path):
    predicted = pd.read_csv(openface, skipinitialspace=True)
    kept_truth, kept = codes[codes["frame"] % 10 != 3], predicted[predicted["frame"] % 7 != 2]
    truth, pred = write(tmp_path / "truth.csv", kept_truth), write(tmp_path / "pred.csv", kept)
    report = scored(capsys, "--truth", truth, "--pred", pred)
    both = set(kept_truth["frame"]) & set(kept["frame"])
    counts = report["join"]
    assert counts["joined"] == counts["predicted"] == len(both) == 77
    assert counts["truth_not_joined"] == counts["without_row"] == len(kept_truth) - len(both)
    assert counts["predictions_not_joined"] == len(kept) - len(both)
    assert_rows(report, expected_rows(pred, kept_truth))
    # The other rule: a frame without a row has no AU.
    filled = kept_truth[["frame"]].merge(kept, on="frame", how="left").fillna(0)
    absent = expected_rows(write(tmp_path / "filled.csv", filled), kept_truth)
    other = scored(capsys, "--truth", truth, "--pred", pred, "--unpredicted=absent")
    assert_rows(other, absent)
    assert report["other_rule"]["f1"] == pytest.approx(np.mean([row["f1"] for row in absent.values()]))
    assert other["other_rule"]["f1"] == pytest.approx(report["score"]["mean"]["f1"])
    assert other["score"]["mean"]["f1"] < report["score"]["mean"]["f1"]


def test_frames_that_the_tool_gave_up(capsys, openface, codes, tmp_path):
    predicted = pd.read_csv(openface, skipinitialspace=True)
    predicted.loc[:9, "success"] = 0
    occurrence = [name for name in predicted if name.startswith("AU")]
    predicted[occurrence] = predicted[occurrence].astype(object)
    predicted.loc[20:24, occurrence] = ""
    predicted.loc[50:59, "AU45_c"] = ""
    report = scored(
        capsys, "--truth", write(tmp_path / "t.csv", codes), "--pred", write(tmp_path / "p.csv", predicted)
    )
    counts = report["join"]
    assert (counts["success_0"], counts["empty"], counts["unpredicted"]) == (10, 5, 15)
    assert counts["empty_predictions"] == {"AU45": 10}
    left = codes.drop(index=[*range(10), *range(20, 25)])
    assert_rows(
        report,
        expected_rows(openface, left) | {45: expected_rows(openface, left.drop(index=range(50, 60)))[45]},
    )


def test_time_stamps_instead_of_frames(capsys, openface, codes, tmp_path):
    by_time = codes.drop(columns="frame")
    by_time["timestamp"] += 0.0004  # of a frame of .001 s
    by_time = by_time[by_time.index % 10 != 3]
    report = scored(capsys, "--truth", write(tmp_path / "truth.csv", by_time), "--pred", openface)
    assert report["join"]["on"] == "time" and report["join"]["joined"] == 90
    assert_rows(report, expected_rows(openface, codes[codes.index % 10 != 3]))
    frames = scored(
        capsys, "--truth", write(tmp_path / "frames.csv", codes[codes.index % 10 != 3]), "--pred", openface
    )
    assert report["events"] == frames["events"]  # gaps in time are gaps in frames
    by_time["timestamp"] += 7
    said = refused(capsys, "--truth", write(tmp_path / "late.csv", by_time), "--pred", openface)
    assert "no time stamp of OpenFace_Test.csv (0 to 0.099 s)" in said


def test_frame_numbers_that_begin_elsewhere_are_said_not_guessed(capsys, openface, codes, tmp_path):
    codes["frame"] -= 1
    truth = write(tmp_path / "truth.csv", codes)
    report = scored(capsys, "--truth", truth, "--pred", openface)
    assert report["join"]["joined"] == 99
    assert any(
        "--frame_offset=-1 adds -1" in note and "99 join as written, 100" in note for note in report["notes"]
    )
    shifted = scored(capsys, "--truth", truth, "--pred", openface, "--frame_offset=-1")
    assert shifted["join"]["joined"] == 100
    assert not any("frame_offset" in note for note in shifted["notes"])
    codes["frame"] += 1
    assert_rows(shifted, expected_rows(openface, codes))
    every_other = codes[codes.index % 2 == 0].assign(frame=lambda t: t["frame"] - 1)
    odd = pd.read_csv(openface, skipinitialspace=True).iloc[::2]
    said = refused(
        capsys, "--truth", write(tmp_path / "t.csv", every_other), "--pred", write(tmp_path / "p.csv", odd)
    )
    assert "0 frames of p.csv join with t.csv, 50 if shifted by one" in said and "--frame_offset=-1" in said


def our_tables(tmp_path, n=60):
    """Predictions of three videos as jaxau writes them, and codes."""
    rng = np.random.default_rng(4)
    truth, pred = [], []
    for video in ("a.mp4", "b.mp4", "c.mp4"):
        code = (rng.random((n, 2)) < 0.4).astype(int)
        p = np.clip(0.3 * code + 0.3 + 0.2 * rng.normal(size=code.shape), 0, 1).round(6)
        frames = {"video": video, "frame": np.arange(n)}
        truth.append(pd.DataFrame(frames | {"AU06": code[:, 0], "AU12": code[:, 1]}))
        about = {"face_id": 0, "timestamp": np.arange(n) / 25, "confidence": 0.9, "success": 1, "reason": ""}
        values = {"AU06_p": p[:, 0], "AU12_p": p[:, 1]}
        values |= {"AU06_c": (p[:, 0] >= 0.4).astype(int), "AU12_c": (p[:, 1] >= 0.6).astype(int)}
        pred.append(pd.DataFrame(frames | about | values))
    return pd.concat(truth), pd.concat(pred)


def test_our_own_tables_with_probabilities(capsys, tmp_path):
    truth, pred = our_tables(tmp_path)
    paths = "--truth", write(tmp_path / "t.csv", truth), "--pred", write(tmp_path / "p.csv", pred)
    report = scored(capsys, *paths)
    assert report["tool"] == "jaxau" and report["clusters"] == "video" and report["score"]["subjects"] == 3
    assert any("names no subjects" in note for note in report["notes"])
    assert report["decisions"] == {"AU06": "stated by the tool", "AU12": "stated by the tool"}
    for row, au, threshold in zip(report["score"]["per_au"], ("AU06", "AU12"), (0.4, 0.6), strict=True):
        t, p = truth[au], pred[f"{au}_p"]
        assert row["f1"] == pytest.approx(f1_score(t, p >= threshold))
        assert row["auc"] == pytest.approx(roc_auc_score(t, p))
        assert row["average_precision"] == pytest.approx(average_precision_score(t, p))
    mean = report["score"]["mean"]
    assert mean["auc_low"] < mean["auc"] < mean["auc_high"]
    half = scored(capsys, *paths, "--threshold=.5")
    assert half["decisions"]["AU06"] == "probability >= 0.5"
    assert half["score"]["per_au"][0]["f1"] == pytest.approx(f1_score(truth["AU06"], pred["AU06_p"] >= 0.5))
    assert half["score"]["per_au"][0]["auc"] == report["score"]["per_au"][0]["auc"]


def test_videos_by_name_and_by_file(capsys, tmp_path):
    truth, pred = our_tables(tmp_path)
    whole = scored(
        capsys, "--truth", write(tmp_path / "t.csv", truth), "--pred", write(tmp_path / "p.csv", pred)
    )
    truth["video"] = truth["video"].str.removesuffix(".mp4")
    truth = write(tmp_path / "short.csv", truth)
    files = [
        write(tmp_path / f"{name.removesuffix('.mp4')}.csv", rows.drop(columns="video"))
        for name, rows in pred.groupby("video")
    ]
    report = scored(capsys, "--truth", truth, "--pred", *files)
    assert report["score"] == whole["score"] and report["join"]["videos"] == 3
    folder = pred.assign(video="D:\\clips\\" + pred["video"])
    report = scored(capsys, "--truth", truth, "--pred", write(tmp_path / "windows.csv", folder))
    assert report["score"] == whole["score"]
    assert any("without folder and ending" in note for note in report["notes"])
    one = scored(capsys, "--truth", truth, "--pred", files[0])
    assert one["join"]["truth_videos_without_predictions"] == ["b", "c"]
    assert one["join"]["joined"] == 60 and one["join"]["unpredicted"] == 0
    assert one["score"]["mean"]["f1_low"] is None and "no interval" in one["score"]["interval_note"]
    lost = tmp_path / "lost.csv"
    files[0].rename(lost)
    assert "name each file of predictions like its video" in refused(capsys, "--truth", truth, "--pred", lost)


def test_of_several_faces_the_surest_is_taken(capsys, tmp_path):
    truth = write(tmp_path / "t.csv", pd.DataFrame({"frame": [0, 1, 2], "AU12": [1, 0, 1]}))
    rows = [(0, 0, 0.5, 1, 0), (0, 1, 0.9, 1, 1), (1, 0, 0.8, 1, 0), (2, 0, 0.9, 0, 0), (2, 1, 0.2, 1, 1)]
    pred = pd.DataFrame(rows, columns=["frame", "face_id", "confidence", "success", "AU12_c"])
    report = scored(capsys, "--truth", truth, "--pred", write(tmp_path / "p.csv", pred))
    assert report["join"]["several_faces"] == 2 and report["score"]["mean"]["f1"] == 1
    assert any("2 frames hold several faces" in note for note in report["notes"])
    feat = write(tmp_path / "f.csv", pred.drop(columns=["face_id", "success"]).assign(AU12_c=[0, 1, 0, 1, 0]))
    assert scored(capsys, "--truth", truth, "--pred", feat)["score"]["mean"]["f1"] == 1


def test_libreface_with_intensities_alone_on_both_sides(capsys, tmp_path):
    rng = np.random.default_rng(6)
    code = np.repeat(rng.integers(0, 6, 12), 5)
    truth = pd.DataFrame({"timestamp": np.arange(60) / 30, "AU12_r": code})
    guess = (code + rng.normal(size=60)).round(3)
    pred = pd.DataFrame({"frame_idx": range(60), "frame_time_in_ms": np.arange(60) / 0.03})
    pred = pred.assign(au_12_intensity=guess, au_24=0)
    paths = "--truth", write(tmp_path / "t.csv", truth), "--pred", write(tmp_path / "p.csv", pred)
    report = scored(capsys, *paths)
    assert report["tool"] == "LibreFace" and report["join"]["joined"] == 60
    assert report["decisions"] == {"AU12": "intensity >= 2"}
    assert report["score"]["mean"]["f1"] == pytest.approx(f1_score(code >= 2, guess >= 2))
    assert report["intensity"]["mean"]["pcc"] == pytest.approx(np.corrcoef(code, guess)[0, 1])
    assert any(
        "only intensities are predicted of AU12: present from 2 on" in note for note in report["notes"]
    )
    four = scored(capsys, *paths, "--occurs_from=4")
    assert four["score"]["mean"]["f1"] == pytest.approx(f1_score(code >= 4, guess >= 4))


@pytest.mark.parametrize(
    "truth, pred, message",
    [
        ("frame,AU12\n0,1\n", "frame,AU15_c\n0,1\n", "no AU in common: AU15 against AU12"),
        (
            "frame,AU12\n0,1\n0,1\n",
            "frame,AU12_c\n0,1\n",
            "t.csv: video t, frame 0 comes twice .lines 2 and 3",
        ),
        ("frame,AU12\n0,1\n", "frame,AU12_c\n0,1\n0,1\n", "p.csv: .* frame 0 comes twice .* without face_id"),
        (
            "frame,AU12\n0,1\n",
            "frame,face_id,AU12_c\n0,0,1\n0,0,1\n",
            "frame 0, face_id 0 comes twice",
        ),
        (
            "frame,AU12\n0,1\n",
            "frame,confidence,AU12_c\n0,0.9,1\n0,0.9,1\n",
            "frame 0 comes twice .lines 2 and 3 .*the rows are the same",
        ),
        (
            "frame,AU12\n0,1\n1,0\n",
            "frame,AU12_c\n70,1\n",
            "no frame of p.csv .70 to 70. joins with t.csv .0 to 1",
        ),
        (
            "frame,AU12\n0,1\n",
            "timestamp,AU12_c\n0,1\n",
            "t.csv has frame numbers only and the predictions only",
        ),
        ("frame,AU12\n0,\n", "frame,AU12_c\n0,1\n", "no frame that t.csv codes is predicted in p.csv"),
        ("frame,AU12\n0,1\n", "frame,success,AU12_c\n0,0,1\n", "no frame that t.csv codes is predicted"),
        (
            "frame,AU12\n0,1\n",
            "video,frame,AU12_c\na,0,1\nb,0,1\n",
            "t.csv has no column video, but the predictions are of 2 videos .a, b.",
        ),
        (
            "video,frame,AU12\nx,0,1\ny,0,1\n",
            "video,frame,AU12_c\na,0,1\nb,0,1\n",
            "no video in common: a, b against x, y; give both the same names",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_line(capsys, tmp_path, truth, pred, message):
    (tmp_path / "t.csv").write_text(truth)
    (tmp_path / "p.csv").write_text(pred)
    said = refused(capsys, "--truth", tmp_path / "t.csv", "--pred", tmp_path / "p.csv")
    assert re.search(message, said), said


def test_wrong_options_are_one_line(capsys, tmp_path):
    truth, pred = our_tables(tmp_path)
    paths = "--truth", write(tmp_path / "t.csv", truth), "--pred", write(tmp_path / "p.csv", pred)
    assert "threshold 1.5: a probability" in refused(capsys, *paths, "--threshold=1.5")
    assert "bootstrap=-1" in refused(capsys, *paths, "--bootstrap=-1")
    assert "no such file" in refused(capsys, "--truth", tmp_path / "none.csv", *paths[2:])
    (tmp_path / "file").write_text("")
    assert "file" in refused(capsys, *paths, "--out", tmp_path / "file")
    by_time = write(tmp_path / "time.csv", truth.rename(columns={"frame": "timestamp"}))
    assert "joined by time stamp" in refused(capsys, "--truth", by_time, *paths[2:], "--frame_offset=1")


def test_each_fifth_frame_is_a_step_of_five(capsys, tmp_path):
    truth = pd.DataFrame({"frame": range(100), "AU12": [0] * 20 + [1] * 40 + [0] * 40})
    pred = truth.rename(columns={"AU12": "AU12_c"})[::5]
    report = scored(
        capsys, "--truth", write(tmp_path / "t.csv", truth), "--pred", write(tmp_path / "p.csv", pred)
    )
    assert report["events"]["step"] == 5 and report["events"]["per_au"][0]["true_events"] == 1
    assert report["events"]["mean"]["f1"] == 1 and report["join"]["without_row"] == 80


def test_what_is_printed_and_written(capsys, tmp_path):
    truth, pred = our_tables(tmp_path)
    pred.loc[pred["frame"] < 5, "success"] = 0
    paths = "--truth", write(tmp_path / "t.csv", truth), "--pred", write(tmp_path / "p.csv", pred)
    assert cli.main(["score", *map(str, paths), "--out", str(tmp_path / "out" / "new")]) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "out/new/score.json").read_text())
    assert (
        "15 of 180 frames unpredicted (15 with success 0), left out; if counted as absent, mean F1 " in said
    )
    mean = f"{report['score']['mean']['f1']:.3f}".removeprefix("0")
    assert re.search(rf"mean of 2 AUs +{mean} \[", said) and "dependency F1" in said and "AUC" in said
    table = pd.read_csv(tmp_path / "out/new/score.csv").set_index("au")
    assert table["f1"]["AU12"] == pytest.approx(report["score"]["per_au"][1]["f1"], abs=1e-12)
    assert table["event_f1"]["mean"] == pytest.approx(report["events"]["mean"]["f1"], abs=1e-12)
    markdown = (tmp_path / "out/new/score.md").read_text()
    assert "| AU12 lip corner puller | " in markdown and "precision" in markdown and "ICC" not in markdown
