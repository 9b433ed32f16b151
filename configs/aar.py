"""AAR, "Facial Action Unit Detection via Adaptive Attention and Relation", Shao et al., 2023.

Expected with the paper's recipe: F1 63.8 on BP4D and 64.2 on DISFA (three folds each, DISFA from a run on
BP4D, heads matched by AU), 58.5 on GFT, 59.1 on Aff-Wild2. PyTorch's SGD in the paper decays every
parameter; here biases and normalisation are left out, as in all networks. `synthetic` is a small network for
synthetic faces on two CPU cores; its scores say nothing about real faces.

    python -m launch.train --config=configs/aar.py:bp4d,fold=1 --data_dir=data --workdir=runs/aar_bp4d_1
    python -m launch.train --config=configs/aar.py:disfa,fold=1 --config.finetune=runs/aar_bp4d_1 \
        --data_dir=data --workdir=runs/aar_disfa_1
    python -m launch.train --config=configs/aar.py:synthetic --data_dir=data --workdir=runs/aar_synthetic
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import choose
from jaxau import facs
from jaxau.config import Augment, Config, DataConfig, Optim, Stage

SYNTHETIC_AUS = (*facs.CORPUS_AUS["bp4d"], 25)  # BP4D's 12, and lips part, which anyone can see


def get_config(argument: str = "synthetic") -> ConfigDict:
    """Values for ``VARIANT,fold=N,stages=A+B``; without ``stages`` all of them are trained."""
    variants = {
        "bp4d": bp4d,
        "disfa": disfa,
        "gft": gft,
        "aff_wild2": aff_wild2,
        "synthetic": synthetic,
    }
    return choose(argument, variants)


def bp4d(fold: int) -> Config:
    return _paper("bp4d", "bp4d-3fold", fold)


def disfa(fold: int) -> Config:
    return _paper("disfa", "disfa-3fold", fold, frames="landmarks")  # the authors' lists [code]


def gft(fold: int) -> Config:
    return _paper("gft", "gft-official", fold)


def aff_wild2(fold: int) -> Config:
    return _paper("aff_wild2", "affwild2-12au", fold)


def _paper(corpus: str, protocol: str, fold: int, frames: Literal["all", "landmarks"] = "all") -> Config:
    augment = Augment(flip=0.5, resize_to=200)
    return Config(
        name="aar",
        data=DataConfig(
            corpus=corpus,
            aus=facs.CORPUS_AUS[corpus],
            protocol=protocol,
            fold=fold,
            frames=frames,
            alignment="jaa200",
            image_size=176,
            sampling="all",
            clip_length=48,
        ),
        network=_network(),
        stages={
            "frames": Stage(
                "frames",
                epochs=12,
                batch_size=8,  # of ARL, whose branches these are; the paper names none [choice]
                # Times .3 every 2 epochs.
                optim=Optim("sgd", 0.006, 5e-4, b1=0.9, schedule="steps", decay=0.3, periods=6),
                augment=augment,
                loss=_attention_loss(),
            ),
            # Crops and mirror images are drawn anew for each sequence in the paper; here from ten [choice].
            "cache": Stage("frames", epochs=1, batch_size=64, start_from="frames", cache=10, augment=augment),
            "features": Stage(
                "features",
                epochs=12,
                batch_size=1,  # one sequence [choice]
                start_from="cache",
                trainable=("graph_network",),  # frozen attention network: its loss is not there [choice]
                optim=Optim("adam", 0.006),
                augment=augment,
                loss={"weighted": True},
            ),
        },
    )


def synthetic(fold: int) -> Config:
    augment = Augment(flip=0.5, resize_to=72)
    return Config(
        name="aar",
        data=DataConfig(
            corpus="synthetic",
            aus=SYNTHETIC_AUS,
            protocol="synthetic-3fold",
            fold=fold,
            alignment="jaa200",
            image_size=64,
            sampling="all",
            clip_length=16,
        ),
        network=_network(width=2, window=16),
        stages={
            "frames": Stage(
                "frames",
                epochs=6,
                batch_size=16,
                optim=Optim(
                    "adamw", 4e-3, 0.02, schedule="cosine", warmup_steps=100, clip_norm=2.0, ema_decay=0.98
                ),
                augment=augment,
                loss=_attention_loss(),
            ),
            "cache": Stage("frames", epochs=1, batch_size=32, start_from="frames", cache=4, augment=augment),
            "features": Stage(
                "features",
                epochs=6,
                batch_size=4,
                start_from="cache",
                trainable=("graph_network",),
                optim=Optim("adam", 3e-3, schedule="cosine", warmup_steps=20, clip_norm=2.0),
                augment=augment,
                loss={"weighted": True},
            ),
        },
    )


def _network(**changes: object) -> dict[str, object]:
    """The paper's network, written out so that every field can be overridden."""
    return {
        "attention": True,
        "graph": "specific",
        "time": "gru",
        "window": 48,  # that of data.clip_length; for T_avg alone
        "width": 8,
        "pool": 8,
        **changes,
    }


def _attention_loss() -> dict[str, object]:
    """Eqs. 1 and 6: lambda_a and delta."""
    return {"weighted": True, "attention": 2.0, "delta": 3.0}
