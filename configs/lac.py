"""LAC, "Lock and Check: A Novel Approach for Facial Action Unit Recognition", Huang et al., 2025.

Expected with the paper's recipe (three folds, trunk from ImageNet weights: `jaxau import-weights resnet50`,
then --config.weights.trunk): F1 67.3 on BP4D, 67.8 on DISFA. `synthetic` is a small trunk for synthetic faces
on two CPU cores; its scores say nothing about real faces.

    python -m launch.train --config=configs/lac.py:disfa,fold=1 --data_dir=data --workdir=runs/lac_disfa_1
    python -m launch.train --config=configs/lac.py:synthetic --data_dir=data --workdir=runs/lac_synthetic
"""

from ml_collections import ConfigDict

from configs import choose
from jaxau import facs
from jaxau.config import Augment, Config, DataConfig, Optim, Stage

SYNTHETIC_AUS = (*facs.CORPUS_AUS["bp4d"], 25)  # BP4D's 12, and lips part, which anyone can see


def get_config(argument: str = "synthetic") -> ConfigDict:
    """Values for ``VARIANT,fold=N,stages=A+B``; without ``stages`` all of them are trained."""
    return choose(argument, {"bp4d": bp4d, "disfa": disfa, "synthetic": synthetic})


def bp4d(fold: int) -> Config:
    return _paper("bp4d", fold, subsequences=1)  # 8 videos a subject, one clip from each


def disfa(fold: int) -> Config:
    return _paper("disfa", fold, subsequences=12)


def _paper(corpus: str, fold: int, subsequences: int) -> Config:
    optim = Optim(name="adamw", lr=1e-4, weight_decay=5e-4, schedule="cosine")
    augment = Augment(flip=0.5, color_jitter=0.4)
    return Config(
        name="lac",
        data=DataConfig(
            corpus=corpus,
            aus=facs.CORPUS_AUS[corpus],
            protocol=f"{corpus}-3fold",
            fold=fold,
            alignment="jaa256",
            image_size=224,
            sampling="temporal",
            clip_length=16,
            subsequences=subsequences,
        ),
        network=_network(),
        stages={
            "frames": Stage("frames", epochs=20, batch_size=64, optim=optim, augment=augment, loss=_loss()),
            "clips": Stage(
                "clips",
                epochs=200,
                batch_size=8,
                start_from="frames",
                optim=optim,
                augment=augment,
                loss=_loss(),
            ),
        },
    )


def synthetic(fold: int) -> Config:
    augment = Augment(flip=0.5, color_jitter=0.3, resize_to=104)
    return Config(
        name="lac",
        data=DataConfig(
            corpus="synthetic",
            aus=SYNTHETIC_AUS,
            protocol="synthetic-3fold",
            fold=fold,
            alignment="jaa256",
            image_size=96,
            sampling="temporal",
            clip_length=16,
            subsequences=1,
        ),
        network=_network(block="basic", stage_sizes=(2, 2, 2), widths=(32, 64, 128), stem="3x3", features=64),
        stages={
            "frames": Stage(
                "frames",
                epochs=10,
                batch_size=32,
                optim=Optim(
                    "adamw", 2e-3, 0.02, schedule="cosine", warmup_steps=100, clip_norm=2.0, ema_decay=0.98
                ),
                augment=augment,
                loss=_loss(),
            ),
            "clips": Stage(
                "clips",
                epochs=4,
                batch_size=4,
                start_from="frames",
                trainable=("lstm", "classifier", "relations", "reduce"),
                freeze_batch_stats=True,
                optim=Optim(
                    "adamw", 2e-3, 0.02, schedule="cosine", warmup_steps=20, clip_norm=2.0, ema_decay=0.98
                ),
                augment=augment,
                loss=_loss(),
            ),
        },
    )


def _network(**changes: object) -> dict[str, object]:
    """The paper's network, written out so that every field can be overridden."""
    return {
        "check": "spatial_temporal",
        "block": "bottleneck",
        "stage_sizes": (3, 4, 6, 3),
        "widths": (64, 128, 256, 512),
        "stem": "7x7",
        "features": 512,
        **changes,
    }


def _loss() -> dict[str, object]:
    """Eq. 17: eta 1 to 5, beta 1 and 2, delta."""
    return {
        "classification": "dwa",
        "localization": 0.5,
        "activation": 0.5,
        "consistency": 0.01,
        "lock": 0.5,
        "check": 1.0,
        "difficulty_decay": 0.9,
        "distribution_decay": 0.9,
        "difficulty_share": 0.5,
        "recall_floor": 0.1,
        "roi_size": 0.25,
        "roi_bins": 2,
    }
