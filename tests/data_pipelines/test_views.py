"""Tuples, triplets, labels, emotions and landmarks: the batches of the architecture, from the right "
"records."""

import dataclasses
import json
import shutil
from itertools import islice

import cv2
import numpy as np
import pytest
import simplejpeg

from data_pipelines import examples, protocols, sampling, transforms, views
from data_pipelines.loader import make_data
from data_pipelines.parts import Part
from data_pipelines.preparation import Corpus, prepare
from data_pipelines.records import MANIFEST, Records, encode
from data_pipelines.synthetic import SynthConfig, SynthFaces
from jaxau import facs
from jaxau.config import Augment, Stage
from jaxau.faces import align as align_module
from jaxau.faces.align import align, transform_points
from jaxau.faces.flow import tuple_flow
from jaxau.faces.landmarks import five_points

PLAIN = Augment(0.0, 0.0, 0)
FACES = SynthConfig(tier="default", subjects=1, clips=1, frames=24, size=256, fps=8, nuisance=0.5)
LEVELS = (10, 40, 70, 100, 130, 160, 190, 220)


def with_stage(config, view, corpus="", mine=False, **data):
    stage = Stage(view, epochs=1, batch_size=4, augment=PLAIN, corpus=corpus, mine_triplets=mine)
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


def wide_part(request, number):
    """Wide records of a synthetic face. In the first video it moves, and its last frame has no landmarks; in
    the second it keeps still and the camera turns, comes near and shifts."""
    frames = [SynthFaces(FACES).frame(0, 0, t) for t in range(0, 24, 3)]
    pictures, faces = [frame.image for frame in frames], [frame.lm98 for frame in frames]
    rng = np.random.default_rng(5)
    for _ in frames:
        camera = cv2.getRotationMatrix2D((128, 128), rng.uniform(-25, 25), rng.uniform(0.8, 1.2))
        camera[:, 2] += rng.uniform(-10, 10, 2)
        pictures.append(cv2.warpAffine(pictures[0], camera, (256, 256), borderMode=cv2.BORDER_REPLICATE))
        faces.append(transform_points(faces[0], camera))
    made = [align(picture, face, "wide") for picture, face in zip(pictures, faces, strict=True)]
    points = np.stack([transform_points(face, m) for face, (_, m) in zip(faces, made, strict=True)])
    points[len(frames) - 1] = np.nan
    video, frame = np.divmod(np.arange(len(made)), len(frames))
    return Part(
        [encode(crop) for crop, _ in made],
        points.astype(np.float32),
        np.stack([frame.au for frame in [*frames, *frames]]).astype(np.float32),
        video.astype(np.int32),
        frame.astype(np.int32),
    )


@pytest.fixture(scope="module")
def wide_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    manifest = {"synthetic": True, "description": "synthetic faces", "licence": "none", "fps": 8}
    manifest |= {
        "aus": list(facs.SYNTHETIC_AUS),
        "label_rule": {"min_intensity": 2.0},
        "landmarks": 98,
        "alignment": "wide",
    }
    prepare(Corpus("faces", {}, ["P0"], wide_part, manifest, parts=1), folder, workers=1)
    return folder


def wide_config(flat_config, view, augment, **stage):
    data = dataclasses.replace(
        flat_config.data, corpus="faces", protocol="all", aus=(1, 12), alignment="wide", image_size=256,
        neighbor_distance=2, sampling="all", clip_length=4,
    )  # fmt: skip
    stages = {"only": Stage(view, epochs=1, batch_size=8, augment=augment, **stage)}
    return dataclasses.replace(flat_config, data=data, stages=stages)


TURNED = Augment(0.5, 0.0, 0, rotation=15, scale=0.25, shift=0.05)


def one(batch):
    """The only example of a batch."""
    return {name: values[0] for name, values in batch.items()}


def eyes_of(records, record, matrix):
    return transform_points(five_points(records.frame(record).landmarks)[:2], matrix)


def laid_over(source, target, matrix):
    """Where the similarity that is best in squares, mirrored if ``matrix`` is, puts points (5, 2)."""
    mirror = np.array([np.sign(np.linalg.det(matrix[:, :2])), 1])
    rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source]
    a, b, dx, dy = np.linalg.lstsq(np.reshape(rows, (-1, 4)), (target * mirror).ravel(), rcond=None)[0]
    return (source @ np.array([[a, b], [-b, a]]) + [dx, dy]) * mirror


@pytest.mark.parametrize("training", [True, False])
def test_eyes_of_a_tuple_coincide(flat_config, wide_dir, monkeypatch, training):
    """The pixels come from the matrices that are watched here; where they put the exact eyes is compared."""
    config = wide_config(flat_config, "tuples", TURNED)
    records, used = Records(wide_dir, "faces"), []
    warp = align_module.warp
    for module in (align_module, transforms):
        monkeypatch.setattr(module, "warp", lambda i, m, s: used.append((i, m)) or warp(i, m, s))
    data = make_data(config, wide_dir, threads=0)
    load = examples.Load(records, config, "only", 98)
    found = views.tuples(records.manifest, data._videos("test")[:1], 2, "test")
    assert [plan.mask.tolist() for plan in found] == [
        [False, True, True], [False, True, True], [True] * 3, [True] * 3, [True] * 3,
        [True, True, False],  # the frame after it has no landmarks
        [True, True, False],
        [False, True, False],
    ]  # fmt: skip
    distances, spread = [], []
    for index, plan in enumerate(found):
        used.clear()
        example = one(load([dataclasses.replace(plan, index=index if training else -1)]))
        unique = np.unique(plan.records)
        assert len(used) == len(unique)  # one interpolation for each picture
        if not plan.mask.any() or plan is found[-1]:
            continue
        eyes = np.stack([eyes_of(records, int(r), m) for r, (_, m) in zip(unique, used, strict=True)])
        middle = eyes[list(unique).index(plan.records[1])]
        distances.append(np.linalg.norm(eyes - middle, axis=-1).max())
        spread.append(np.linalg.norm(middle[0] - middle[1]))
        points = [five_points(records.frame(int(r)).landmarks) for r in unique]
        placed = [transform_points(p, matrix) for p, (_, matrix) in zip(points, used, strict=True)]
        target = placed[list(unique).index(plan.records[1])]
        for own, where in zip(points, placed, strict=True) if training else ():
            np.testing.assert_allclose(where, laid_over(own, target, used[0][1]), atol=1e-3)
        for k in (0, 2):
            assert (example["image"][k] == example["image"][1]).all() == (not plan.mask[k])
        if not training:  # each frame is seen alone, so that prediction need see it once
            for image, record in zip(example["image"], plan.records, strict=True):
                frame = records.frame(int(record))
                alone = align_module.to_network_input(frame.image, frame.landmarks, "wide", 256, 0)
                np.testing.assert_array_equal(image, alone)
    assert max(distances) < 1.0 and min(distances) >= 0
    assert (np.ptp(spread) > 5) == training and 45 < min(spread) and max(spread) < 90


@pytest.mark.parametrize("training", [True, False])
def test_pixels_of_the_eyes_coincide(flat_config, wide_dir, training):
    """However the camera moved: patches about the eyes are compared by phase correlation, not by matrices."""
    config = wide_config(flat_config, "tuples", TURNED)
    data, records = make_data(config, wide_dir, threads=0), Records(wide_dir, "faces")
    load = examples.Load(records, config, "only", 98)
    plans = views.tuples(records.manifest, data._videos("test")[1:], 2, "test")
    window, shifts = cv2.createHanningWindow((48, 48), cv2.CV_32F), []
    for index, plan in enumerate(plans):
        example = one(load([dataclasses.replace(plan, index=index if training else -1)]))
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in example["image"]]
        for x, y in five_points(example["landmarks"])[:2].round().astype(int):
            there = np.s_[y - 24 : y + 24, x - 24 : x + 24]
            shifts += [cv2.phaseCorrelate(grey[1][there], grey[k][there], window)[0] for k in (0, 2)]
    assert len(shifts) == 32 and np.abs(shifts).max() < 1.0


def test_neighbours_are_laid_over_the_middle_face_wherever_it_goes():
    rng = np.random.default_rng(0)
    middle, other = rng.uniform(160, 290, (2, 5, 2))
    drawn = transforms.Draw(0, 0, True, degrees=12.0, scale=0.8, shift=(0.04, -0.05))
    moved = transforms.matrices(np.stack([other, middle]), "wide", 256, 256, drawn, onto=1)
    expected = laid_over(other, transform_points(middle, moved[1]), moved[1])
    np.testing.assert_allclose(transform_points(other, moved[0]), expected, atol=1e-6)


def test_flow_of_a_tuple(flat_config, wide_dir):
    config = wide_config(flat_config, "tuples", PLAIN, flow=True)
    batch = next(make_data(config, wide_dir).evaluate("only", "test", 8))
    assert batch["flow"].shape == (8, 256, 256, 4) and batch["flow"].dtype == np.float32
    assert not batch["flow"][0, ..., :2].any() and batch["flow"][0, ..., 2:].any()  # nobody before the first
    texture = cv2.GaussianBlur(rng_picture(), (0, 0), 3)
    trio = np.stack([np.roll(texture, (0, -3), (0, 1)), texture, np.roll(texture, (2, 5), (0, 1))])
    flow = tuple_flow(trio)[30:-30, 30:-30] * 256
    np.testing.assert_allclose(np.median(flow, (0, 1)), [-3, 0, 5, 2], atol=0.15)


def rng_picture():
    return np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)


def test_frames_of_a_wide_clip_are_what_prediction_sees(flat_config, wide_dir):
    batch = next(make_data(wide_config(flat_config, "clips", PLAIN), wide_dir).evaluate("only", "test", 2))
    records = Records(wide_dir, "faces")
    for i, record in enumerate(batch["record"].ravel()[:7]):
        frame = records.frame(int(record))
        expected = align_module.to_network_input(frame.image, frame.landmarks, "wide", 256, 0)
        np.testing.assert_array_equal(batch["image"].reshape(-1, 256, 256, 3)[i], expected)
    for i, t in enumerate(range(0, 21, 9)):  # as `Predictor.prepare` does it, from the picture
        shown = SynthFaces(FACES).frame(0, 0, t)
        crop, matrix = align(shown.image, shown.lm98, "wide")
        points = transform_points(shown.lm98, matrix)
        seen = align_module.to_network_input(crop, points, "wide", 256, 0)
        difference = np.abs(batch["image"].reshape(-1, 256, 256, 3)[3 * i].astype(int) - seen)
        assert difference.mean() < 1.5  # JPEG
    eyes = five_points(batch["landmarks"].reshape(-1, 98, 2)[:7])[:, :2]
    assert np.linalg.norm(eyes - eyes[0], axis=-1).max() < 1.0
    assert np.abs(eyes.mean(0) - [[94.2, 105.7], [160.8, 105.7]]).max() < 8


def test_a_face_without_landmarks_does_not_count_where_they_are_learned(flat_config, wide_dir):
    data = make_data(wide_config(flat_config, "landmarks", PLAIN), wide_dir)
    batch = next(data.evaluate("only", "test", 8))
    assert batch["mask"].tolist() == [True] * 7 + [False]
    frames = next(make_data(wide_config(flat_config, "frames", PLAIN), wide_dir).evaluate("only", "test", 8))
    assert frames["mask"].all() and np.isnan(frames["landmarks"][7]).all()


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


def test_chains_of_triplets_of_another_corpus(flat_config, data_dir, tmp_path, caplog):
    """Of 1, 2, 3 and of 1, 3, 4 the last is the odd one; picture 3 is not there, and yet 1, 2, 4 follows."""
    shutil.copytree(data_dir, tmp_path / "data")
    path = tmp_path / "data" / "fec" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["triplets"] = {"train": [[1, 2, 3, 1], [1, 3, 4, 1], [5, 6, 8, 3]], "test": [[8, 1, 2, 2]]}
    path.write_text(json.dumps(manifest))
    with caplog.at_level("INFO"):
        data = make_data(with_stage(flat_config, "triplets", "fec", mine=True), tmp_path / "data")
    assert "train subjects of fec: 1 are annotated, 1 follow from chains of them; 0 that" in caplog.text
    batch = next(data.train("only"))
    of = {(kind, derived) for kind, derived in zip(batch["triplet_class"], batch["derived"], strict=True)}
    assert of == {(3, False), (1, True)}
    trio = grey(batch["image"][batch["derived"]][0])
    assert np.abs(trio - [LEVELS[0], LEVELS[1], LEVELS[3]]).max() <= 1


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
