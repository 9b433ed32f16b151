"""Cached features are the network's own, of the right variant; they survive kills and are not mixed up."""

import dataclasses
import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from input_kit import evaluation_input
from small_run import small_aar_config

from data_pipelines.loader import make_data
from jaxau import checkpoint, evaluate, feature_cache, predict_queues, sharding, train


@pytest.fixture(scope="module")
def finished(tiny_faces, tmp_path_factory):
    """An uninterrupted run of AAR's three stages, scored."""
    workdir = tmp_path_factory.mktemp("run")
    open_data = partial(make_data, data_dir=tiny_faces)
    train.run(small_aar_config(), open_data, workdir)
    evaluate.run(workdir, open_data)
    return workdir


def test_killed_in_every_stage_gives_the_same_bits(tiny_faces, finished, tmp_path):
    child = [sys.executable, str(Path(__file__).parent / "small_run.py"), str(tiny_faces), str(tmp_path)]
    events = ["batch:2", "term:2", "cache:4", "cache_term:3", "batch:3", "save:2", "none"]
    codes = [subprocess.run([*child, event, "aar"], capture_output=True).returncode for event in events]
    assert codes == [-9, 143, -9, 143, -9, -9, 0]
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    for stage in ("frames", "features"):
        got, want = (checkpoint.load_model(run / stage).info for run in (tmp_path, finished))
        assert got == want  # includes a hash over all parameters, and the thresholds
    evaluate.run(tmp_path, partial(make_data, data_dir=tiny_faces))
    features = [np.load(run / "cache" / "features.npy") for run in (tmp_path, finished)]
    np.testing.assert_array_equal(*features)


def test_the_cache_holds_what_the_network_makes_of_each_variant(tiny_faces, finished):
    """Of training subjects four variants, cut out here by hand; of others the centre; of nobody a zero."""
    config = small_aar_config()
    data = make_data(config, tiny_faces)
    model = checkpoint.load_model(finished / "frames")
    array = np.load(finished / "cache" / "features.npy", mmap_mode="r")
    apply = jax.jit(lambda image: model.network.apply(model.variables, image, train=False)["features"])
    part_of = {name: part for part in ("train", "inner", "test") for name in getattr(data.split, part)}
    for video in data.manifest["videos"]:
        record = video["start"] + 1
        frame = data._records.frame(record)
        for variant in range(4):
            options = config.stages["cache"].augment
            image, _ = evaluation_input(
                frame.image[None], frame.landmarks[None], "jaa256", options, 32, variant
            )
            if variant == 0 or part_of[video["subject_name"]] == "train":
                np.testing.assert_allclose(array[variant, record], apply(image)[0], atol=2e-5)
            else:
                assert not array[variant, record].any()
    about = json.loads((finished / "cache" / "cache.json").read_text())
    assert about["model"] == model.info["hash"] and about["augmentation"] == "4 crops and mirror images"


def test_training_draws_one_variant_for_a_sequence_and_evaluation_the_centre(tiny_faces, finished):
    data = make_data(small_aar_config(), tiny_faces)
    array = np.load(finished / "cache" / "features.npy")
    drawn = []
    batches = feature_cache.attach(finished / "cache", data.train("features", 0))
    for batch in itertools.islice(batches, 20):
        assert "image" not in batch and batch["features"].dtype == np.float32
        for row, variant in enumerate(batch["variant"]):
            np.testing.assert_array_equal(batch["features"][row], array[variant, batch["record"][row]])
            drawn.append(int(variant))
    assert set(drawn) == {0, 1, 2, 3}
    again = itertools.islice(data.train("features", 10), 3)
    assert [v for batch in again for v in batch["variant"]] == drawn[10:16]
    for batch in data.evaluate("features", "inner", 2):
        assert not batch["variant"].any()


def test_evaluation_gives_whole_videos_and_every_frame_once(tiny_faces):
    data = make_data(small_aar_config(), tiny_faces)
    batches = list(data.evaluate("features", "test", 2))
    videos = [v for v in data.manifest["videos"] if v["subject_name"] in data.split.test]
    wanted = sorted(v["start"] + i for v in videos for i in range(len(v["frames"])))
    assert sorted(r for b in batches for r in b["record"][b["mask"]]) == wanted
    assert {b["record"].shape[1] for b in batches} == {max(len(v["frames"]) for v in videos)}


def test_prediction_on_the_same_frames_gives_the_same_probabilities(tiny_faces, finished):
    """Evaluation reads cached features of whole videos, prediction sees pictures, 8 frames at a time."""
    found = evaluate.read_predictions(finished / "eval" / "synthetic", "features")
    data = make_data(small_aar_config(), tiny_faces)
    model = checkpoint.load_model(finished)
    assert model.info["stage"] == "features" and model.info["clip_length"] == 8
    network = predict_queues.WindowNetwork(model, batch_size=1)
    step, first = network.step, network.first_state
    video = next(v for v in data.manifest["videos"] if v["subject_name"] in data.split.test)
    records = video["start"] + np.arange(len(video["frames"]))
    frames = [data._records.frame(int(r)) for r in records]
    images, _ = evaluation_input(
        np.stack([f.image for f in frames]), np.stack([f.landmarks for f in frames]),
        "jaa256", small_aar_config().stages["frames"].augment, 32,
    )  # fmt: skip
    state = tuple(leaf[None] for leaf in first)
    for start in range(0, len(images) - len(images) % 8, 8):
        probability, state = step(model.variables, images[None, start : start + 8], state)
        for offset in range(8):
            row = found["record"] == records[start + offset]
            np.testing.assert_allclose(probability[0, offset], found["probability"][row][0], atol=1e-5)


def test_another_model_or_data_set_is_refused(tiny_faces, finished, tmp_path):
    config = small_aar_config()
    data, mesh = make_data(config, tiny_faces), sharding.make_mesh()
    model = checkpoint.load_model(finished / "frames")
    other = model._replace(info={**model.info, "hash": "0" * 64})
    more = dataclasses.replace(config.stages["cache"], cache=6)
    for stage, what, message in (
        (config.stages["cache"], other, "of another model; delete the folder"),
        (more, model, "of another variants, augmentation"),
    ):
        with pytest.raises(ValueError, match=message):
            feature_cache.fill(finished / "cache", "cache", stage, ["train"], data, what, mesh)


def test_a_record_that_is_not_cached_is_an_error_and_not_a_zero(tiny_faces, finished):
    data = make_data(small_aar_config(), tiny_faces)
    batch = next(iter(data.evaluate("features", "test", 2)))
    with pytest.raises(ValueError, match=r"records \[\d+.*are not in the cache; delete the folder"):
        next(feature_cache.attach(finished / "cache", [{**batch, "variant": np.array([1, 1])}]))
