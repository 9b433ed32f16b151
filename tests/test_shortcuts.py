"""What a run leans on: AUs that occur together, and groups of frames."""

import dataclasses
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from input_kit import evaluation_input
from sklearn.metrics import f1_score
from small_run import small_config

from data_pipelines.corpora import synthetic
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.records import Records
from data_pipelines.synthetic import SynthConfig, SynthFaces
from jaxau import checkpoint, evaluate, shortcuts, train
from jaxau.report import shortcuts as text

ROOT = Path(__file__).resolve().parents[1]
FACES = SynthConfig(tier="tiny", subjects=9, clips=2, frames=24, size=64, fps=8, nuisance=0.5)  # tiny_faces
pytestmark = pytest.mark.filterwarnings("ignore:interval may be too narrow", "ignore:no interval")


def config():
    whole = small_config()
    return dataclasses.replace(
        whole, stages={"frames": dataclasses.replace(whole.stages["frames"], epochs=1)}
    )


@pytest.fixture(scope="module")
def data_dir(tiny_faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(tiny_faces / "synthetic", folder / "synthetic")
    return folder


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train.run(config(), partial(make_data, data_dir=data_dir), workdir)
    return workdir


def _command(run, data_dir, *more):
    command = [sys.executable, "-m", "launch.shortcuts", f"--workdir={run}", f"--data_dir={data_dir}", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def report(run, data_dir):
    done = _command(run, data_dir, "--workers=1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads((run / "eval/synthetic/shortcuts.json").read_text()) == found
    return found


def test_aus_alone_are_scored_on_the_same_unseen_people(run, data_dir, report):
    source, model = Records(data_dir / "factorial", "synthetic"), checkpoint.load_model(run)
    assert source.manifest["generator"]["profile"] == "factorial"
    assert source.manifest["attributes"] == Records(data_dir, "synthetic").manifest["attributes"]
    numbers = {s["name"]: i for i, s in enumerate(source.manifest["subjects"])}
    tested = [numbers[name] for name in report["subjects"]]
    frames = [frame for frame in map(source.frame, range(len(source))) if frame.subject in tested]
    assert len(frames) == 3 * 24
    images = np.concatenate(
        [
            evaluation_input(
                f.image[None], f.landmarks[None], "jaa256", config().stages["frames"].augment, 32
            )[0]
            for f in frames
        ]
    )
    logits = np.asarray(model.network.apply(model.variables, images, train=False)["logits"])
    thresholds = checkpoint.read_info(run)["thresholds"]
    columns = [source.manifest["aus"].index(au) for au in report["aus"]]
    truth = np.stack([frame.intensity[columns] for frame in frames]) >= 1.5
    assert truth.any(0).sum() >= 2
    for column, row in enumerate(report["independent"]["per_au"]):
        present = 1 / (1 + np.exp(-logits[:, column])) >= thresholds[column]
        if truth[:, column].any():
            assert row["f1"] == pytest.approx(f1_score(truth[:, column], present))
        usual, drop = report["usual"]["per_au"][column], report["drop"]["per_au"][column]
        if None not in (usual["auc"], row["auc"]):
            assert drop["auc"] == pytest.approx(usual["auc"] - row["auc"])


def test_frames_are_grouped_by_what_their_people_and_heads_are(run, data_dir, report):
    faces, found = SynthFaces(FACES), evaluate.read_predictions(run / "eval/synthetic", "frames")
    assert set(report["groups"]) == {"sex", "skin tone", "age", "glasses", "pose"}
    expected = {"frontal": 0, "turned": 0, "far turned": 0}
    tones: dict[str, int] = {}
    for subject, clip, t in zip(found["subject"], found["video"], found["frame"], strict=True):
        yaw = abs(faces.frame(int(subject), int(clip), int(t)).pose[0])
        expected["frontal" if yaw < 10 else "turned" if yaw < 25 else "far turned"] += 1
        tone = faces.attributes(int(subject))["skin tone"]
        tones[tone] = tones.get(tone, 0) + 1
    poses = {name: score["frames"] for name, score in report["groups"]["pose"]["groups"].items()}
    assert poses == {name: count for name, count in expected.items() if count}
    assert {n: s["frames"] for n, s in report["groups"]["skin tone"]["groups"].items()} == tones


def test_the_report_says_synthetic_and_what_is_undefined(run, report):
    printed, written = text.print_report(report), (run / "eval/synthetic/shortcuts.md").read_text()
    assert printed.startswith("synthetic |") and written.startswith("# Shortcuts (synthetic)")
    assert written == text.markdown(report)
    drop = report["drop"]["per_au"][0] | {"skew_f1": None, "auc": -0.25}
    undefined = report | {"drop": report["drop"] | {"per_au": [drop, *report["drop"]["per_au"][1:]]}}
    assert "-.250" in text.print_report(undefined)
    for told in (printed, written):
        assert "profile factorial" in told and "pose: frontal" in told and "skin tone: " in told


def test_other_people_and_other_runs_are_refused(run, data_dir, report, tmp_path):
    other = dataclasses.replace(FACES, subjects=6, clips=1, frames=8, seed=3)
    prepare(synthetic.corpus(other, "jaa256"), tmp_path / "other", workers=1)
    here = partial(make_data, data_dir=data_dir)
    with pytest.raises(ValueError, match="draw the same people"):
        shortcuts.examine(run, here, partial(make_data, data_dir=tmp_path / "other"), lambda _: np.zeros(1))
    done = _command(run, data_dir / "factorial")
    assert done.returncode == 1 and "has the profile factorial already" in done.stderr
