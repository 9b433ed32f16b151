"""Loader, stall and prediction, with data that comes as slowly as it is told to."""

import time

import numpy as np
import pytest
import simplejpeg

from jaxau.benchmark import pipelines, steps

PAUSE = 0.05


class SlowData:
    """Batches of noise, each after a pause."""

    def __init__(self, config):
        self._config = config

    def train(self, stage, start):
        batch = steps.noise_batch(self._config, stage)
        while True:
            time.sleep(PAUSE)
            yield {**batch, "record": np.zeros(1)}  # more than a step needs, as the real loader's


def test_jpegs_are_decoded_one_after_another(monkeypatch):
    pictures = [simplejpeg.encode_jpeg(np.full((8, 8, 3), value, np.uint8)) for value in (0, 255)]
    seen = []

    def decode(data):
        seen.append(data)
        time.sleep(0.01)

    monkeypatch.setattr(pipelines.simplejpeg, "decode_jpeg", decode)
    rate = pipelines.decode_rate(pictures, 0.2)
    assert 1 < rate <= 100 and seen[:3] == [pictures[0], pictures[1], pictures[0]]


@pytest.mark.parametrize(("stage", "frames"), [("frames", 64), ("clips", 8 * 4)])
def test_the_loader_alone(tiny, stage, frames, monkeypatch):
    monkeypatch.setattr(pipelines, "decode_rate", lambda pictures, seconds: busy(seconds) or 500.0)
    row = pipelines.measure_loader(SlowData(tiny), tiny, stage, [b""], seconds=0.3, rounds=3, cores=4)
    rate = row["frames_per_second"]
    assert 0.02 * frames / PAUSE < rate["median"] <= frames / PAUSE and rate["n"] == 3
    assert row["share_of_decoding"]["median"] == pytest.approx(rate["median"] / 2000)
    # Decoding kept the processor busy, for 500 pictures a second; the loader slept.
    assert row["processor_share"]["median"] > 2 * row["share_of_decoding"]["median"]


def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_slow_loader_stalls_training(tiny):
    row = pipelines.measure_stall(SlowData(tiny), tiny, "frames", warmup=1, rounds=2, turn=1)
    assert row["fed_seconds"]["median"] > PAUSE and row["fed_seconds"]["n"] == 2
    assert 0 < row["stall_share"]["median"] < 1


def test_prediction_from_a_video_to_files(tiny, tmp_path):
    pytest.importorskip("av", reason="videos are read and written with PyAV: pip install jaxau[video]")
    from jaxau.faces.landmark_file import LandmarkFile
    from jaxau.faces.video import write_video

    pictures = np.random.default_rng(0).integers(0, 255, (6, 60, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", list(pictures), fps=10)
    points = [24, 40, 32, 26, 38], [20, 20, 28, 36, 36]
    header = "video,frame,face_id," + ",".join(f"{axis}_{i}" for axis in "xy" for i in range(5))

    def landmarks(frames):
        rows = [",".join(map(str, ["a.mp4", frame, 0, *points[0], *points[1]])) for frame in frames]
        path = tmp_path / f"{len(frames)}.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return LandmarkFile(path)

    row = pipelines.measure_prediction(tiny, "clips", tmp_path / "a.mp4", landmarks([0, 1, 2, 5]), repeats=2)
    assert (row["frames"], row["faces"], row["faces_from"]) == (6, 4, "landmarks")
    assert (
        row["frames_per_second"]["n"] == 2 and row["frames_per_second"]["median"] > 6 / row["first_seconds"]
    )
    with pytest.raises(ValueError, match="no.mp4"):
        pipelines.measure_prediction(tiny, "frames", tmp_path / "no.mp4", landmarks([0]), repeats=1)
    empty = [float("nan")] * 5
    points = empty, empty
    with pytest.raises(ValueError, match="no face in 6 frames"):
        pipelines.measure_prediction(tiny, "frames", tmp_path / "a.mp4", landmarks([0, 1]), repeats=1)
