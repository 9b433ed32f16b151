"""A small run on synthetic faces, and a child process that dies in the middle of it.

    python tests/small_run.py DATA_DIR WORKDIR EVENT [lac|aar|fan|aunet|windows|gtle|glee]

EVENT: "batch:N" kills the process at the N-th batch it draws, "term:N" asks it to stop there, "save:N" kills
it while its N-th checkpoint is being written, "cache:N" and "cache_term:N" do so at the N-th batch whose
features are cached, "model" kills it between the stages, "none" lets it finish.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.loader import make_data
from jaxau import checkpoint, train
from jaxau.config import Augment, Config, DataConfig, Optim, Stage

NETWORK = {"block": "basic", "stage_sizes": (1, 1), "widths": (8, 12), "stem": "3x3", "features": 8}


def small_config(**data: Any) -> Config:
    optim = Optim("adamw", 1e-3, 0.01, schedule="cosine", clip_norm=1.0, ema_decay=0.9)
    augment = Augment(flip=0.5, color_jitter=0.2, resize_to=36)
    fields: dict[str, Any] = dict(image_size=32, clip_length=8, subsequences=2, inner_fraction=0.34)
    return Config(
        name="lac",
        data=DataConfig("synthetic", (1, 4, 12, 25), "synthetic-3fold", **{**fields, **data}),
        network=NETWORK,
        stages={
            "frames": Stage(
                "frames", epochs=2, batch_size=16, optim=optim, augment=augment, checkpoint_every_steps=3
            ),
            "clips": Stage(
                "clips",
                epochs=3,
                batch_size=2,
                start_from="frames",
                trainable=("lstm", "classifier"),
                freeze_batch_stats=True,
                optim=optim,
                augment=augment,
            ),
        },
    )


def small_aar_config() -> Config:
    """AAR's three stages."""
    base, augment = small_config(), Augment(flip=0.5, resize_to=36)
    optim = Optim("sgd", 2e-3, 5e-4, b1=0.9)
    stills = Stage("frames", epochs=2, batch_size=16, optim=optim, augment=augment, checkpoint_every_steps=3)
    sequences = Stage(
        "features", epochs=3, batch_size=2, start_from="cache", trainable=("graph_network",),
        optim=Optim("adam", 1e-3), augment=augment, checkpoint_every_steps=4,
    )  # fmt: skip
    cache = Stage("frames", epochs=1, batch_size=8, start_from="frames", cache=4, augment=augment)
    stages = {"frames": stills, "cache": cache, "features": sequences}
    data = dataclasses.replace(base.data, sampling="all")
    return dataclasses.replace(base, name="aar", data=data, network={"width": 2, "pool": 3}, stages=stages)


def small_gtle_config(**data: Any) -> Config:
    """GTLE-Net's triplets, then AUs; the trunk that is compiled soonest."""
    fields: dict[str, Any] = {"corpus": "synthetic", "aus": (12, 25), "protocol": "synthetic-3fold"}
    fields |= {"image_size": 32, "inner_fraction": 0.5, "sampling": "all", **data}
    options: dict[str, Any] = {
        "batch_size": 16,
        "optim": Optim("adam", 1e-3, 1e-6, schedule="inverse_sqrt", warmup_steps=4),
        "augment": Augment(0.5, 0.2),
        "checkpoint_every_steps": 3,
    }
    return Config(
        name="gtle_net",
        data=DataConfig(**fields),
        network={"trunk": "resnet50", "blocks": 1, "width": 0.03},
        stages={
            "triplets": Stage("triplets", epochs=1, **options),
            "frames": Stage("frames", epochs=1, start_from="triplets", **options),
        },
    )


def small_glee_config(**network: Any) -> Config:
    """GLEE-Net's three stages; of the branches the global one alone, which is compiled sooner."""
    options: dict[str, Any] = dict(optim=Optim("adam", 1e-3), augment=Augment(0.5), checkpoint_every_steps=2)
    fields: dict[str, Any] = dict(image_size=80, inner_fraction=0.5, sampling="all")
    small = {"branches": "global", "repeats": (0, 0, 0), "width": 0.05, "encoders": 1, "people": 16}
    return Config(
        name="glee_net",
        data=DataConfig("synthetic", (12, 25), "synthetic-3fold", **fields),
        network={**small, **network},
        stages={
            "identity": Stage(
                "frames",
                1,
                16,
                corpus="synthetic",  # as if it were another
                max_steps=5,
                trainable=("identity",),
                loss={"label": "subject"},
                **options,
            ),
            "triplets": Stage(
                "triplets",
                1,
                8,
                max_steps=5,
                start_from="identity",
                mine_triplets=True,
                trainable=("face", "global_fc"),
                **options,
            ),
            "frames": Stage("frames", 1, 16, max_steps=5, start_from="triplets", **options),
        },
    )


def small_fan_config() -> Config:
    """FAN's one stage, without AUs."""
    data = DataConfig("synthetic", (), "synthetic-3fold", image_size=64, inner_fraction=0.34)
    stage = Stage(
        "landmarks", epochs=6, batch_size=16, checkpoint_every_steps=5, loss={"sigma": 1.0},
        optim=Optim("adam", 5e-3, schedule="cosine", ema_decay=0.9),
        augment=Augment(rotation=15.0, scale=0.1, shift=0.05, blur=0.2, holes=0.2),
    )  # fmt: skip
    return Config("fan", data, {"landmarks": stage}, network={"hourglasses": 1, "width": 16, "points": 98})


def small_aunet_config() -> Config:
    """AUNet's stages: labels, and the detector by flow and by the neighbours' features."""
    data = DataConfig("synthetic", (1, 4, 12, 25), "synthetic-3fold", image_size=32, inner_fraction=0.34,
                      sampling="all", neighbor_distance=2)  # fmt: skip
    labels = Stage("labels", epochs=2, batch_size=32, checkpoint_every_steps=4, optim=Optim("adam", 1e-3))
    tuples = Stage(
        "tuples", epochs=1, batch_size=16, checkpoint_every_steps=3, start_from="labels",
        trainable=("head", "trunk"), optim=Optim("adamw", 1e-3, schedule="steps", periods=3),
        augment=Augment(rotation=15.0, scale=0.2, shift=0.05, blur=0.2, compression=0.2, holes=0.2),
    )  # fmt: skip
    stages = {"labels": labels, "flow": dataclasses.replace(tuples, flow=True), "tuples": tuples}
    return Config("aunet", data, stages, network={"trunk": "resnet18", "width": 16, "flip": True})


def small_windows_config() -> Config:
    """AUNet on windows that share a FAN, then on the tuples of the paper."""
    base = small_aunet_config()
    data = dataclasses.replace(base.data, image_size=64, clip_length=8)
    labels, tuples = (dataclasses.replace(base.stages[name], max_steps=3) for name in ("labels", "tuples"))
    tuples = dataclasses.replace(tuples, trainable=("head",), augment=Augment())
    windows = dataclasses.replace(
        tuples, view="clips", epochs=2, max_steps=0, batch_size=4, optim=Optim("adamw", 1e-2)
    )
    tuples = dataclasses.replace(tuples, start_from="windows")
    stages = {"labels": labels, "windows": windows, "tuples": tuples}
    return dataclasses.replace(base, data=data, stages=stages, network={"width": 16, "hourglasses": 1})


CONFIGS = {
    "lac": small_config,
    "aar": small_aar_config,
    "fan": small_fan_config,
    "aunet": small_aunet_config,
    "windows": small_windows_config,
    "gtle": small_gtle_config,
    "glee": small_glee_config,
}


def random_batch(rng: np.random.Generator, lead: tuple[int, ...], side: int, num_aus: int) -> dict:
    """A batch of noise with the leading axes ``lead``, as the loss needs it; some labels are not coded."""
    return {
        "image": rng.integers(0, 256, (*lead, side, side, 3), dtype=np.uint8),
        "au": rng.integers(0, 2, (*lead, num_aus)),
        "au_mask": rng.random((*lead, num_aus)) < 0.9,
        "mask": np.ones(lead, bool),
        "au_centers": rng.uniform(0.2 * side, 0.8 * side, (*lead, num_aus, 2, 2)).astype(np.float32),
        "au_centers_mask": np.ones((*lead, num_aus), bool),
    }


def main(data_dir: str, workdir: str, event: str, network: str = "lac") -> None:
    kind, _, at = event.partition(":")
    count = 0

    def happens(what: str) -> bool:
        nonlocal count
        count += kind == what
        return kind == what and count == int(at or 1)

    def dying_data(config: Config) -> Any:
        data = make_data(config, data_dir)
        draw, draw_all = data.train, data.evaluate

        def batches(*arguments: Any) -> Iterator[Any]:
            for batch in draw(*arguments):
                if happens("batch"):
                    os.kill(os.getpid(), signal.SIGKILL)
                if happens("term"):
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        def all_batches(stage: str, *arguments: Any) -> Iterator[Any]:
            for batch in draw_all(stage, *arguments):
                if stage == "cache" and happens("cache"):
                    os.kill(os.getpid(), signal.SIGKILL)
                if stage == "cache" and happens("cache_term"):
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        data.train, data.evaluate = batches, all_batches  # type: ignore[method-assign]
        return data

    save, save_model = checkpoint.Checkpoints.save, checkpoint.save_model

    def dying_save(*arguments: Any) -> None:
        save(*arguments)  # returns while a thread still writes
        if happens("save"):
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_save_model(*arguments: Any) -> None:
        save_model(*arguments)
        if happens("model"):
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.Checkpoints.save = dying_save  # type: ignore[method-assign, assignment]
    checkpoint.save_model = dying_save_model
    train.run(CONFIGS[network](), dying_data, Path(workdir))


if __name__ == "__main__":
    main(*sys.argv[1:])
