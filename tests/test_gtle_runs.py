"""Runs of GTLE-Net: killed and resumed, from triplets to AUs, RAF-AU's form, triplets against pixels."""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from corpus_folders import write_landmarks
from small_run import small_gtle_config

from configs.tables import PAPERS
from data_pipelines.corpora import raf_au, synthetic
from data_pipelines.face_source import FaceSource
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.records import Records
from data_pipelines.synthetic import SynthConfig
from jaxau import checkpoint, evaluate, facs, train
from jaxau import config as config_lib
from jaxau.faces.landmarks import five_points
from jaxau.report import expression_figures, paper_figures


@pytest.fixture(scope="module")
def finished(tiny_faces, tmp_path_factory):
    """An uninterrupted run, scored."""
    workdir = tmp_path_factory.mktemp("run")
    make = partial(make_data, data_dir=tiny_faces)
    train.run(small_gtle_config(), make, workdir)
    evaluate.run(workdir, make)
    return workdir


def test_killed_in_both_stages_gives_the_same_bits(tiny_faces, finished, tmp_path):
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(tiny_faces), str(tmp_path)]
    events = ["batch:5", "save:2", "model", "batch:5", "term:2", "none"]
    codes = [subprocess.run([*child, event, "gtle"], capture_output=True).returncode for event in events]
    assert codes == [-9, -9, -9, -9, 143, 0]
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    for stage in ("triplets", "frames"):
        got, want = (checkpoint.load_model(run / stage).info for run in (tmp_path, finished))
        assert got == want  # with a hash over all parameters


def test_triplets_are_selected_and_scored_by_accuracy_and_hand_the_trunk_on(tiny_faces, finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    inner = [line for line in lines if "inner/accuracy" in line]
    assert [line["stage"] for line in inner] == ["triplets"] and 0 <= inner[0]["inner/accuracy"] <= 1
    scored = [line for line in lines if "inner/f1" in line]
    assert [line["stage"] for line in scored] == ["frames"]
    found = evaluate.read_scores(finished / "eval" / "synthetic")
    assert set(found["stages"]) == {"frames"} and set(found["other_stages"]) == {"triplets"}
    assert 0 <= found["other_stages"]["triplets"]["terms"]["accuracy"] <= 1
    # The cross-entropy of an epoch is that of the stored probabilities' kind: about ln 2 so early.
    assert 0.3 < scored[0]["inner/cross_entropy"] < 1.5

    # One step later, what Adam at its first, smallest rate can move: the trunk is that of the triplets.
    config = small_gtle_config()
    frozen = ("map_extractor", "mask_extractor", "classifiers")
    stages = {
        "triplets": config.stages["triplets"],
        "frames": dataclasses.replace(config.stages["frames"], trainable=frozen, max_steps=1),
    }
    network = {**config.network, "fixed_encoder": True}
    config = dataclasses.replace(config, stages=stages, network=network)
    workdir = finished.parent / "fixed"
    train.run(config, partial(make_data, data_dir=tiny_faces), workdir)
    before, after = (checkpoint.load_model(workdir / stage).variables for stage in stages)
    for kind in ("params", "batch_stats"):
        own = jax.tree_util.tree_leaves_with_path(after[kind]["trunk"])
        assert own
        for path, leaf in own:
            theirs = before[kind]["trunk"]
            for key in path:
                theirs = theirs[key.key]
            np.testing.assert_array_equal(leaf, theirs)
    assert "embedding" in before["params"] and "embedding" not in after["params"]


def test_figures(tiny_faces, finished):
    """Each from the run; the embedding is that of the stage of triplets, for faces whose AUs are known."""
    make = partial(make_data, data_dir=tiny_faces)
    for figure in PAPERS["gtle_net"].figures.values():
        if figure.rows:
            runs = {row.label: finished for row in figure.rows[:2]}
            drawn = paper_figures.DRAW[figure.draws](runs, make)
            assert drawn and all(picture.axes for picture in drawn.values()), figure.title
    faces = expression_figures.embed(finished, make)
    names = {s["name"]: i for i, s in enumerate(make(small_gtle_config()).manifest["subjects"])}
    test = evaluate.read_scores(finished / "eval" / "synthetic")["subjects"]["test"]
    assert set(faces["subject"].tolist()) == {names[name] for name in test}
    np.testing.assert_allclose(np.linalg.norm(faces["embedding"], axis=1), 1, atol=1e-4)
    assert faces["embedding"].shape == (144, 16) and faces["au"].shape == (144, 2)


def test_raf_aus_form_trains_and_scores(tiny_faces, tmp_path):
    """13 AUs of single pictures, whose subjects nobody knows; five landmarks."""
    source, aus = Records(tiny_faces, "synthetic"), facs.CORPUS_AUS["raf_au"]
    lines, table = [], []
    (tmp_path / "raw/aligned").mkdir(parents=True)
    for number in range(1, 109):
        frame = source.frame(4 * number - 1)
        shown = dict(zip(source.manifest["aus"], frame.intensity, strict=True))
        present = [au for i, au in enumerate(aus) if shown[au] >= 1.5 or number % 13 == i]
        lines.append(f"{number:04d}.jpg {'+'.join(map(str, present)) or 'null'}")
        picture = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(tmp_path / f"raw/aligned/{number:04d}_aligned.jpg"), picture)
        table.append((f"{number:04d}", number, five_points(frame.landmarks)))
    (tmp_path / "raw/RAFAU_label.txt").write_text("\n".join(lines) + "\n")
    faces = FaceSource("file", write_landmarks(tmp_path / "raw/landmarks.csv", table))
    prepare(raf_au.corpus(tmp_path / "raw", "jaa256", faces), tmp_path / "data", workers=1)

    config = small_gtle_config(corpus="raf_au", aus=aus, protocol="raf-au-80-20", inner_fraction=0.4)
    stage = dataclasses.replace(config.stages["frames"], start_from="", max_steps=3)
    config = dataclasses.replace(config, stages={"frames": stage})
    make = partial(make_data, data_dir=tmp_path / "data")
    train.run(config, make, tmp_path / "run")
    scores = evaluate.read_scores(evaluate.run(tmp_path / "run", make))
    assert scores["aus"] == list(aus) and scores["protocol"] == "raf-au-80-20"
    assert len(scores["subjects"]["test"]) == 22  # a fifth of the pictures
    assert [row["au"] for row in scores["stages"]["frames"]["honest"]["per_au"]] == list(aus)


@pytest.mark.slow
def test_triplets_teach_more_than_pixels_tell(tmp_path):
    """On people who do not train: 15 points above the distance of pixels, and so on the hard ones alone."""
    from configs.gtle_net import get_config

    faces = SynthConfig(tier="small", subjects=60, clips=4, frames=12, size=96, fps=1, nuisance=0.5)
    prepare(synthetic.corpus(faces, "jaa256"), tmp_path / "data", workers=1)
    values = get_config("synthetic,stages=triplets")
    values.update_from_flattened_dict(
        {"network.trunk": "resnet50", "network.width": 0.25, "data.inner_fraction": 0.15}
    )
    config = config_lib.from_dict(values.to_dict())
    make = partial(make_data, data_dir=tmp_path / "data")
    train.run(config, make, tmp_path / "run")
    model, data = checkpoint.load_model(tmp_path / "run"), make(config)
    step = jax.jit(partial(model.network.apply, train=False))
    owner = np.concatenate([[v["subject"]] * len(v["frames"]) for v in data.manifest["videos"]])

    def right(x):
        near, *far = (((x[:, i] - x[:, j]) ** 2).sum(-1) for i, j in ((0, 1), (0, 2), (1, 2)))
        return (near < far[0]) & (near < far[1])

    learned, pixels, hard = [], [], []
    for batch in data.evaluate("triplets", "test", 32):
        kept = batch["mask"]
        learned.append(right(np.asarray(step(model.variables, batch["image"])["embedding"]))[kept])
        pixels.append(right(batch["image"].reshape(len(kept), 3, -1).astype(np.float64))[kept])
        who = owner[batch["record"]]
        hard.append([len(set(trio)) < 3 for trio in who[kept]])
    learned, pixels, hard = (np.concatenate(parts) for parts in (learned, pixels, hard))
    print(f"all: {learned.mean():.3f} against {pixels.mean():.3f} of pixels; "
          f"hard: {learned[hard].mean():.3f} against {pixels[hard].mean():.3f}")  # fmt: skip
    assert learned.mean() > pixels.mean() + 0.15
    assert learned[hard].mean() > pixels[hard].mean() + 0.15
