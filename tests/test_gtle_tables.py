"""GTLE-Net's tables have the shape of the printed ones: F1, accuracy, AUC of each AU, triplets."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from configs.tables import PAPERS
from data_pipelines.loader import make_data
from jaxau import facs, metrics, reproduce

GTLE = PAPERS["gtle_net"]


def _run(config, folds, data, directory):
    """Scores without training: F1 .4, accuracy .9, AUC .7, triplets .8."""
    truth = np.arange(4)[:, None] % 2 * np.ones(len(config.data.aus))
    score = metrics.score(truth, truth, truth >= 0, 0.5, [0, 0, 1, 1], config.data.aus, bootstrap=0)
    for row in (score["mean"], *score["per_au"]):
        row |= {"f1": 0.4, "accuracy": 0.9, "auc": 0.7}
    score["mean"] |= {"f1_low": 0.3, "f1_high": 0.5}
    score["interval_note"] = "few subjects"
    stages = {"frames": {"epoch": 1, "honest": score, "at_half": score}} if "frames" in config.stages else {}
    others = {
        name: {"epoch": 1, "terms": {"accuracy": 0.8, "loss": 0.1}}
        for name in config.stages
        if name != "frames"
    }
    scores = {
        "corpus": "synthetic", "synthetic": True, "protocol": config.data.protocol, "fold": 1,
        "frames": "all", "selection": "honest", "manifest_hash": "0123456789abcdef",
        "aus": list(config.data.aus),
        "subjects": {"test": ["a", "b"]}, "stages": stages, "other_stages": others, "baselines": {},
    }  # fmt: skip
    return scores, None


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Number of a table -> its rows as lists of cells, and the long table."""
    monkeypatch.setattr(reproduce, "_of_occurring", lambda request, config: config)

    def one(number):
        data = partial(make_data, data_dir=tmp_path)
        request = reproduce.Request(GTLE, "synthetic", "smoke", data, lambda config: 3, tmp_path)
        made = reproduce.make_table(request, number, _run)
        assert made.failed == {}
        text = made.files[0].read_text()
        assert text.startswith(f"# GTLE-Net, Table {number}: ") and "synthetic faces" in text.splitlines()[0]
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
        return rows[0], rows[2:], pd.read_csv(made.files[1]), text

    return one


def test_triplet_accuracy(make):
    head, rows, long, text = make(1)
    assert head == ["setting", "triplet accuracy, synthetic faces", "printed, FEC"]
    assert [row[0] for row in rows] == ["VGG16", "ResNet50", "RepVGG-A2", "InceptionResNetV1"]
    assert [row[1:] for row in rows] == [["80.0", p] for p in ("81.1", "81.1", "81.5", "86.1")]
    assert long["metric"].tolist() == ["triplet_accuracy"] * 4 and long["printed"].iloc[3] == 86.10
    assert "of triplets of its test subjects" in text and "F1 here" not in text


@pytest.mark.parametrize(("number", "aus", "methods"), [(2, 12, 14), (4, 8, 13), (6, 12, 5), (8, 12, 4)])
def test_f1_of_each_au(number, aus, methods, make):
    head, rows, long, _ = make(number)
    assert len(head) == 2 + aus + 1 and len(rows) == methods + 2
    assert rows[-2][0] == "GTLE-Net, here, honest thresholds" and rows[-2][-1] == "40.0 [30.0, 50.0]"
    assert set(long["metric"]) == {"f1"} and len(long) == 2 * (aus + 1)


@pytest.mark.parametrize(
    ("number", "aus", "of_accuracy", "of_auc"), [(3, 12, 5, 4), (5, 8, 5, 4), (7, 12, 1, 1)]
)
def test_accuracy_and_auc_of_each_au(number, aus, of_accuracy, of_auc, make):
    head, rows, long, _ = make(number)
    assert head[:3] == ["method", "data", "metric"] and len(head) == 3 + aus + 1
    assert [row[2] for row in rows] == ["accuracy"] * (of_accuracy + 2) + ["AUC"] * (of_auc + 2)
    ours = [row for row in rows if "here" in row[0]]
    assert [row[-1] for row in ours] == ["90.0", "90.0", "70.0", "70.0"]
    if number == 3:
        printed = {(row[0], row[2]): row[-1] for row in rows}
        assert printed["GTLE-Net", "accuracy"] == "80.8" and printed["GTLE-Net", "AUC"] == "84.2"
    means = long[(long.au == "mean") & (long.selection == "honest")].set_index("metric")["value"]
    assert means.to_dict() == {"accuracy": 0.9, "auc": 0.7}


def test_raf_au_and_ablations(make):
    head, rows, *_ = make(9)
    assert len(head) == 3 + len(facs.CORPUS_AUS["raf_au"]) + 1
    assert {row[2] for row in rows} == {"F1", "accuracy", "AUC"}
    assert [row[0] for row in rows if row[2] == "F1"][-4:-2] == [
        f"w/o GEE, here, {rule}" for rule in ("honest thresholds", "threshold .5")
    ]
    head, rows, _, text = make(10)
    assert len(rows) == 11 + 2 * 11
    assert text.count("begins at random here, without weights.") == 4  # ImageNet's


def test_a_hundredth_of_few_frames_would_show_no_au(tiny_faces, tmp_path):
    """At "smoke" it is a tenth; other budgets take what is asked for."""
    data = partial(make_data, data_dir=tiny_faces)
    for budget, share in (("smoke", 0.1), ("short", 0.01)):
        request = reproduce.Request(GTLE, "synthetic", budget, data, lambda config: 3, tmp_path)
        config = reproduce.configure(GTLE, GTLE.figures[4].rows[2], "bp4d", "synthetic", budget)
        found = reproduce._of_occurring(request, config)
        assert config.data.fraction == 0.01 and found.data.fraction == share
        assert found == config if budget == "short" else 0 < len(found.data.aus) < len(config.data.aus)
