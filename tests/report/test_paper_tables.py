"""Shapes of the papers' tables: ours and the printed numbers, each under its own corpus's name."""

import pytest

from jaxau.report import paper_tables, published
from jaxau.report.paper_tables import Result
from jaxau.report.published import Cell

ENDS = {"f1_low": None, "f1_high": None}


def _score(f1, low=None, high=None):
    """F1 per AU, and their mean with an interval."""
    defined = [value for value in f1.values() if value is not None]
    return {
        "per_au": [{"au": au, "f1": value, **ENDS} for au, value in f1.items()],
        "mean": {"f1": sum(defined) / len(defined), "f1_low": low, "f1_high": high},
    }


def _scores(honest, half):
    return {"stages": {"frames": {}, "clips": {"honest": honest, "at_half": half}}}


def _result(label, published_name, honest, half, **fields):
    return Result(label, published_name, {"run": "abc"}, _scores(honest, half), stage="clips", **fields)


def _cells(table, corpus, values, metric="f1"):
    return [Cell("lac", table, corpus, metric, name, au, value, "", "") for name, au, value in values]


def test_setting_table():
    cells = _cells("IV", "bp4d", [("plain", "mean", 62.6), ("more", "mean", 65.1)])
    results = [
        _result("Plain", "plain", _score({1: 0.5, 2: 0.7}, 0.41, 0.789), _score({1: 0.25, 2: 0.25})),
        Result("More", "more", error="it broke"),
    ]
    table = paper_tables.setting_table(results, cells, "bp4d", "synthetic")
    assert list(table) == [
        "setting",
        "F1 [95 %], synthetic faces, honest thresholds",
        "F1 [95 %], synthetic faces, threshold .5",
        "printed F1, BP4D",
    ]
    assert table.to_numpy().tolist() == [
        ["Plain", "60.0 [41.0, 78.9]", "25.0", "62.6"],
        ["More", "failed", "failed", "65.1"],
    ]


def test_method_table_has_all_printed_rows_then_ours():
    cells = _cells(
        "II", "bp4d", [("DRML", 1, 36.4), ("DRML", 2, 41.8), ("DRML", "mean", 39.1), ("LAC", 1, 61.5)]
    )
    result = _result("LAC", "LAC", _score({1: 0.5, 25: None}, 0.4, 0.6), _score({1: 0.333, 25: 0.5}))
    table = paper_tables.method_table([result], cells, "bp4d", "synthetic")
    assert table.to_dict("records") == [
        {"method": "DRML", "data": "BP4D (printed)", "AU01": "36.4", "AU02": "41.8", "AU25": "–",
         "mean [95 %]": "39.1"},
        {"method": "LAC", "data": "BP4D (printed)", "AU01": "61.5", "AU02": "–", "AU25": "–",
         "mean [95 %]": "–"},
        {"method": "LAC, here, honest thresholds", "data": "synthetic faces", "AU01": "50.0", "AU02": "–",
         "AU25": "–", "mean [95 %]": "50.0 [40.0, 60.0]"},
        {"method": "LAC, here, threshold .5", "data": "synthetic faces", "AU01": "33.3", "AU02": "–",
         "AU25": "50.0", "mean [95 %]": "41.6"},
    ]  # fmt: skip


def test_method_table_of_lacs_own_numbers():
    """Table II as printed: fifteen methods, twelve AUs."""
    cells = published.read_table("lac", "II")
    table = paper_tables.method_table([Result("LAC", "LAC", error="x")], cells, "bp4d", "synthetic")
    assert table.shape == (15 + 2, 2 + 12 + 1)
    row = table[table.method == "LAC"].iloc[0].tolist()
    assert row[2:] == "61.5 49.6 61.8 79.2 79.7 85.2 88.0 70.1 58.4 64.8 51.7 57.0 67.3".split()
    assert table.iloc[-1].tolist()[2:] == ["–"] * 12 + ["failed"]


def test_size_table():
    cells = _cells("VIII", "", [("ResNet50", None, 23.5), ("MDHR", None, 93.2)], "parameters")
    cells += _cells("VIII", "", [("ResNet50", None, 66.1), ("MDHR", None, 924.8)], "macs")
    size = {"parameters": 23_508_032, "macs": 65_750_000_000}
    table = paper_tables.size_table([Result("ResNet-50", "ResNet50", size=size)], cells)
    assert table.to_numpy().tolist() == [
        ["ResNet-50", "23.51", "23.5", "65.75", "66.1"],
        ["MDHR", "–", "93.2", "–", "924.8"],
    ]


def test_several_folds_mean_of_folds_with_the_interval_of_the_pooled():
    folds, pooled = _score({1: 0.5, 2: 0.7}), _score({1: 0.4, 2: 0.6}, 0.45, 0.55)
    result = _result("Plain", "", folds, folds, pooled=_scores(pooled, pooled))
    table = paper_tables.setting_table([result], [], "bp4d", "disfa")
    assert table.iloc[0].tolist()[1:] == ["60.0 [45.0, 55.0]", "60.0 [45.0, 55.0]", "–"]
    pooled["per_au"][1] |= {"f1_low": 0.5, "f1_high": 0.7}
    shown = result.score("honest")["per_au"]
    assert [(row["f1"], row["f1_low"], row["f1_high"]) for row in shown] == [
        (0.5, None, None),
        (0.7, 0.5, 0.7),
    ]


def test_long_table_is_unrounded_and_names_the_corpus_of_print():
    cells = _cells("IV", "bp4d", [("plain", "mean", 62.6)])
    results = [
        _result("Plain", "plain", _score({1: 1 / 3, 2: None}), _score({1: 0.25, 2: 0.25})),
        Result("More", "more", error="it broke"),
    ]
    table = paper_tables.long_table(results, cells, "bp4d")
    mean = table[(table.selection == "honest") & (table.au == "mean")].iloc[0]
    assert mean.value == pytest.approx(1 / 3, abs=1e-15) and mean.printed == 62.6
    assert mean.printed_corpus == "bp4d" and mean.run == "abc"
    assert table[table.au == 2].value.isna().tolist() == [True, False]  # undefined stays undefined
    assert table[table["row"] == "More"].error.tolist() == ["it broke"]


def test_names_of_corpora():
    assert paper_tables.corpus_name("bp4d_to_disfa") == "BP4D to DISFA"
    assert paper_tables.corpus_name("mixture_to_bp4d") == "BP4D + DISFA + Aff-Wild2 to BP4D"
    for paper in published.PAPERS:
        for cell in published.read(paper):
            assert all(part in paper_tables.CORPUS_NAMES for part in cell.corpus.split("_to_") if part), cell


def test_document_escapes_latex():
    cells = _cells("IV", "bp4d", [("plain", "mean", 62.6)])
    result = _result("L_CE & t", "plain", _score({1: 0.5}), _score({1: 0.5}))
    table = paper_tables.setting_table([result], cells, "bp4d", "synthetic")
    markdown, latex = paper_tables.document("Title (synthetic faces)", ["seed 0 | 32 px"], table)
    assert markdown.startswith("# Title (synthetic faces)\n\n| setting |") and "seed 0 | 32 px" in markdown
    assert r"L\_CE \& t" in latex and r"95 \%" in latex and r"\toprule" in latex
    assert "synthetic faces" in latex
