"""Tables say what the scores say, and carry the word synthetic wherever they go."""

import io
import re

import pandas as pd
import pytest

from jaxau.report import tables


def test_the_summary_holds_every_mean_with_its_interval_and_both_baselines(run):
    _, scores = run
    text = tables.print_summary(scores)
    for _, _, score in tables.systems(scores):
        assert tables.interval(score["mean"]) in text
    assert text.count("mean of 12 AUs") == 2
    assert "always on  " in text and "pixels + logistic regression  " in text
    assert "16 test subjects" in text and "fold 1" in text and "manifest 6f1d5b0c9a7e" in text
    assert text.splitlines()[0].startswith("synthetic") and text.count("(synthetic)") == 3
    rows = [line for line in text.splitlines() if re.match(r"  (AU|mean)", line)]
    assert len({len(row) for row in rows}) == 1, "columns are not aligned"


def test_csv_holds_the_numbers_unrounded(run, tmp_path):
    _, scores = run
    paths = tables.write_tables(scores, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["scores.md", "scores.csv", "scores.tex"]
    table = pd.read_csv(paths[1])
    assert len(table) == (2 * 2 + 2) * 13 and table.synthetic.all()
    assert set(table.manifest_hash) == {scores["manifest_hash"]}
    for stage in ("frames", "clips"):
        for key in ("at_half", "honest"):
            selection = tables.SELECTIONS[key]
            part = table[(table.system == stage) & (table.selection == selection)].set_index("au")
            score = scores["stages"][stage][key]
            for row in score["per_au"]:
                assert part.f1[f"AU{row['au']:02d}"] == pytest.approx(row["f1"], abs=1e-12)
                assert part.coded[f"AU{row['au']:02d}"] == row["coded"]
            assert part.f1_low["mean"] == pytest.approx(score["mean"]["f1_low"], abs=1e-12)
    assert ".0," not in ",".join(paths[1].read_text().split("\n")[1].split(",")[12:15])  # counts are whole


def test_markdown_has_one_row_per_au_and_a_mean_row_in_each_table(run):
    _, scores = run
    text = tables.markdown(scores)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (2 + 13)
    assert len({line.count("|") for line in lines}) == 1
    half = scores["stages"]["clips"]["at_half"]
    au12 = next(row for row in half["per_au"] if row["au"] == 12)
    line = [line for line in lines if "AU12 lip corner puller" in line][1]
    assert tables.interval(au12) in line and tables.number(au12["auc"]) in line
    for score in scores["baselines"].values():
        f1 = next(row["f1"] for row in score["per_au"] if row["au"] == 12)
        assert f"| {tables.number(f1)} |" in line
    assert text.count("(synthetic)") == 3


def test_latex_compiles_in_form_and_escapes(run):
    _, scores = run
    text = tables.latex(scores | {"corpus": "my_corpus"})
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"my\_corpus" in text and r"[95 \%]" in text and not re.search(r"(?<!\\)[%_#]", text)
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count("&") for line in body.strip().splitlines()} == {8}


def test_an_undefined_au_shows_a_dash_and_a_note(build_run, tmp_path):
    scores = build_run(tmp_path, undefined=24)
    table = tables.stage_table(scores, "frames").set_index("AU")
    assert table.loc["AU24 lip pressor", "F1 at .5 [95 %]"] == tables.UNDEFINED
    assert "mean of 11 AUs" in table.index
    assert tables.notes(scores) == ["AU24: no positive frame, so F1 is undefined and not in the mean"]
    assert "AU24: no positive" in tables.markdown(scores) and "AU24: no positive" in tables.print_summary(
        scores
    )
    frame = pd.read_csv(io.StringIO(tables.long_table(scores).to_csv()))
    assert frame[frame.au == "AU24"].f1.isna().all()


@pytest.mark.filterwarnings("ignore:interval may be too narrow")
def test_few_subjects_and_an_au_without_negatives_are_noted(build_run, tmp_path):
    scores = build_run(tmp_path, n_subjects=5)
    scores["stages"]["clips"]["at_half"]["per_au"][0]["auc"] = None
    first, second = tables.notes(scores)
    assert first.startswith("interval may be too narrow: 5 subjects")
    assert second.startswith("AU01: no negative")


def test_markdown_says_the_other_means_with_their_intervals_and_numbers_of_aus(run):
    _, scores = run
    mean = scores["stages"]["clips"]["at_half"]["mean"]
    line = [line for line in tables.markdown(scores).splitlines() if line.startswith("Other means")][1]
    for name in ("precision", "recall", "average_precision", "mcc", "skew_f1", "calibration_error"):
        assert (
            f" {mean[name]:.3f} [{mean[f'{name}_low']:.3f}, ".replace(" 0.", " .").replace("[0.", "[.")
            in line
        )
    assert "MCC ." in line and "AUs" not in line
    fewer = tables.other_means(mean | {"mcc": 0.5, "mcc_low": None, "mcc_aus": 11})
    assert "MCC .500 (11 AUs), skew" in fewer


def test_an_au_that_was_never_predicted_is_noted_with_its_system(build_run, tmp_path):
    scores = build_run(tmp_path)
    row = scores["stages"]["clips"]["honest"]["per_au"][0]
    row["precision"] = row["mcc"] = None
    (note,) = tables.notes(scores)
    assert note.startswith("AU01 (clips, honest thresholds): nothing predicted present")


def test_csv_holds_every_mean_and_over_how_many_aus_it_is(run):
    _, scores = run
    table = tables.long_table(scores)
    rows = table[(table.system == "clips") & (table.selection == tables.SELECTIONS["honest"])]
    found = rows[rows.au == "mean"].iloc[0]
    mean = scores["stages"]["clips"]["honest"]["mean"]
    assert {"average_precision", "mcc", "mcc_low", "mcc_aus", "calibration_error_high"} < set(mean)
    for name, value in mean.items():
        assert name == "undefined" or found[name] == value, name


def test_real_scores_do_not_say_synthetic(build_run, tmp_path):
    scores = build_run(tmp_path, synthetic=False) | {"corpus": "bp4d", "protocol": "bp4d-3fold"}
    for text in (tables.print_summary(scores), tables.markdown(scores), tables.latex(scores)):
        assert "synthetic" not in text


def test_the_bp4d_mean_gets_its_own_row(run):
    _, scores = run
    stage = scores["stages"]["frames"]
    half, honest = ({**stage[key], "bp4d_mean": stage[key]["mean"]} for key in ("at_half", "honest"))
    baselines = {name: {**s, "bp4d_mean": s["mean"]} for name, s in scores["baselines"].items()}
    wider = scores | {
        "stages": {"frames": {"epoch": 1, "at_half": half, "honest": honest}},
        "baselines": baselines,
    }
    assert list(tables.stage_table(wider, "frames")["AU"])[-2:] == ["mean of 12 AUs", "mean of BP4D's 12 AUs"]
    assert (tables.long_table(wider).au == "bp4d_mean").sum() == 4


def test_an_f1_without_an_interval_has_no_brackets():
    assert tables.interval({"f1": 0.5, "f1_low": None, "f1_high": None}) == ".500"
    assert tables.interval({"f1": 0.5, "f1_low": 0.25, "f1_high": 1.0}) == ".500 [.250, 1.000]"


@pytest.mark.parametrize(("value", "text"), [(0.6124, ".612"), (1.0, "1.000"), (0.0, ".000"), (None, "–")])
def test_number(value, text):
    assert tables.number(value) == text
