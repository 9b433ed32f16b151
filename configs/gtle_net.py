"""GTLE-Net, "Learning facial expression-aware global-to-local representation", An et al., 2024.

Expected with the paper's recipe (encoder from FEC's triplets, three folds): F1 66.3 on BP4D, 66.9 on DISFA,
65.7 on BP4D+; 72.9 on RAF-AU's 13 AUs (one split of the pictures); 59.7 trained on BP4D and tested on all of
BP4D+. `synthetic` is a small network for synthetic faces on two CPU cores; its scores say nothing about real
faces.

    python -m launch.train --config=configs/gtle_net.py:bp4d,fold=1 --data_dir=data --workdir=runs/gtle_bp4d_1
    python -m launch.train --config=configs/gtle_net.py:bp4d,stages=emotions+frames --data_dir=data \
        --workdir=runs/gtle_emotions_1
    python -m launch.train --config=configs/gtle_net.py:bp4d_to_bp4dplus --data_dir=data --workdir=runs/gtle
    python -m launch.evaluate --workdir=runs/gtle --corpus=bp4dplus --data_dir=data
    python -m launch.train --config=configs/gtle_net.py:synthetic --data_dir=data --workdir=runs/gtle_faces

Stage ``triplets`` needs FEC and stage ``emotions`` AffectNet in ``data_dir``; synthetic faces have both. With
``stages=frames`` and ``--config.weights.trunk=FOLDER`` the encoder begins with imported weights (`jaxau
import-weights`), with ``stages=frames`` alone with random ones.

The paper updates everything by Adam "except E_m", though its masks are learned: here E_m is trained like the
rest [choice]. ``--config.stages.frames.optim.multipliers.mask_extractor=0.1`` gives it a rate of its own.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import choose
from jaxau import facs
from jaxau.config import Augment, Config, DataConfig, Optim, Selection, Stage

SYNTHETIC_AUS = (*facs.CORPUS_AUS["bp4d"], 25)  # BP4D's 12, and lips part, which anyone can see


def get_config(argument: str = "synthetic") -> ConfigDict:
    """Values for ``VARIANT,fold=N,stages=A+B``; without ``stages`` triplets and frames are trained.

    Stage ``frames`` starts from ``triplets`` or ``emotions``, whichever is trained.
    """
    variants = {
        "bp4d": bp4d,
        "bp4dplus": bp4dplus,
        "disfa": disfa,
        "raf_au": raf_au,
        "bp4d_to_bp4dplus": bp4d_to_bp4dplus,
        "synthetic": synthetic,
    }
    values = choose(argument if "stages=" in argument else f"{argument},stages=triplets+frames", variants)
    before = [name for name in ("triplets", "emotions") if name in values.stages]
    if "frames" in values.stages:
        values.stages.frames.start_from = before[0] if before else ""
    return values


def bp4d(fold: int) -> Config:
    return _paper("bp4d", "bp4d-3fold", fold, "landmarks")


def bp4dplus(fold: int) -> Config:
    return _paper("bp4dplus", "bp4dplus-3fold", fold)


def disfa(fold: int) -> Config:
    return _paper("disfa", "disfa-3fold", fold, "landmarks")


def raf_au(fold: int) -> Config:
    return _paper("raf_au", "raf-au-80-20", fold)


def bp4d_to_bp4dplus(fold: int) -> Config:
    # Nobody is left over to select: all of BP4D trains for as long as the paper does.
    return _paper("bp4d", "bp4d-to-bp4dplus", fold, "landmarks", selection="conventional")


def _paper(
    corpus: str,
    protocol: str,
    fold: int,
    frames: Literal["all", "landmarks"] = "all",
    selection: Selection = "honest",
) -> Config:
    augment = Augment(flip=0.5)  # the paper names none [choice]
    return Config(
        name="gtle_net",
        selection=selection,
        data=DataConfig(
            corpus=corpus,
            aus=facs.CORPUS_AUS[corpus],
            protocol=protocol,
            fold=fold,
            frames=frames,
            alignment="jaa256",
            image_size=256,
            sampling="all",
        ),
        network=_network(),
        stages={
            # As GLEE-Net, whose authors these are; the paper is silent [choice].
            "triplets": Stage(
                "triplets",
                epochs=10,
                batch_size=30,
                corpus="fec",
                optim=Optim("sgd", 2e-4, b1=0.9, nesterov=False),
                augment=augment,
                loss=_triplet_loss(),
            ),
            "emotions": Stage(  # [choice]
                "emotions",
                epochs=10,
                batch_size=64,
                corpus="affectnet",
                optim=Optim("adam", 1e-4, 1e-6),
                augment=augment,
                loss={"label": "emotion"},
            ),
            "frames": Stage(
                "frames",
                epochs=20,
                batch_size=10,
                # "A warm-up of 10^3 steps, then decay with an exponent of -0.5", read as a power of the step.
                optim=Optim("adam", 1e-5, 1e-6, schedule="inverse_sqrt", warmup_steps=1000),
                augment=augment,
                loss={"attention": 0.0},
            ),
        },
    )


def synthetic(fold: int) -> Config:
    augment = Augment(flip=0.5, color_jitter=0.2)
    return Config(
        name="gtle_net",
        data=DataConfig(
            corpus="synthetic",
            aus=SYNTHETIC_AUS,
            protocol="synthetic-3fold",
            fold=fold,
            alignment="jaa256",
            image_size=64,
            inner_fraction=0.3,  # three people at least, of whom triplets can be made
            sampling="all",
        ),
        network=_network(blocks=1, width=0.125, dropout=0.0),
        stages={
            "triplets": Stage(
                "triplets", epochs=6, batch_size=32, optim=_adam(), augment=augment, loss=_triplet_loss()
            ),
            "emotions": Stage(
                "emotions", epochs=6, batch_size=64, optim=_adam(), augment=augment, loss={"label": "emotion"}
            ),
            "frames": Stage(
                "frames", epochs=4, batch_size=16, optim=_adam(), augment=augment, loss={"attention": 0.0}
            ),
        },
    )


def _adam() -> Optim:
    return Optim("adamw", 3e-3, 0.02, schedule="cosine", warmup_steps=50, clip_norm=2.0, ema_decay=0.98)


def _network(**changes: object) -> dict[str, object]:
    """The paper's network, written out so that every field can be overridden."""
    return {
        "trunk": "inception_resnet",
        "blocks": 0,  # as published
        "width": 1.0,
        "dropout": 0.6,
        "fixed_encoder": False,
        "extractors": "maps and masks",
        "remat": False,  # a batch of 10 needs no saving; one of 64 does
        **changes,
    }


def _triplet_loss() -> dict[str, object]:
    """Eq. 1: m by class of triplet."""
    return {"margin_one": 0.1, "margin_more": 0.2}
