"""What surrounds a network: the input pipeline of training, and prediction from a file to files."""

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import simplejpeg

from jaxau import files, models, train
from jaxau.benchmark.machine import Row, seconds_of, spread
from jaxau.benchmark.steps import CompiledStage
from jaxau.checkpoint import Model
from jaxau.config import Config
from jaxau.faces.detect import YuNet
from jaxau.faces.landmark_file import LandmarkFile
from jaxau.predict import Predictor
from jaxau.prediction_files import Job, Options


def decode_rate(pictures: Sequence[bytes], seconds: float) -> float:
    """JPEGs decoded a second, one after another in this thread, for about ``seconds``."""
    return _rate((simplejpeg.decode_jpeg(picture) for picture in itertools.cycle(pictures)), seconds)


def measure_loader(
    data: train.Data,
    config: Config,
    name: str,
    pictures: Sequence[bytes],
    seconds: float,
    rounds: int,
    cores: int,
) -> Row:
    """The input pipeline of a stage alone, without any network, by turns with one thread that only decodes.

    Args:
      data: what ``make_data`` returned.
      config: of the run.
      name: of the stage.
      pictures: JPEGs to decode.
      seconds: for how long each of the two runs in a round.
      rounds: number of turns.
      cores: of the machine.

    Returns:
      ``frames_per_second``, read, decoded, augmented and batched; ``decoded_per_second_and_thread``;
      ``share_of_decoding``: over rounds, of the rate at which all cores would decode, had they nothing else
      to do; ``processor_share``: over rounds, the processor time of decoding in that of the loader, which
      other work on the machine spoils less.
    """
    stage = config.stages[name]
    frames = stage.batch_size * (config.data.clip_length if stage.view == "clips" else 1)
    batches = data.train(name, 0)
    found = []
    for _ in range(rounds):
        time.sleep(min(0.5, seconds))  # until what is prepared ahead is there
        before = time.process_time()
        decoded = decode_rate(pictures, seconds)
        of_decoding = (time.process_time() - before) / (decoded * seconds)
        for _ in range(8):
            next(batches)
        before, started, count = time.process_time(), time.perf_counter(), 0
        while (passed := time.perf_counter() - started) < seconds:
            next(batches)
            count += frames
        found.append((count / passed, decoded, of_decoding, (time.process_time() - before) / count))
    rates, decodes, costs, whole = np.array(found).T
    return {
        "stage": name,
        "batch_size": stage.batch_size,
        "frames_per_second": spread(rates.tolist()),
        "decoded_per_second_and_thread": spread(decodes.tolist()),
        "cores": cores,
        "share_of_decoding": spread((rates / decodes / cores).tolist()),
        "processor_share": spread((costs / whole).tolist()),
    }


def measure_stall(data: train.Data, config: Config, name: str, warmup: int, rounds: int, turn: int) -> Row:
    """What training loses by waiting for batches, and by lending cores and memory to what makes them.

    A loop that draws, places and trains on batches as `train.fit` does, by turns with one that trains on a
    batch which is already there.

    Returns:
      ``fed_seconds`` and ``resident_seconds`` of a step, and ``stall_share`` over rounds: 1 - resident / fed.
    """
    stage = CompiledStage(config, name, config.stages[name].batch_size)
    batches = data.train(name, 0)
    used = list(stage.batch)

    def fed() -> None:
        for _ in range(turn):
            batch = next(batches)
            terms = stage.step_on({key: batch[key] for key in used})
        jax.block_until_ready(terms)

    def resident() -> None:
        for _ in range(turn):
            stage.train()

    for _ in range(warmup):
        fed()
    pairs = [[seconds_of(step) / turn for step in (fed, resident)] for _ in range(rounds)]
    return {
        "stage": name,
        "batch_size": stage.stage.batch_size,
        "fed_seconds": spread([a for a, _ in pairs]),
        "resident_seconds": spread([b for _, b in pairs]),
        "stall_share": spread([1 - b / a for a, b in pairs]),
    }


def _rate(items: Iterator[Any], seconds: float) -> float:
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        next(items)
        count += 1
    return count / passed


# ---- prediction ----------------------------------------------------------------------------------


def measure_prediction(
    config: Config, name: str, video: Path, faces: YuNet | LandmarkFile, repeats: int
) -> Row:
    """A video to files of results, as ``jaxau predict`` does it, with untrained weights.

    Decoding, finding (or reading) faces, alignment, network and writing. The speed does not depend on what
    the weights are.

    Args:
      config: of the run.
      name: of the stage whose network predicts.
      video: a file with a face.
      faces: a detector, or the video's landmarks.
      repeats: runs that are timed, after one that compiles.

    Returns:
      ``frames`` of the video, ``faces`` predicted, ``first_seconds`` of the run that compiled (or found it
      in the cache), ``frames_per_second``.

    Raises:
      ValueError: the video cannot be read, or shows no face.
    """
    detector = faces if isinstance(faces, YuNet) else None
    landmarks = faces if isinstance(faces, LandmarkFile) else None
    predictor = Predictor(untrained_model(config, name), detector)
    options = Options({"name": "yunet"} if detector else None, landmarks)
    said: list[str] = []
    found = 0

    def run() -> int:
        nonlocal found
        with tempfile.TemporaryDirectory() as folder:
            job = Job(predictor, options, Path(folder), ["bench"], said.append)
            if job.run([video]):
                raise ValueError(f"{video}: " + "; ".join(said))
            described = files.read_json(Path(folder) / f"{video.name}.json")
        found = described["counts"].get("success", 0)
        return described["frames"]

    started = time.perf_counter()
    frames = run()
    first = time.perf_counter() - started
    if not found:
        raise ValueError(f"{video}: no face in {frames} frames, so the network never ran; give another video")
    rates = spread([frames / seconds_of(run) for _ in range(repeats)])
    return {
        "stage": name,
        "faces_from": "detector" if detector else "landmarks",
        "frames": frames,
        "faces": found,
        "first_seconds": first,
        "frames_per_second": rates,
    }


def untrained_model(config: Config, name: str) -> Model:
    """A stage's network with its first weights, as if it came from a checkpoint."""
    network, stage, data = models.create(config, name), config.stages[name], config.data
    role = models.role(config, name)
    batch = {key: jnp.zeros(of.shape, of.dtype) for key, of in models.first_batch(config, name).items()}
    given, named = models.arguments(role, batch, train=True)
    variables = jax.jit(network.init)(jax.random.key(0), *given, **named)
    info = {
        "network": config.name,
        "stage": name,
        "aus": list(data.aus),
        "thresholds": [0.5] * len(data.aus),
        "threshold_source": "none: untrained",
        "alignment": data.alignment,
        "image_size": data.image_size,
        "resize_to": stage.augment.resize_to,
        "inputs": list(role.inputs),
        "detects_aus": role.detects_aus,
        "clip_length": data.clip_length if stage.view == "clips" else 0,
        "neighbor_distance": data.neighbor_distance if stage.view == "tuples" else 0,
        "trained_on": "nothing",
        "synthetic": False,
        "hash": "untrained",
    }
    return Model(network, variables, info)
