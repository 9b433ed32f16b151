"""FAN, the face alignment network, Bulat and Tzimiropoulos, 2017: landmarks, and the trunk of AUNet.

`300w_lp` follows that paper, from memory: poses up to the profile, turned by up to 50 degrees, enlarged by up
to a fifth, mirrored, recoloured and partly hidden; rates of 1e-4, 1e-5 and 1e-6. It had RMSprop, here Adam
[choice]; blur, compression and shifts are ours. `synthetic` is a small network for the 98 landmarks of
synthetic faces on two CPU cores, 11 minutes of one; its errors say nothing about real faces. Measured on the 9
test subjects of fold 1 of the tier small (synthetic): an inter-ocular error of .033, where the mean face has
.070 and random parameters more than 1; docs/fan_landmarks.jpg shows some.

Faces are cut out as ``wide``, of which AUNet takes its input, so that a FAN trained here can be its trunk:

    python -m launch.prepare --corpus=synthetic --alignment=wide --data_dir=data
    python -m launch.train --config=configs/fan.py:synthetic --data_dir=data --workdir=runs/fan_synthetic
    python -m launch.evaluate --workdir=runs/fan_synthetic --data_dir=data
    python -m launch.landmarks --workdir=runs/fan_synthetic --data_dir=data --out=fan_landmarks.jpg
    python -m launch.train --config=configs/fan.py:300w_lp --data_dir=data --workdir=runs/fan
"""

from ml_collections import ConfigDict

from configs import choose
from jaxau.config import Augment, Config, DataConfig, Optim, Stage


def get_config(argument: str = "synthetic") -> ConfigDict:
    """Values for ``VARIANT,fold=N``."""
    return choose(argument, {"300w_lp": _300w_lp, "synthetic": synthetic})


def _300w_lp(fold: int) -> Config:
    return Config(
        name="fan",
        data=DataConfig(
            corpus="300w_lp", aus=(), protocol="300w-lp", fold=fold, alignment="wide", image_size=256
        ),
        network=_network(),
        stages={
            "landmarks": Stage(
                "landmarks",
                epochs=40,
                batch_size=10,
                optim=Optim("adam", 1e-4, schedule="steps", decay=0.1, periods=3),
                augment=Augment(
                    flip=0.5,
                    color_jitter=0.4,
                    rotation=50.0,
                    scale=0.2,
                    shift=0.05,
                    blur=0.2,
                    compression=0.2,
                    holes=0.5,
                ),
                loss={"sigma": 1.0},
            )
        },
        selection="conventional",  # all of 300W-LP trains; its sets are too few to hold one back
    )


def synthetic(fold: int) -> Config:
    return Config(
        name="fan",
        data=DataConfig(
            corpus="synthetic",
            aus=(),
            protocol="synthetic-3fold",
            fold=fold,
            alignment="wide",
            image_size=128,
        ),
        network=_network(width=32, points=98),
        stages={
            "landmarks": Stage(
                "landmarks",
                epochs=8,
                batch_size=16,
                optim=Optim("adam", 3e-3, schedule="cosine", warmup_steps=50, clip_norm=10.0, ema_decay=0.98),
                augment=Augment(
                    flip=0.5, color_jitter=0.3, rotation=25.0, scale=0.15, shift=0.04, blur=0.2, holes=0.3
                ),
                loss={"sigma": 1.5},  # half the picture of 300W-LP: with 1 it begins far more slowly
            )
        },
    )


def _network(**changes: object) -> dict[str, object]:
    """ibug's 2dfan2, written out so that every field can be overridden."""
    return {"hourglasses": 2, "pool": "max", "width": 256, "points": 68, **changes}
