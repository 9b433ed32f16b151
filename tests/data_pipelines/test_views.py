"""Tuples, triplets, labels, emotions and landmarks: the batches of the architecture, from the right "
"records."""

import dataclasses
from itertools import islice

import numpy as np
import pytest
import simplejpeg

from data_pipelines import protocols, sampling, views
from data_pipelines.loader import make_data
from data_pipelines.parts import Part
from data_pipelines.preparation import Corpus, prepare
from data_pipelines.records import Records
from jaxau.config import Augment, Stage
from jaxau.faces.landmarks import five_points

PLAIN = Augment(0.0, 0.0, 0)
LEVELS = (10, 40, 70, 100, 130, 160, 190, 220)


def with_stage(config, view, corpus="", **data):
    stage = Stage(view, epochs=1, batch_size=4, augment=PLAIN, corpus=corpus)
    return dataclasses.replace(config, stages={"only": stage}, data=dataclasses.replace(config.data, **data))


def flat_part(request, number):
    """Two subjects, "train" and "test", of 8 grey pictures each, numbered from 1; frame 3 of "train" is "
    "missing."""
    keep = [i for i in range(8) if (number, i) != (0, 2)]
    face = np.random.default_rng(number).uniform(40, 210, (8, 68, 2)).astype(np.float32)
    return Part(
        [simplejpeg.encode_jpeg(np.full((256, 256, 3), LEVELS[i] + 15 * number, np.uint8)) for i in keep],
        face[keep],
        np.zeros((len(keep), 0), np.float32),
        np.zeros(len(keep), np.int32),
        np.array([i + 1 for i in keep], np.int32),
        subject=np.full(len(keep), number, np.int32),
        emotion=np.array([i % 7 for i in keep], np.int32),
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, flat_faces):
    """The flat faces, and beside them pictures under the name of FEC, with emotions and triplets."""
    import shutil

    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(flat_faces / "synthetic", folder / "synthetic")
    triplets = {"train": [[1, 2, 4, 1], [4, 3, 5, 2], [5, 6, 8, 3]], "test": [[8, 1, 2, 2]]}
    manifest = {
        "synthetic": True,
        "description": "flat",
        "licence": "none",
        "fps": 1,
        "aus": [],
        "landmarks": 68,
    }
    manifest |= {"label_rule": {"min_intensity": 1.0}, "alignment": "jaa256", "triplets": triplets}
    corpus = Corpus("fec", {}, ["train", "test"], flat_part, {**manifest, "emotions": ["a"] * 7}, parts=2)
    subjects = dataclasses.replace(corpus, subjects=["train", "test"])
    prepare(subjects, folder, workers=1)
    return folder


def grey(image):
    return np.round(image.reshape(*image.shape[:-3], -1).mean(-1)).astype(int)


def test_tuples(flat_config, data_dir):
    config = with_stage(flat_config, "tuples", neighbor_distance=4)
    data = make_data(config, data_dir)
    batch = next(data.evaluate("only", "test", 48))
    assert batch["image"].shape == (48, 3, 32, 32, 3) and batch["neighbor"].shape == (48, 3)
    assert batch["au"].shape == (48, 4) and batch["au_centers"].shape == (48, 4, 2, 2)
    source = Records(data_dir, "synthetic")
    for i in range(48):
        middle = source.frame(int(batch["record"][i]))
        assert (batch["subject"][i], batch["video"][i], batch["frame"][i]) == (
            middle.subject,
            middle.video,
            middle.frame,
        )
        for k, step in enumerate((-4, 0, 4)):
            there = [
                r for r in range(len(source))
                if (source.raw(r)["subject"], source.raw(r)["video"], source.raw(r)["frame"])
                == (middle.subject, middle.video, middle.frame + step)
            ]  # fmt: skip
            assert batch["neighbor"][i, k] == bool(there)
            if not there:
                np.testing.assert_array_equal(batch["image"][i, k], batch["image"][i, 1])
    assert 0 < (~batch["neighbor"]).sum() < 48 and batch["neighbor"][:, 1].all()


def test_neighbours_have_exactly_that_distance():
    found = sampling.tuples([3, 5, 6, 13, 16], 10)
    assert [(p.tolist(), n.tolist()) for p, n in found] == [
        ([0, 0, 3], [False, True, True]),
        ([1, 1, 1], [False, True, False]),
        ([2, 2, 4], [False, True, True]),
        ([0, 3, 3], [True, True, False]),
        ([2, 4, 4], [True, True, False]),
    ]


def test_neighbours_are_laid_over_the_middle_face():
    rng = np.random.default_rng(0)
    middle = rng.uniform(60, 190, (68, 2))
    angle, scale = 0.2, 1.2
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = middle @ turn.T + [5, -9]
    pictures = np.zeros((3, 256, 256, 3), np.uint8)
    x, y = np.round(moved[30]).astype(int)
    pictures[2, y - 4 : y + 5, x - 4 : x + 5] = 255
    points = np.stack([np.full((68, 2), np.nan), middle, moved])
    images, landmarks = views.align_to_middle(pictures, points)
    np.testing.assert_allclose(landmarks[2], middle, atol=1e-6)
    assert (
        np.isnan(landmarks[0]).all() and (images[0] == pictures[0]).all() and (images[1] == pictures[1]).all()
    )
    dot = np.argwhere(images[2, :, :, 0] > 200).mean(0)[::-1]
    np.testing.assert_allclose(dot, middle[30], atol=0.8)
    # Least squares where no similarity is exact: the normal equations of (a, b, x, y), solved by NumPy.
    noisy = moved + rng.normal(0, 3, moved.shape)
    _, landmarks = views.align_to_middle(pictures, np.stack([noisy, middle, moved]))
    source, target = five_points(noisy), five_points(middle)
    rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source]
    a, b, dx, dy = np.linalg.lstsq(np.reshape(rows, (-1, 4)), target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(landmarks[0], noisy @ np.array([[a, b], [-b, a]]) + [dx, dy], atol=1e-6)


def test_triplets_of_another_corpus(flat_config, data_dir):
    data = make_data(with_stage(flat_config, "triplets", "fec"), data_dir)
    assert data.num_examples("only") == 2  # the picture of frame 3 is not there
    batch = next(data.evaluate("only", "train", 2))
    assert batch["image"].shape == (2, 3, 32, 32, 3) and batch["mask"].tolist() == [True, True]
    expected = {1: [1, 2, 4], 3: [5, 6, 8]}
    for kind, image in zip(batch["triplet_class"].tolist(), grey(batch["image"]), strict=True):
        assert np.abs(image - [LEVELS[frame - 1] for frame in expected[kind]]).max() <= 1
    batch = next(data.evaluate("only", "test", 4))
    assert batch["mask"].tolist() == [True, False, False, False] and batch["triplet_class"][0] == 2
    assert np.abs(grey(batch["image"][0]) - [LEVELS[7] + 15, LEVELS[0] + 15, LEVELS[1] + 15]).max() <= 1
    drawn = list(islice(data.train("only"), 4))
    assert {int(k) for b in drawn for k in b["triplet_class"]} == {1, 3}


def test_a_corpus_without_triplets(flat_config, data_dir):
    with pytest.raises(ValueError, match="the corpus 'synthetic' has no triplets"):
        make_data(with_stage(flat_config, "triplets"), data_dir)


def test_emotions_and_landmarks(flat_config, data_dir):
    data = make_data(with_stage(flat_config, "emotions", "fec"), data_dir)
    assert data.num_examples("only") == 7
    batch = next(data.evaluate("only", "train", 8))
    assert batch["emotion"].tolist()[:7] == [0, 1, 3, 4, 5, 6, 0] and batch["mask"].tolist() == [True] * 7 + [
        False
    ]
    assert batch["image"].shape == (8, 32, 32, 3) and batch["emotion"].dtype == np.int32
    data = make_data(with_stage(flat_config, "landmarks", "fec"), data_dir)
    batch = next(data.evaluate("only", "test", 8))
    assert batch["image"].shape == (8, 32, 32, 3) and batch["landmarks"].shape == (8, 68, 2)
    points = Records(data_dir, "fec").frame(int(batch["record"][3])).landmarks
    np.testing.assert_allclose(batch["landmarks"][3], (points + 0.5) / 8 - 0.5, atol=1e-4)


def test_a_protocol_that_tests_nobody_here(flat_config, data_dir, monkeypatch):
    monkeypatch.setitem(
        protocols.PROTOCOLS, "nobody", protocols.Protocol("synthetic", ((),), rest_trains=True)
    )
    config = with_stage(flat_config, "frames", protocol="nobody")
    data = make_data(config, data_dir)
    assert list(data.evaluate("only", "test", 4)) == [] and len(data.split.train) == 6


def test_labels_need_no_picture(flat_config, data_dir, monkeypatch):
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    data = make_data(with_stage(flat_config, "labels"), data_dir, threads=0)
    batch = next(data.evaluate("only", "test", 6))
    assert "image" not in batch and batch["au"].shape == batch["au_mask"].shape == (6, 4)
    source = Records(data_dir, "synthetic")
    columns = [source.manifest["aus"].index(au) for au in flat_config.data.aus]
    for i, record in enumerate(batch["record"]):
        intensity = source.raw(int(record))["au_intensity"][columns]
        np.testing.assert_array_equal(batch["au_mask"][i], np.isfinite(intensity))
        np.testing.assert_array_equal(
            batch["au"][i][batch["au_mask"][i]], intensity[np.isfinite(intensity)] >= 1.5
        )
