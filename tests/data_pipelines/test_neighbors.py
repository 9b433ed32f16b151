"""What AUNet sees beside a frame: neighbours laid over its face, of many people; windows that share them."""

import dataclasses
from itertools import islice

import cv2
import numpy as np
import pytest
from exact_landmarks import exact_landmarks

from data_pipelines.loader import make_data
from data_pipelines.sampling import shared_windows
from data_pipelines.synthetic import SynthConfig
from data_pipelines.transforms import Draw, matrices
from jaxau.config import Augment, Stage
from jaxau.faces.align import alignment_matrix, input_matrix, transform_points
from jaxau.faces.landmarks import five_points

SIDE, PLAIN = 256, Draw(0, 0, False)


@pytest.fixture(scope="module")
def people():
    """Exact landmarks of people who talk, turn their heads and make faces for 3 s, at 25 frames a second."""
    clips = SynthConfig(tier="default", subjects=12, clips=1, frames=75, size=128, fps=25, nuisance=1)
    return exact_landmarks(clips, every=1).landmarks.reshape(12, 75, 68, 2).astype(float)


def in_crop(points):
    """Landmarks of a picture as they lie in the crop that is stored."""
    return transform_points(points, alignment_matrix(points, "wide"))


def eyes_apart(crops, moved):
    """Largest distance in pixels of the input between the eyes of a face and those of the next."""
    eyes = [transform_points(five_points(p)[:2], matrix) for p, matrix in zip(crops, moved, strict=True)]
    return np.linalg.norm(np.diff(eyes, axis=0), axis=-1).max()


def test_eyes_coincide_where_the_face_keeps_still(people):
    """Whoever it is, however turned and whatever they do, however the camera moves and training augments."""
    rng = np.random.default_rng(0)
    for person in people:
        for points in person[::25]:
            camera = cv2.getRotationMatrix2D((64, 64), rng.uniform(-40, 40), rng.uniform(0.5, 2))
            camera[:, 2] += rng.uniform(-60, 60, 2)
            degrees, scale = rng.uniform(-15, 15), rng.uniform(0.75, 1.25)
            drawn = Draw(0, 0, bool(rng.integers(2)), degrees=degrees, scale=scale, shift=(0.04, -0.04))
            crops = np.stack([in_crop(points), in_crop(transform_points(points, camera))])
            # In single precision, as they are stored.
            moved = matrices(crops.astype(np.float32), "wide", SIDE, SIDE, drawn, onto=1)
            assert eyes_apart(crops, moved) < 0.01
            left, right = transform_points(five_points(crops[1])[:2], moved[1])
            assert 45 < np.linalg.norm(right - left) < 100
            alone = [input_matrix("wide", crop, SIDE) for crop in crops]  # as prediction sees them
            assert eyes_apart(crops, alone) < 0.01


@pytest.mark.parametrize(("distance", "median", "most"), [(1, 0.25, 1.0), (3, 0.5, 2.0), (10, 1.0, 4.0)])
def test_eyes_of_people_who_talk_nearly_coincide(people, distance, median, most):
    """Mouth, lids and turned heads enter the fit of the five points, as in the public code."""
    training, prediction, neither = [], [], []
    for person in people:
        crops = np.stack([in_crop(points) for points in person])
        for pair in zip(crops[:-distance:3], crops[distance::3], strict=True):
            pair = np.stack(pair)
            training.append(eyes_apart(pair, matrices(pair, "wide", SIDE, SIDE, PLAIN, onto=1)))
            prediction.append(eyes_apart(pair, matrices(pair, "wide", SIDE, SIDE, PLAIN)))
            whole = np.repeat(input_matrix("wide", pair[1], SIDE)[None], 2, 0)
            neither.append(eyes_apart(pair, whole))
    for found in (training, prediction):
        assert np.median(found) < median and np.percentile(found, 95) < most
        assert np.mean(found) < 0.7 * np.mean(neither)  # than if crops were just laid over each other


def test_shared_windows_by_hand():
    # Frames 1 to 7 and, after a gap, 10 and 11; windows of 4, neighbours at 1: two new frames a window.
    found = shared_windows([1, 2, 3, 4, 5, 6, 7, 10, 11], 4, 1)
    assert [(p.tolist(), m.tolist()) for p, m in found] == [
        ([0, 1, 2, 3], [False, True, True, False]),
        ([2, 3, 4, 5], [False, True, True, False]),
        ([3, 4, 5, 6], [False, False, True, False]),
    ]
    ((positions, mask),) = shared_windows([1, 2, 3], 5, 1)  # a run shorter than a window
    assert positions.tolist() == [0, 1, 2, 2, 2] and mask.tolist() == [False, True, False, False, False]


def test_shared_windows_hold_each_frame_that_has_neighbours_once_and_both_beside_it():
    rng = np.random.default_rng(0)
    for _ in range(100):
        numbers = np.flatnonzero(rng.random(120) < 0.95)
        distance = int(rng.integers(1, 6))
        length = 2 * distance + int(rng.integers(1, 9))
        counted = []
        for positions, mask in shared_windows(numbers, length, distance):
            assert len(positions) == length
            for i in np.flatnonzero(mask):
                beside = numbers[positions[[i - distance, i, i + distance]]]
                assert (np.diff(beside) == distance).all() and i >= distance
                counted.append(int(beside[1]))
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        assert sorted(counted) == [int(n) for run in runs for n in run[distance : len(run) - distance]]


def test_windows_of_a_corpus(flat_config, flat_faces):
    """Training alone shares; scores are of each frame once. No window holds a frame without landmarks."""
    stage = Stage("clips", epochs=1, batch_size=2, augment=Augment())
    data = dataclasses.replace(flat_config.data, clip_length=9, neighbor_distance=2, sampling="all", fold=2)
    stages = {"windows": stage, "others": stage}
    config = dataclasses.replace(flat_config, stages=stages, data=data, selection="conventional")
    data = make_data(config, flat_faces)
    lacking = set(data.manifest["missing_landmarks"])
    counted, seen, n = [], set(), data.num_examples("windows")
    for batch in islice(data.train("windows"), -(-n // 2)):
        counted += batch["record"][batch["mask"]].tolist()
        seen |= {*batch["record"].ravel().tolist()}
    assert lacking and not lacking & seen and n % 2 == 0 and len(counted) == len(set(counted))
    # Of 24 frames all but two at each end; of those with a gap all but two beside it, too.
    videos = [v for v in data.manifest["videos"] if v["subject_name"] in data.split.train]
    breaks = sum(1 for v in videos for r in range(v["start"], v["start"] + 24) if r in lacking)
    gaps = sum(int(np.diff(v["frames"]).max() > 1) for v in videos)
    assert breaks == gaps == 1 and len(counted) == 20 * len(videos) - 5 * breaks - 4 * gaps
    every = [r for batch in data.evaluate("windows", "train", 2) for r in batch["record"][batch["mask"]]]
    assert sorted(every) == [r for v in videos for r in range(v["start"], v["start"] + 24)]
    assert data.num_examples("others") == 3 * len(videos) + gaps  # no other stage shares
    short = dataclasses.replace(config, data=dataclasses.replace(config.data, clip_length=4))
    with pytest.raises(ValueError, match="clip_length=4: no frame has both neighbours at 2 frames"):
        make_data(short, flat_faces)
