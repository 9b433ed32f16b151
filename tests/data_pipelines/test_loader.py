"""Batches: shapes, labels, masks, order, and the same data from any position and machine."""

import dataclasses
import itertools
import json
import logging

import chex
import jax
import numpy as np
import pytest
from input_kit import evaluation_input

from data_pipelines.loader import make_data
from data_pipelines.records import Records
from jaxau.config import Augment, Stage
from jaxau.faces.landmarks import au_centers


def take(batches, n):
    return list(itertools.islice(batches, n))


def with_data(config, **changes):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


@pytest.fixture(scope="module")
def data(flat_config, flat_faces):
    return make_data(flat_config, flat_faces)


@pytest.fixture(scope="module")
def source(flat_faces):
    return Records(flat_faces, "synthetic")


@pytest.mark.parametrize(("stage", "lead"), [("stills", (6,)), ("sequences", (4, 5))])
@pytest.mark.parametrize("training", [True, False])
def test_batch_shapes_and_types(data, stage, lead, training):
    batches = data.train(stage) if training else data.evaluate(stage, "inner", lead[0])
    (batch,) = take(batches, 1)
    expected = {
        "image": ((32, 32, 3), np.uint8),
        "au": ((4,), np.int32),
        "au_mask": ((4,), np.bool_),
        "intensity": ((4,), np.float32),
        "intensity_mask": ((4,), np.bool_),
        "landmarks": ((98, 2), np.float32),
        "au_centers": ((4, 2, 2), np.float32),
        "au_centers_mask": ((4,), np.bool_),
        "subject": ((), np.int32),
        "video": ((), np.int32),
        "frame": ((), np.int32),
        "corpus": ((), np.int32),
        "mask": ((), np.bool_),
        "record": ((), np.int32),
    }
    assert batch.keys() == expected.keys()
    for key, (shape, dtype) in expected.items():
        chex.assert_shape(batch[key], (*lead, *shape))
        assert batch[key].dtype == dtype, key


def test_examples_are_the_records_they_name(data, source, flat_config):
    columns = [source.manifest["aus"].index(au) for au in flat_config.data.aus]
    for batch in data.evaluate("stills", "train", 8):
        for i in np.flatnonzero(batch["mask"]):
            frame = source.frame(batch["record"][i])
            image, points = evaluation_input(
                frame.image[None], frame.landmarks[None], "jaa256", Augment(resize_to=40), 32
            )
            np.testing.assert_array_equal(batch["image"][i], image[0])
            np.testing.assert_array_equal(batch["landmarks"][i], points[0])
            intensity = frame.intensity[columns]
            coded = np.isfinite(intensity)
            np.testing.assert_array_equal(batch["au_mask"][i], coded)
            np.testing.assert_array_equal(batch["intensity"][i][coded], intensity[coded])
            np.testing.assert_array_equal(batch["au"][i][coded], intensity[coded] >= 1.5)
            who = (batch["subject"][i], batch["video"][i], batch["frame"][i])
            assert who == (frame.subject, frame.video, frame.frame)


def test_au_centers_are_those_of_the_landmarks_in_the_input(data, flat_config):
    for batch in take(data.train("stills"), 4):
        ok = np.isfinite(batch["landmarks"]).all((1, 2))
        centers, mask = au_centers(batch["landmarks"][ok], flat_config.data.aus)
        np.testing.assert_allclose(batch["au_centers"][ok], centers, atol=1e-5)
        assert (batch["au_centers_mask"][ok] == mask).all()
        assert mask.tolist() == [True, True, False, True]  # AU 43 has no centre


def find_record(batches, record):
    for batch in batches:
        hit = (batch["record"] == record) & batch["mask"]
        if hit.any():
            return {key: value[hit][0] for key, value in batch.items()}
    raise AssertionError(record)


def test_an_uncoded_au_is_masked(flat_config, flat_faces):
    data = make_data(with_data(flat_config, fold=2), flat_faces)
    part = next(p for p in ("train", "inner") if "P0" in getattr(data.split, p))
    example = find_record(data.evaluate("stills", part, 8), 3)
    assert example["au_mask"].tolist() == [False, True, True, True]
    assert example["intensity"][0] == 0 and example["au"][0] == 0


@pytest.mark.parametrize("stage", ["stills", "sequences"])
def test_missing_landmarks_are_said_and_masked(flat_config, flat_faces, stage, caplog):
    with caplog.at_level(logging.WARNING):
        data = make_data(with_data(flat_config, fold=2), flat_faces)
    assert "1 of 432 records of synthetic have no landmarks" in caplog.text
    assert "record 77, P1_1 frame 5" in caplog.text
    part = next(p for p in ("train", "inner") if "P1" in getattr(data.split, p))
    example = find_record(data.evaluate(stage, part, 4), 77)
    assert not example["au_centers_mask"].any()
    assert np.isnan(example["landmarks"]).all()
    neighbour = find_record(data.evaluate(stage, part, 4), 76)
    assert neighbour["au_centers_mask"].tolist() == [True, True, False, True]


def test_statistics_are_those_of_the_training_subjects(data, source, flat_config):
    columns = [source.manifest["aus"].index(au) for au in flat_config.data.aus]
    names = [s["name"] for s in source.manifest["subjects"]]
    frames = [source.frame(i) for i in range(len(source))]
    chosen = [f.intensity[columns] for f in frames if names[f.subject] in data.split.train]
    assert data.statistics["n"] == len(chosen) == 48 * len(data.split.train)
    np.testing.assert_array_equal(data.statistics["n_occ"], (np.array(chosen) >= 1.5).sum(0))
    np.testing.assert_array_equal(data.statistics["n_coded"], np.isfinite(chosen).sum(0))


def test_an_epoch_of_clips_draws_each_subsequence_once(data):
    clips = 3 * 2 * len(data.split.train)
    assert data.num_examples("sequences") == clips == 24
    epochs = []
    batches = data.train("sequences")
    for _ in range(3):
        epoch = take(batches, clips // 4)
        first = np.concatenate([batch["record"][:, 0] for batch in epoch])
        for batch in epoch:
            assert (np.diff(batch["record"], axis=1) == 1).all()
            assert (batch["subject"] == batch["subject"][:, :1]).all()
            assert (batch["video"] == batch["video"][:, :1]).all()
            assert batch["mask"].all()
        # 24 frames a video, 3 subsequences of 8: each (video, subsequence) exactly once.
        assert len(set((first // 8).tolist())) == clips
        assert (first % 8 <= 3).all()
        epochs.append(first)
    assert (np.sort(epochs[0]) != np.sort(epochs[1])).any()
    assert (epochs[0] // 8 != epochs[1] // 8).any()  # another order, too


def test_an_epoch_of_stills_holds_the_frames_of_the_same_clips(data):
    assert data.num_examples("stills") == 24 * 5
    for epoch in range(2):
        stills = take(data.train("stills", start=epoch * 120), 20)
        clips = take(data.train("sequences", start=epoch * 24), 6)
        of_stills = np.sort(np.concatenate([batch["record"] for batch in stills]))
        of_clips = np.sort(np.concatenate([batch["record"].ravel() for batch in clips]))
        np.testing.assert_array_equal(of_stills, of_clips)


@pytest.mark.parametrize("stage", ["stills", "sequences"])
def test_sampling_all_trains_on_every_frame(flat_config, flat_faces, stage):
    data = make_data(with_data(flat_config, sampling="all"), flat_faces)
    n, size = data.num_examples(stage), flat_config.stages[stage].batch_size
    batches = take(data.train(stage), -(-n // size))
    rows = np.concatenate([batch["record"] for batch in batches])[:n].ravel()
    real = np.concatenate([batch["mask"] for batch in batches])[:n].ravel()
    assert sorted(rows[real].tolist()) == sorted(training_records(data))


def training_records(data, part="train"):
    return [
        video["start"] + i
        for video in data.manifest["videos"]
        if video["subject_name"] in getattr(data.split, part)
        for i in range(len(video["frames"]))
    ]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        chex.assert_trees_all_equal(a, b)


@pytest.mark.parametrize("stage", ["stills", "sequences"])
@pytest.mark.parametrize("threads", [0, 2])
def test_going_on_at_any_position_gives_the_uninterrupted_batches(
    flat_config, flat_faces, data, stage, threads
):
    size = flat_config.stages[stage].batch_size
    whole = take(data.train(stage), 26)  # more than an epoch
    other = make_data(flat_config, flat_faces, threads)
    for k in (0, 1, 7, 21):
        assert_same(take(other.train(stage, start=k * size), 5), whole[k : k + 5])


def test_batches_of_one(flat_config, flat_faces):
    stage = dataclasses.replace(flat_config.stages["stills"], batch_size=1)
    config = dataclasses.replace(flat_config, stages={"stills": stage})
    alone = take(make_data(config, flat_faces).train("stills", 3), 3)
    together = take(make_data(flat_config, flat_faces).train("stills"), 1)[0]
    assert [int(b["record"][0]) for b in alone] == together["record"][3:6].tolist()


@pytest.mark.parametrize("stage", ["stills", "sequences"])
def test_two_processes_share_the_same_global_batches(data, stage, monkeypatch):
    size = 6 if stage == "stills" else 4
    whole = take(data.train(stage, start=3 * size), 4)
    parts = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        parts.append(take(data.train(stage, start=3 * size), 4))
    for i, batch in enumerate(whole):
        for key, value in batch.items():
            shared = np.empty_like(value)
            shared[0::2], shared[1::2] = parts[0][i][key], parts[1][i][key]
            np.testing.assert_array_equal(shared, value)


def test_processes_must_divide_the_batch(data, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(ValueError, match="'stills': a batch of 6 cannot be shared by 4"):
        data.train("stills")


def test_runs_differ_by_seed_and_stages_by_name(flat_config, flat_faces, data):
    (batch,) = take(data.train("stills"), 1)
    other = make_data(dataclasses.replace(flat_config, seed=4), flat_faces)
    assert (take(other.train("stills"), 1)[0]["record"] != batch["record"]).any()
    renamed = dataclasses.replace(flat_config, stages={"again": flat_config.stages["stills"]})
    (same_view,) = take(make_data(renamed, flat_faces).train("again"), 1)
    assert (same_view["record"] != batch["record"]).any()


def test_an_example_is_augmented_anew_each_epoch(flat_config, flat_faces):
    one_record = with_data(flat_config, clip_length=24, subsequences=1)
    data = make_data(one_record, flat_faces)
    n = data.num_examples("stills")
    seen = {}
    for batch in take(data.train("stills"), 3 * n // 6):
        for record, image in zip(batch["record"], batch["image"], strict=True):
            seen.setdefault(int(record), []).append(image.tobytes())
    assert all(len(images) == 3 for images in seen.values())
    assert np.mean([len(set(images)) for images in seen.values()]) > 2.5


@pytest.mark.parametrize("part", ["train", "inner", "test"])
@pytest.mark.parametrize(("stage", "batch_size"), [("stills", 7), ("sequences", 4)])
def test_evaluation_reads_each_frame_once(data, part, stage, batch_size):
    batches = list(data.evaluate(stage, part, batch_size))
    assert all(len(batch["record"]) == batch_size for batch in batches)
    real = np.concatenate([batch["record"][batch["mask"]] for batch in batches])
    assert real.tolist() == training_records(data, part)
    again = list(data.evaluate(stage, part, batch_size))
    assert_same(again, batches)


def test_evaluation_windows_keep_to_videos_and_gaps(flat_config, flat_faces):
    data = make_data(with_data(flat_config, fold=1), flat_faces)
    part = next(p for p in ("train", "inner", "test") if "P2" in getattr(data.split, p))
    for batch in data.evaluate("sequences", part, 4):
        for row in range(4):
            ok = batch["mask"][row]
            assert (np.diff(batch["frame"][row][ok]) == 1).all()
            assert len(set(batch["video"][row])) == len(set(batch["subject"][row])) == 1
            if ok.any():
                last = batch["record"][row][ok][-1]
                assert (batch["record"][row][~ok] == last).all()


def test_evaluation_is_shared_by_processes(data, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    real = []
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        batches = list(data.evaluate("sequences", "test", 8))
        assert all(batch["mask"].shape == (4, 5) for batch in batches)
        real += [int(r) for batch in batches for r in batch["record"][batch["mask"]]]
    assert sorted(real) == training_records(data, "test")


def test_an_alignment_that_the_data_set_lacks(flat_config, flat_faces):
    with pytest.raises(ValueError, match=r"alignment='jaa200': .* as 'jaa256'.*--alignment=jaa200"):
        make_data(with_data(flat_config, alignment="jaa200"), flat_faces)


def test_an_au_that_the_corpus_does_not_code(new_flat_faces, flat_config):
    with pytest.raises(ValueError, match=r"does not code AU \[11\], only \[1, 2, 4"):
        make_data(with_data(flat_config, aus=(1, 11)), new_flat_faces)


def test_no_data_set(flat_config, tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}/synthetic: .*launch.prepare --corpus=synth"):
        make_data(flat_config, tmp_path)


def test_overlapping_folds(new_flat_faces, flat_config):
    path = new_flat_faces / "synthetic" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["folds"]["synthetic-3fold"][0].append("P8")
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"\['P8'\] are in more than one fold"):
        make_data(flat_config, new_flat_faces)


def test_a_clip_longer_than_a_video(flat_config, flat_faces):
    with pytest.raises(ValueError, match=r"has 24 frames, .* clip needs clip_length=30"):
        make_data(with_data(flat_config, clip_length=30), flat_faces)


def test_unreadable_record_reaches_the_caller(truncated, flat_config):
    config = with_data(flat_config, fold=2)
    config = dataclasses.replace(config, stages={"stills": Stage("frames", 1, 4)})
    data = make_data(config, truncated)
    part = next(p for p in ("train", "inner") if "P0" in getattr(data.split, p))
    with pytest.raises(ValueError, match=r"record 5 \(subject P0"):
        list(data.evaluate("stills", part, 4))
