"""Tables and figures of the papers: rows are runs, shared and resumed; one that fails loses no other."""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.tables import PAPERS
from data_pipelines.loader import make_data
from jaxau import facs, metrics, models, reproduce
from jaxau.reproduce import Figure, Paper, Row, Table

ROOT = Path(__file__).resolve().parents[1]
LAC = PAPERS["lac"]


def _request(workdir, data_dir="", budget="smoke", corpus="synthetic", paper=LAC, folds=3):
    data = partial(make_data, data_dir=data_dir)
    return reproduce.Request(paper, corpus, budget, data, lambda config: folds, workdir)


def _score_of(value, aus):
    """Of the form of ``metrics.score``, with ``value`` as every F1."""
    truth = np.arange(4)[:, None] % 2 * np.ones(len(aus))
    score = metrics.score(truth, truth, truth >= 0, 0.5, [0, 0, 1, 1], aus, bootstrap=0)
    for row in score["per_au"]:
        row["f1"] = value
    score["mean"] |= {"f1": value, "f1_low": value - 0.1, "f1_high": value + 0.1}
    return score | {"interval_note": "few subjects"}


class FakeRunner:
    """Scores without training; remembers what it was asked for."""

    def __init__(self, fails=()):
        self.asked, self.fails = [], fails

    def __call__(self, config, folds, data, directory):
        self.asked.append((config, folds, directory))
        if len(self.asked) in self.fails:
            raise self.fails[len(self.asked)]
        score = _score_of(0.5 + len(self.asked) / 100, config.data.aus)
        stages = {stage: {"epoch": 1, "honest": score, "at_half": score} for stage in config.stages}
        scores = {
            "corpus": config.data.corpus, "synthetic": config.data.corpus == "synthetic",
            "protocol": config.data.protocol, "fold": 1, "frames": "all", "selection": "honest",
            "manifest_hash": "0123456789abcdef", "aus": list(config.data.aus),
            "subjects": {"test": ["a", "b"]}, "stages": stages, "baselines": {},
        }  # fmt: skip
        return scores, (scores if folds > 1 else None)


def _make(request, number, runner):
    return reproduce.make_table(request, number, runner)


@pytest.fixture
def no_data(monkeypatch):
    """Rows are configured without looking at a data set."""
    monkeypatch.setattr(reproduce, "_of_occurring", lambda request, config: config)


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7])
def test_every_table_of_lac_has_its_shape(number, no_data, tmp_path, capsys):
    runner = FakeRunner()
    made = _make(_request(tmp_path), number, runner)
    table = LAC.tables[number]
    assert made.failed == {} and len(runner.asked) == len(table.rows)
    name = f"table_{reproduce.roman(number)}_synthetic_smoke"
    assert made.files == [tmp_path / "lac" / f"{name}.{ending}" for ending in ("md", "csv", "tex")]
    markdown = made.files[0].read_text()
    title = markdown.splitlines()[0]
    assert title.startswith(f"# LAC, Table {reproduce.roman(number)}: ") and "synthetic faces" in title
    for said in ("protocol synthetic-3fold, fold 1", "frames all", "selection honest", "seed 0",
                 "Budget smoke", "20 steps", "manifest 0123456789ab", "few subjects"):  # fmt: skip
        assert said in markdown, said
    assert f"row 1 of {len(table.rows)}: {table.rows[0].label}" in capsys.readouterr().err
    rows = [line for line in markdown.splitlines() if line.startswith("| ")][2:]
    if table.shape == "settings":
        assert len(rows) == len(table.rows)
        printed = {4: "62.6 65.1 65.7 65.8 66.1 66.5 67.3", 5: "62.6 62.7 64.0 65.1 64.8 64.7",
                   6: "54.5 59.6 58.8 61.4 65.1 63.1", 7: "66.5 66.7 67.3"}[number]  # fmt: skip
        assert [row.split("|")[-2].strip() for row in rows] == printed.split()
        assert rows[0].split("|")[2].strip() == "51.0 [41.0, 61.0]"
    else:
        assert len(rows) == 15 + 2
    long = pd.read_csv(made.files[1])
    assert set(long["run"]) == {directory.name for _, _, directory in runner.asked}
    assert long.synthetic.all() and set(long.printed_corpus) == {table.corpus}
    assert made.files[2].read_text().count(r"\begin{table}") == 1


def test_rows_that_tables_share_lie_in_the_same_folder(no_data, tmp_path):
    folders = {}
    for number in (2, 4, 5, 7):
        runner = FakeRunner()
        _make(_request(tmp_path, budget="short"), number, runner)
        folders[number] = [directory for _, _, directory in runner.asked]
    assert folders[2] == [folders[4][6]] and folders[7][0] == folders[4][5] and folders[7][2] == folders[4][6]
    assert folders[5][3] == folders[4][1]  # t = 16
    assert len({folder for listed in folders.values() for folder in listed}) == 7 + 5 + 1
    assert folders[4][0].parent == tmp_path / "lac" / "synthetic-short"


def test_budgets_and_corpora_do_not_share_folders(no_data, tmp_path):
    found = set()
    for budget, corpus in (("smoke", "synthetic"), ("short", "synthetic"), ("short", "disfa")):
        runner = FakeRunner()
        _make(_request(tmp_path, budget=budget, corpus=corpus), 3, runner)
        found.add(runner.asked[0][2])
    assert len(found) == 3


def test_the_paper_budget_runs_all_folds_and_the_others_one(no_data, tmp_path):
    for budget, folds in (("smoke", 1), ("short", 1), ("paper", 3)):
        runner = FakeRunner()
        made = _make(_request(tmp_path, budget=budget, corpus="disfa"), 3, runner)
        (config, asked, _), *_ = runner.asked
        assert asked == folds and config.data.fold == 1
        text = made.files[0].read_text()
        assert ("mean of the folds" in text) == (folds == 3) and "synthetic" not in text
    assert config.stages["clips"].epochs == 200 and config.stages["clips"].max_steps == 0


@pytest.mark.parametrize("error", [ValueError("wrong\nmore"), RuntimeError("out of memory"), OSError("disk")])
def test_a_failed_row_is_named_and_loses_no_other(error, no_data, tmp_path):
    runner = FakeRunner({2: error})
    made = _make(_request(tmp_path), 4, runner)
    assert len(runner.asked) == 7
    assert list(made.failed) == ["Backbone + TS"]
    (reason,) = made.failed.values()
    assert str(error).splitlines()[0] in reason and "more" not in reason
    lines = made.files[0].read_text().splitlines()
    assert any(line.startswith("| Backbone + TS | failed | failed | 65.1 |") for line in lines)
    assert any(line.startswith("| Backbone | 51.0 [") for line in lines)
    assert f"Backbone + TS failed: {reason}" in lines


def test_a_request_to_stop_stops(no_data, tmp_path):
    with pytest.raises(SystemExit):
        _make(_request(tmp_path), 4, FakeRunner({2: SystemExit(143)}))


def test_sizes_are_counted_and_beside_the_printed_ones(tmp_path):
    made = _make(_request(tmp_path), 8, None)
    rows = [line.split(" | ") for line in made.files[0].read_text().splitlines() if line.startswith("| ")]
    found = {row[0].strip("| "): [cell.strip("| ") for cell in row[1:]] for row in rows[2:]}
    assert list(found) == ["ResNet-50", "JAA-Net", "ME-GraphAU", "MDHR", "LAC"]
    assert found["ResNet-50"][0::2][0] == "23.53" and found["ResNet-50"][1] == "23.5"
    assert found["LAC"][:2] == ["27.21", "27.2"]
    assert float(found["LAC"][2]) == pytest.approx(66.8, rel=0.01) and found["LAC"][3] == "66.8"
    assert found["MDHR"] == ["–", "93.2", "–", "924.8"]


_ROW = LAC.tables[4].rows[4]  # of stills, with maps


@pytest.fixture(scope="module")
def smoke(tiny_faces, tmp_path_factory):
    """A table of one row, made; and figures that need the same run."""
    figures = {n: f._replace(rows=(_ROW,), corpus="bp4d") for n, f in LAC.figures.items() if f.rows}
    table = LAC.tables[4]._replace(rows=(_ROW,))
    paper = LAC._replace(tables={4: table}, figures=figures)
    request = _request(tmp_path_factory.mktemp("smoke"), tiny_faces, paper=paper)
    return request, reproduce.make_table(request, 4)


def test_a_smoke_row_trains_scores_and_is_not_trained_again(smoke, monkeypatch):
    request, made = smoke
    assert made.failed == {}
    (run,) = (request.workdir / "lac" / "synthetic-smoke").iterdir()
    lines = [json.loads(line) for line in (run / "fold1" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 20
    scores = json.loads((run / "fold1" / "eval" / "synthetic" / "scores.json").read_text())
    long = pd.read_csv(made.files[1])
    mean = long[(long.selection == "honest") & (long.au == "mean")].iloc[0]
    assert mean.value == scores["stages"]["frames"]["honest"]["mean"]["f1"]
    assert mean.printed == 66.1 and mean.printed_corpus == "bp4d" and mean.run == run.name
    config = json.loads((run / "fold1" / "config.json").read_text())
    absent = set(facs.CORPUS_AUS["bp4d"]) - set(config["data"]["aus"])
    assert all(f"AU{au:02d}" in made.files[0].read_text() for au in absent)

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(reproduce.train, "fit", never)
    before = [path.read_bytes() for path in made.files]
    again = reproduce.make_table(request, 4)
    assert again.failed == {} and [path.read_bytes() for path in again.files] == before


def test_figures_of_a_run(smoke):
    """All of LAC's figures, from the run of the table."""
    request, _ = smoke
    assert list(request.paper.figures) == [4, 5, 6, 7, 8]
    for number in request.paper.figures:
        made = reproduce.make_figure(request, number)
        assert [path.name for path in made.files] == [
            f"figure_{number}_synthetic_smoke.md",
            f"figure_{number}_synthetic_smoke.png",
        ]
        text = made.files[0].read_text()
        assert text.startswith(f"# LAC, Fig. {number}: ") and "synthetic faces" in text.splitlines()[0]
        assert "Budget smoke" in text and made.files[1].name in text
        assert made.files[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(list((request.workdir / "lac" / "synthetic-smoke").iterdir())) == 1


def test_numbers_are_arabic_or_roman():
    assert [reproduce.roman(n) for n in (1, 4, 9, 10, 14, 39)] == ["I", "IV", "IX", "X", "XIV", "XXXIX"]
    assert reproduce.find(LAC.tables, "4", "table") == reproduce.find(LAC.tables, "iv", "table") == 4
    with pytest.raises(ValueError, match=r"--table=9: not in the paper's list \[1, 2"):
        reproduce.find(LAC.tables, "9", "table")


def test_the_catalogue_lists_all_tables_and_figures(monkeypatch):
    listed = reproduce.catalogue(PAPERS)
    count = {paper: [0, 0] for paper in PAPERS}
    for entry in listed:
        count[entry["paper"]][entry["kind"] == "figure"] += 1
    assert count == {
        "gtle_net": [10, 10], "aunet": [15, 10], "aar": [7, 7], "glee_net": [5, 7], "lac": [8, 8],
    }  # fmt: skip
    runnable = [
        (e["kind"], e["number"]) for e in listed if (e["paper"], e["status"]) == ("lac", "runnable here")
    ]
    assert runnable == [("table", reproduce.roman(n)) for n in range(2, 9)] + [
        ("figure", str(n)) for n in range(4, 9)
    ]
    # Where a table's numbers are kept, it is listed on the same corpus.
    others = {(e["paper"], e["number"]): e["others"] for e in listed if e["kind"] == "table"}
    assert others["lac", "II"] == 14 and others["lac", "IV"] == 0 and others["lac", "VIII"] == 3
    monkeypatch.setattr(models, "MODELS", {})
    assert all(e["status"] != "runnable here" for e in reproduce.catalogue(PAPERS))


def test_each_published_table_is_in_the_catalogue_on_its_corpus():
    listed = {(e["paper"], e["number"]): e for e in reproduce.catalogue(PAPERS) if e["kind"] == "table"}
    for name in reproduce.published.PAPERS:
        for cell in reproduce.published.read(name):
            if cell.table != "text":
                entry = listed[name, cell.table]
                several = entry["corpus"] in ("", "mixture") or not cell.corpus
                assert several or entry["corpus"] == cell.corpus, cell


def test_what_cannot_be_made_says_why(tmp_path):
    later = Paper(
        "later", "Later", True, {1: Table("Some table", "bp4d")}, {1: Figure("Some figure", "bp4d")}
    )
    with pytest.raises(ValueError, match="not yet: network later is not here; --list says"):
        _make(_request(tmp_path, paper=later), 1, FakeRunner())
    with pytest.raises(ValueError, match="no results in it"):
        _make(_request(tmp_path), 1, FakeRunner())
    with pytest.raises(ValueError, match="a drawing of the method"):
        reproduce.make_figure(_request(tmp_path), 2)


def test_run_names_stand_for_every_value():
    row = LAC.tables[4].rows[6]
    config = reproduce.configure(LAC, row, "bp4d", "synthetic", "smoke")
    names = {reproduce.run_name(config)}
    names.add(reproduce.run_name(dataclasses.replace(config, seed=1)))
    changed = dataclasses.replace(config.stages["clips"], max_steps=19)
    names.add(reproduce.run_name(dataclasses.replace(config, stages={**config.stages, "clips": changed})))
    other = Row(row.label, row.stages, {**row.overrides, "stages.clips.loss.check": 0.9})
    names.add(reproduce.run_name(reproduce.configure(LAC, other, "bp4d", "synthetic", "smoke")))
    assert len(names) == 4
    relabelled = reproduce.configure(LAC, row._replace(label="other"), "bp4d", "synthetic", "smoke")
    assert reproduce.run_name(relabelled) in names


def _launch(*arguments):
    command = [sys.executable, "-m", "launch.reproduce", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_list_as_json_is_one_object():
    done = _launch("--list", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["entries"]) == 87


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paper=lac"], "--corpus, --budget, --data_dir, --workdir: give a value, or --list alone"),
        (["--table=4", "--corpus=gft"], "give one of ['bp4d', 'disfa', 'synthetic']"),
        (["--table=1"], "no results in it"),
        (["--table=4", "--all"], "--table, --figure and --all: give one of the three"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message):
    given = {word.split("=")[0] for word in arguments}
    if len(given) > 1 or "--table" in given:
        defaults = {"--paper": "lac", "--corpus": "synthetic", "--budget": "smoke"}
        defaults |= {"--data_dir": tmp_path, "--workdir": tmp_path / "w"}
        arguments = arguments + [f"{k}={v}" for k, v in defaults.items() if k not in given]
    done = _launch(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert message in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr


def test_a_missing_data_set_is_named_and_the_status_is_1(tmp_path):
    done = _launch("--paper=lac", "--table=VII", "--corpus=synthetic", "--budget=smoke", "--json",
                   f"--data_dir={tmp_path}", f"--workdir={tmp_path}/w")  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    failed = json.loads(done.stdout)["failed"]
    assert set(failed) == {f"table 7, {loss}" for loss in ("L_CE", "L_WA", "L_DWA")}
    assert "launch.prepare --corpus=synthetic" in done.stderr


def test_all_names_what_fails_and_goes_on(tmp_path):
    done = _launch("--paper=lac", "--all", "--corpus=synthetic", "--budget=smoke", "--json",
                   f"--data_dir={tmp_path}", f"--workdir={tmp_path}/w")  # fmt: skip
    failed = json.loads(done.stdout)["failed"]
    runnable = {
        *(f"table {n}" for n in range(2, 8)),
        *(f"figure {n}" for n in range(4, 9)),
    }  # 8 trains nothing
    assert {name.split(",")[0] for name in failed} == runnable and done.returncode == 1


def test_another_seed_is_another_run_and_another_file(no_data, tmp_path):
    runner = FakeRunner()
    for seed in (0, 2):
        made = _make(_request(tmp_path)._replace(seed=seed), 3, runner)
        assert made.files[0].name == f"table_III_synthetic_smoke{'_seed2' if seed else ''}.md"
        assert f"seed {seed}" in made.files[0].read_text()
    (first, _, there), (second, _, elsewhere) = runner.asked
    assert (first.seed, second.seed) == (0, 2) and there != elsewhere
