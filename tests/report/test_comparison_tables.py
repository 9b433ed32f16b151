"""Tables of rows against the first: relations of AUs, and paired tests; tables across corpora."""

from pathlib import Path

import pytest

from configs.tables import PAPERS
from jaxau import evaluate, facs, reproduce, train
from jaxau.report import paper_tables
from jaxau.report.paper_tables import Result
from jaxau.report.published import Cell


def _compared(l2, dependency, difference=0.0, t=None, p=None, pairs=(66, 66)):
    """Of the form of ``compare.compare``, the row's run as a."""

    def relations(i):
        return {"l2_distance": l2[i], "pairs": pairs[i], "dependency": {"dependency_f1": dependency[i]}}

    mean = {"difference": difference, "low": difference - 0.1, "high": difference + 0.1}
    chosen = {"mean": mean, "t_test": {"t": t, "p": p, "n": 9, "over": "subjects"}}
    return {"relations": {"a": relations(0), "b": relations(1)}, "chosen": chosen}


def _row(label, published="", **fields):
    return Result(label, published, **fields)


def test_relation_table():
    """Less distance is better, more F1 is; a printed difference stands where the method's name begins so."""
    cells = [
        Cell("aunet", "X", f"mixture_to_{corpus}", metric, f"AU-VAE against AU-FAN ({metric})", None, value,
             "", "")
        for corpus, metric, value in (
            ("bp4d", "l2_distance", 2.2), ("disfa", "l2_distance", 6.5), ("bp4d", "dependency_f1", 1.5)
        )
    ]  # fmt: skip
    results = [
        _row("AU-FAN", "AU-FAN", compared=_compared((3.0, 3.0), (0.4, 0.4))),
        _row("AU-VAE", "AU-VAE against", compared=_compared((2.5, 3.0), (0.45, 0.4))),
        _row("none", compared=_compared((None, 3.0), (None, 0.4), pairs=(0, 66))),
        _row("fewer", compared=_compared((2.0, 3.0), (0.4, 0.4), pairs=(28, 66))),
        _row("AUNet", "AUNet", error="it broke"),
    ]
    table = paper_tables.relation_table(results, cells, "mixture", "synthetic").to_dict("records")
    mixture = "BP4D + DISFA + Aff-Wild2 to"
    assert table[1] == {
        "setting": "AU-VAE", "data": "synthetic faces", "pairs of AUs": "66",
        "L2 distance": "2.50", "L2 distance: better than AU-FAN by": "0.50",
        f"printed, %, {mixture} BP4D: L2 distance": "2.2", f"printed, %, {mixture} DISFA: L2 distance": "6.5",
        "dependency F1": "45.0", "dependency F1: better than AU-FAN by": "5.0",
        f"printed, %, {mixture} BP4D: dependency F1": "1.5",
    }  # fmt: skip
    assert [row["L2 distance"] for row in table] == ["3.00", "2.50", "–", "2.00", "failed"]
    assert [row["pairs of AUs"] for row in table] == ["66", "66", "0", "28", "–"]
    assert [row["L2 distance: better than AU-FAN by"] for row in table] == ["–", "0.50", "–", "–", "–"]
    assert [row[f"printed, %, {mixture} BP4D: L2 distance"] for row in table] == ["–", "2.2", "–", "–", "–"]


def test_paired_table():
    cells = [
        Cell("aunet", "XII", "mixture_to_bp4d", metric, "AU-VAE against", None, value, "", "")
        for metric, value in (("t_statistic", -26.78), ("p_value", 6.33e-158))
    ]
    results = [
        _row("AU-FAN"),
        _row("AU-VAE", "AU-VAE against", compared=_compared((1, 1), (1, 1), 0.05, 2.345, 0.0012)),
        _row("AUNet", "AUNet against", error="it broke"),
    ]
    table = paper_tables.paired_table(results, cells, "mixture_to_bp4d", "synthetic").to_dict("records")
    printed = "BP4D + DISFA + Aff-Wild2 to BP4D"
    assert table == [
        {"setting": "AU-VAE less AU-FAN", "data": "synthetic faces", "F1 [95 %]": "5.0 [-5.0, 15.0]",
         "t": "2.35", "p": "0.0012", "subjects": "9", f"printed t of AU-FAN less it, {printed}": "-26.78",
         f"printed p, {printed}": "6.3e-158"},
        {"setting": "AUNet less AU-FAN", "data": "synthetic faces", "F1 [95 %]": "failed", "t": "–",
         "p": "–", "subjects": "–", f"printed t of AU-FAN less it, {printed}": "–",
         f"printed p, {printed}": "–"},
    ]  # fmt: skip


@pytest.fixture
def cross(monkeypatch, tmp_path):
    """What is trained and what is tested, without doing either."""
    asked = []
    monkeypatch.setattr(train, "run", lambda config, data, folder: asked.append((config, folder)))

    def test(folder, data, corpus, coded):
        asked.append((folder, corpus, tuple(coded)))
        return Path("scores")

    monkeypatch.setattr(evaluate, "cross_corpus", test)
    rules = {"at_half": {"mean": 1}, "model": {"mean": 2}}
    monkeypatch.setattr(evaluate, "read_scores", lambda folder: {"stages": {"tuples": dict(rules)}})
    return asked


def test_a_model_is_tested_on_the_corpus_behind_to(cross, tmp_path):
    paper, number = PAPERS["aunet"], 4
    table = paper.tables[number]
    assert table.corpus == "bp4d_to_disfa"
    config = reproduce.configure(paper, table.rows[2], table.corpus, "bp4d_to_disfa", "paper")
    assert config == reproduce.configure(paper, table.rows[2], "bp4d", "bp4d", "paper")  # the same run
    scores, pooled = reproduce.score_run(config, 3, None, tmp_path, "disfa")
    assert cross == [(config, tmp_path / "fold1"), (tmp_path / "fold1", "disfa", facs.CORPUS_AUS["disfa"])]
    assert scores["stages"]["tuples"]["honest"] == {"mean": 2} and pooled is None
    with pytest.raises(ValueError, match=r"--corpus=\.\.\._to_mars: test on one of \['bp4d'"):
        reproduce.score_run(config, 1, None, tmp_path, "mars")


def test_other_data_than_the_papers_are_said():
    said = reproduce._other_data("bp4d_to_disfa", "synthetic")
    assert said == [
        "The paper trains on BP4D and tests on DISFA; here the training and the test subjects are all of "
        "synthetic faces."
    ]
    assert (
        reproduce._other_data("bp4d_to_disfa", "bp4d_to_disfa") == reproduce._other_data("bp4d", "gft") == []
    )


def test_given_weights_stand_over_a_rows_own(tmp_path):
    """Where its network has such parameters, which ResNet18 does not."""
    paper = PAPERS["aunet"]
    request = reproduce.Request(
        paper, "synthetic", "smoke", None, None, tmp_path, weights={"fan": "runs/fan"}
    )
    table = paper.tables[3]
    got = {row.label: reproduce._configure(request, row, table).weights for row in table.rows}
    assert got == {"ResNet18": {}, "ResNet18, ImageNet": {}, "AU-FAN": {"fan": "runs/fan"}}
    runs = [reproduce._configure(r, table.rows[2], table) for r in (request, request._replace(weights={}))]
    assert reproduce.run_name(runs[0]) != reproduce.run_name(runs[1])
