"""The synthetic corpus and its launcher: records are the generator's frames, whatever interrupts."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.corpora import synthetic
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.records import Records, check, summarize
from data_pipelines.synthetic import SynthConfig, SynthFaces
from jaxau import facs
from jaxau.config import Config, DataConfig, Stage
from jaxau.faces.align import align, transform_points
from jaxau.faces.landmarks import five_points

REPOSITORY = Path(__file__).resolve().parents[2]
FEW = SynthConfig(tier="tiny", subjects=10, clips=2, frames=4, size=64, nuisance=0.5)


def test_records_are_the_aligned_frames_of_the_generator(tiny_faces):
    source = Records(tiny_faces, "synthetic")
    manifest = source.manifest
    assert manifest["counts"] == {"subjects": 9, "videos": 18, "records": 432}
    request = manifest["request"]
    config = SynthConfig(**{f.name: request[f.name] for f in dataclasses.fields(SynthConfig)})
    faces = SynthFaces(config)
    for index in (0, 47, 200, 431):
        record = source.frame(index)
        subject, rest = divmod(index, 48)
        clip, t = divmod(rest, 24)
        assert (record.subject, record.video, record.frame) == (subject, clip, t)
        frame = faces.frame(subject, clip, t)
        crop, matrix = align(frame.image, frame.lm98, "jaa256")
        assert np.abs(record.image.astype(int) - crop).mean() < 1.0  # JPEG
        np.testing.assert_allclose(record.landmarks, transform_points(frame.lm98, matrix), atol=1e-3)
        np.testing.assert_array_equal(record.intensity, frame.au)


def test_faces_are_upright_and_fill_the_crop(tiny_faces):
    source = Records(tiny_faces, "synthetic")
    points = np.array([five_points(source.frame(i).landmarks) for i in range(0, 432, 20)])
    np.testing.assert_allclose(points[:, 0, 1], points[:, 1, 1], atol=0.01)
    extent = (points.max(1) - points.min(1)).max(1)
    np.testing.assert_allclose(extent, 255 / 2.9, atol=0.01)


def test_manifest_says_that_it_is_synthetic_and_how_it_was_made(tiny_faces):
    manifest = Records(tiny_faces, "synthetic").manifest
    assert manifest["synthetic"] is True and "synthetic faces" in manifest["description"]
    assert manifest["generator"]["generator"].startswith("synth-")
    assert manifest["generator"]["nuisance"] == 0.5
    assert manifest["aus"] == list(facs.SYNTHETIC_AUS)
    assert manifest["label_rule"] == {"min_intensity": 1.5}
    folds = manifest["folds"]["synthetic-3fold"]
    assert sorted(name for fold in folds for name in fold) == [f"S00{i}" for i in range(9)]
    assert check(tiny_faces, "synthetic") == []


def test_manifest_says_who_the_people_are_and_its_hash_holds_that(tiny_faces):
    manifest = Records(tiny_faces, "synthetic").manifest
    faces = SynthFaces(SynthConfig(tier="tiny", subjects=9, clips=2, frames=24, size=64, fps=8, nuisance=0.5))
    for number, subject in enumerate(manifest["subjects"]):
        traits, said = faces.person(number).traits, manifest["attributes"][subject["name"]]
        assert said["sex"] == ("male" if traits.masculine else "female")
        assert said["glasses"] == ("no" if traits.glasses is None else "yes")
        third = 0 if traits.melanin < 0.30 else 1 if traits.melanin < 0.60 else 2  # of the population
        assert said["skin tone"] == ["light", "medium", "dark"][third]
        third = 0 if traits.age < 0.295 else 1 if traits.age < 0.524 else 2
        assert said["age"] == ["young", "middle", "old"][third]
    names = [subject["name"] for subject in manifest["subjects"]]
    assert summarize([], manifest, names) != summarize([], manifest | {"attributes": {}}, names)
    without = {key: value for key, value in manifest.items() if key != "attributes"}
    # As it was before there were attributes, so that corpora without them are still the same data sets.
    meaning = {key: without[key] for key in ("aus", "label_rule", "landmarks", "alignment", "folds")}
    expected = hashlib.sha256(json.dumps([meaning, names], sort_keys=True).encode()).hexdigest()
    assert summarize([], without, names)["hash"] == expected


def test_loader_reads_it(tiny_faces):
    config = Config(
        name="lac",
        data=DataConfig(
            "synthetic", facs.CORPUS_AUS["bp4d"], "synthetic-3fold", image_size=48, clip_length=8
        ),
        stages={"clips": Stage("clips", 1, 2)},
    )
    data = make_data(config, tiny_faces)
    batch = next(iter(data.train("clips", 0)))
    assert batch["image"].shape == (2, 8, 48, 48, 3) and batch["image"].std() > 20
    inside = (batch["au_centers"] > 0) & (batch["au_centers"] < 47)
    assert inside.all() and batch["au_centers_mask"].all()
    assert 0 < data.statistics["n_occ"].sum() < data.statistics["n_coded"].sum()


def files(folder):
    """All files but the shards, whose map fields are in any order; the manifest has their hash."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "array_record" not in path.name
    }


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    prepare(synthetic.corpus(FEW, "jaa256"), folder, workers=1)
    return files(folder)


def command(folder):
    return [
        sys.executable, "-m", "launch.prepare", "--corpus=synthetic", f"--data_dir={folder}",
        "--tier=tiny", "--subjects=10", "--clips=2", "--frames=4", "--size=64", "--nuisance=0.5",
        "--workers=2",
    ]  # fmt: skip


def running():
    """Process number -> parent's, of all processes that have not ended."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_killed_and_started_again_the_launcher_makes_the_same_data_set(tmp_path, few):
    folder = tmp_path / "data"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    first = subprocess.Popen(command(folder), cwd=REPOSITORY, env=environment)
    parts = folder / "synthetic.unfinished" / "parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.005)
    workers = {pid for pid, parent in running().items() if parent == first.pid}
    first.send_signal(signal.SIGKILL)
    first.wait()
    made = len(list(parts.glob("*.npz")))
    assert 1 <= made < 10 and not (folder / "synthetic").exists()
    assert workers
    while workers & running().keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers & running().keys()  # none is left behind

    again = subprocess.run(command(folder), cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "prepared 80 frames of 20 videos of 10 subjects" in again.stdout
    assert files(folder) == few
    assert check(folder, "synthetic") == []


def test_an_error_in_a_worker_reaches_the_caller(tmp_path):
    corpus = synthetic.corpus(FEW, "jaa256")
    broken = dataclasses.replace(corpus, request={**corpus.request, "alignment": "narrow"})
    with pytest.raises(ValueError, match="alignment 'narrow'"):
        prepare(broken, tmp_path, workers=2)
    assert not (tmp_path / "synthetic").exists()


def test_an_unknown_alignment_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="alignment 'jaa2566': not one of"):
        synthetic.corpus(FEW, "jaa2566")


def test_protocols_as_json():
    done = subprocess.run(
        [sys.executable, "-m", "launch.prepare", "--protocols", "--json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {p["protocol"]: p for p in json.loads(done.stdout)["protocols"]}
    assert {"bp4d-3fold", "disfa-3fold", "synthetic-3fold"} <= listed.keys()
    assert listed["disfa-3fold"]["folds"][0]["test_frames"] == 43_605
