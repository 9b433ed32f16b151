"""GLEE-Net, "Detecting Facial Action Units from Global-Local Fine-grained Expressions", Zhang et al., 2022.

Expected with the paper's recipe (FaceNet, then FEC's triplets, three folds): F1 65.7 on BP4D, 65.5 on DISFA,
63.7 on BP4D+; 59.5 trained on BP4D and tested on all of BP4D+. `synthetic` is a small network for synthetic
faces on two CPU cores; its scores say nothing about real faces.

    python -m launch.prepare --corpus=bp4d --raw_dir=BP4D --data_dir=data --alignment=jaa200 --fit_3dmm
    jaxau import-weights inception_resnet_v1 FILE --out weights/facenet
    python -m launch.train --config=configs/glee_net.py:bp4d,fold=1 --data_dir=data --workdir=runs/glee_1 \
        --config.weights.identity=weights/facenet
    python -m launch.train --config=configs/glee_net.py:synthetic --data_dir=data --workdir=runs/glee_faces

Stage ``triplets`` needs FEC in ``data_dir``; synthetic faces have triplets. Without FaceNet's weights stage
``identity`` learns to tell synthetic people apart, of whom there should be many, in the same alignment; with
``stages=frames`` the network begins with random parameters.

    python -m launch.prepare --corpus=synthetic --subjects=600 --frames=24 --data_dir=data --alignment=jaa200
    python -m launch.train --config=configs/glee_net.py:bp4d,stages=identity+triplets+frames --data_dir=data \
        --workdir=runs/glee_identity
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import choose
from jaxau import facs
from jaxau.config import Augment, Config, DataConfig, Optim, Selection, Stage

SYNTHETIC_AUS = (*facs.CORPUS_AUS["bp4d"], 25)  # BP4D's 12, and lips part, which anyone can see
_TRIPLET_PARTS = ("face", "global_fc", "local")
_PEOPLE = 1000  # subject numbers that the identity model can tell apart


def get_config(argument: str = "synthetic") -> ConfigDict:
    """Values for ``VARIANT,fold=N,stages=A+B``; without ``stages`` triplets and frames are trained."""
    variants = {
        "bp4d": bp4d,
        "bp4dplus": bp4dplus,
        "disfa": disfa,
        "bp4d_to_bp4dplus": bp4d_to_bp4dplus,
        "synthetic": synthetic,
    }
    values = choose(argument if "stages=" in argument else f"{argument},stages=triplets+frames", variants)
    earlier = ""
    for name in values.stages:  # each starts from the one before it, whichever are trained
        values.stages[name].start_from = earlier
        earlier = name
    return values


def bp4d(fold: int) -> Config:
    return _paper("bp4d", "bp4d-3fold", fold, "landmarks")


def bp4dplus(fold: int) -> Config:
    return _paper("bp4dplus", "bp4dplus-3fold", fold)


def disfa(fold: int) -> Config:
    return _paper("disfa", "disfa-3fold", fold, "landmarks")


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
        name="glee_net",
        selection=selection,
        data=DataConfig(
            corpus=corpus,
            aus=facs.CORPUS_AUS[corpus],
            protocol=protocol,
            fold=fold,
            frames=frames,
            alignment="jaa200",
            image_size=160,
            sampling="all",
        ),
        network=_network(),
        stages={
            "identity": Stage(  # [choice]; the paper takes FaceNet
                "frames",
                epochs=10,
                batch_size=64,
                corpus="synthetic",
                trainable=("identity",),
                optim=Optim("adam", 1e-3),
                augment=augment,
                loss={"label": "subject"},
            ),
            "triplets": Stage(
                "triplets",
                epochs=10,
                batch_size=30,
                corpus="fec",
                mine_triplets=True,
                trainable=_TRIPLET_PARTS,
                optim=Optim("sgd", 2e-4, b1=0.9, nesterov=False),
                augment=augment,
                loss=_triplet_loss(),
            ),
            "frames": Stage(
                "frames",
                epochs=10,
                batch_size=42,  # of the printed steps of an epoch
                optim=Optim("sgd", 2e-3, b1=0.9, nesterov=False),
                augment=augment,
                loss={"initial": 1.0},
            ),
        },
    )


def synthetic(fold: int) -> Config:
    augment = Augment(flip=0.5, color_jitter=0.2)
    return Config(
        name="glee_net",
        data=DataConfig(
            corpus="synthetic",
            aus=SYNTHETIC_AUS,
            protocol="synthetic-3fold",
            fold=fold,
            alignment="jaa256",
            image_size=80,  # the least that Inception-ResNet-v1 has room for
            inner_fraction=0.3,  # three people at least, of whom triplets can be made
            sampling="all",
        ),
        network=_network(repeats=(1, 1, 1), width=0.125, part_side=24),
        stages={
            "identity": Stage(
                "frames",
                epochs=4,
                batch_size=32,
                trainable=("identity",),
                optim=_adam(),
                augment=augment,
                loss={"label": "subject"},
            ),
            "triplets": Stage(
                "triplets",
                epochs=4,
                batch_size=24,
                mine_triplets=True,
                trainable=_TRIPLET_PARTS,
                optim=_adam(),
                augment=augment,
                loss=_triplet_loss(),
            ),
            "frames": Stage(
                "frames", epochs=6, batch_size=32, optim=_adam(), augment=augment, loss={"initial": 1.0}
            ),
        },
    )


def _adam() -> Optim:
    return Optim("adam", 1e-3, schedule="cosine", warmup_steps=20, clip_norm=2.0)


def _triplet_loss() -> dict[str, object]:
    return {"margin_one": 0.1, "margin_more": 0.2}


def _network(**changes: object) -> dict[str, object]:
    """The paper's network, written out so that every field can be overridden."""
    return {
        "branches": "global and local",
        "expression": True,
        "classifier": "transformer",
        "joint": True,
        "fixed_branches": False,
        "people": _PEOPLE,
        "tokens": 32,
        "heads": 4,
        "hidden": 64,
        "encoders": 3,
        "dropout": 0.1,
        "repeats": (5, 10, 5),
        "width": 1.0,
        "part_side": 96,
        **changes,
    }
