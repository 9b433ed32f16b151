"""AUNet, "Towards Robust Facial Action Units Detection", Yang et al., 2023.

Expected with the paper's recipe: F1 65.0 on BP4D and 66.1 on DISFA (three folds each, DISFA from a run on
BP4D, heads matched by AU); trained on the mixture of three corpora 65.5 on BP4D, 70.0 on DISFA and 44.1 on
Aff-Wild2. The features are those of ibug's public FAN, imported with `jaxau import-weights`. `synthetic` is a
small network for synthetic faces on two CPU cores, whose FAN is trained on them, too: without
--config.weights.fan it keeps random parameters, which is said when the run begins. Its scores say nothing
about real faces.

    jaxau import-weights fan 2dfan2.pth --out weights/fan
    python -m launch.train --config=configs/aunet.py:bp4d,fold=1 --data_dir=data --workdir=runs/aunet_bp4d_1
    python -m launch.train --config=configs/aunet.py:disfa,fold=1 --config.finetune=runs/aunet_bp4d_1 \
        --data_dir=data --workdir=runs/aunet_disfa_1
    python -m launch.train --config=configs/fan.py:synthetic --data_dir=data --workdir=runs/fan_synthetic
    python -m launch.train --config=configs/aunet.py:synthetic --config.weights.fan=runs/fan_synthetic \
        --data_dir=data --workdir=runs/aunet_synthetic

The corpora are prepared with --alignment=wide. `mixture_to_bp4d`, `mixture_to_disfa` and
`mixture_to_aff_wild2` train the same detector of 15 AUs on all three, in shares as the paper has frames of
them, and test on one.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import choose
from jaxau import facs
from jaxau.config import Augment, Config, DataConfig, Optim, Stage

MIXTURE_AUS = (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26)
SYNTHETIC_AUS = (*MIXTURE_AUS, 43)  # and closed eyes, which a still cannot tell from a blink

_TRAINED_ON = {"bp4d": 100, "disfa": 83, "aff_wild2_8au": 227}  # thousands of frames in the paper
_PROTOCOLS = {"bp4d": "bp4d-3fold", "disfa": "disfa-3fold", "aff_wild2_8au": "affwild2-8au"}

_AUGMENT = Augment(
    flip=0.5,
    color_jitter=0.3,  # [code]; not in the paper
    rotation=15.0,
    scale=0.25,
    shift=10 / 256,
    blur=0.5,
    compression=0.5,
    holes=0.5,
)


def get_config(argument: str = "synthetic") -> ConfigDict:
    """Values for ``VARIANT,fold=N,stages=A+B``.

    Without ``stages`` these are labels and tuples. ``flow`` is the row of a table (optical flow in the place
    of what changes in the features). ``windows`` trains the same detector on consecutive frames, for which
    the FAN runs once a frame, and counts each that has both neighbours in its gapless run; with
    stages=labels+windows+tuples and --config.stages.tuples.start_from=windows the tuples of the paper, each
    aligned onto its middle frame, need only the last epochs.
    """
    variants = {
        "bp4d": bp4d,
        "disfa": disfa,
        "aff_wild2": aff_wild2,
        "mixture_to_bp4d": lambda fold: _mixture("bp4d", fold),
        "mixture_to_disfa": lambda fold: _mixture("disfa", fold),
        "mixture_to_aff_wild2": lambda fold: _mixture("aff_wild2_8au", fold),
        "synthetic": synthetic,
    }
    values = choose(argument, variants)
    if "stages=" not in argument:
        del values.stages["flow"], values.stages["windows"]
    return values


def bp4d(fold: int) -> Config:
    return _paper("bp4d", fold, facs.CORPUS_AUS["bp4d"], {})


def disfa(fold: int) -> Config:
    return _paper("disfa", fold, facs.CORPUS_AUS["disfa"], {})


def aff_wild2(fold: int) -> Config:
    return _paper("aff_wild2_8au", fold, facs.CORPUS_AUS["aff_wild2_8au"], {})


def _mixture(corpus: str, fold: int) -> Config:
    own = _TRAINED_ON[corpus]
    shares = {name: round(frames / own, 2) for name, frames in _TRAINED_ON.items() if name != corpus}
    return _paper(corpus, fold, MIXTURE_AUS, shares)


def _paper(corpus: str, fold: int, aus: tuple[int, ...], mixture: dict[str, float]) -> Config:
    frames: Literal["all", "aunet"] = "all" if corpus == "aff_wild2_8au" else "aunet"
    # Times .3 every 4 epochs [code]; "degrading by 30%" in the text.
    optim = Optim("adamw", 1e-4, schedule="steps", decay=0.3, periods=3)
    return Config(
        name="aunet",
        data=DataConfig(
            corpus=corpus,
            aus=aus,
            protocol=_PROTOCOLS[corpus],
            fold=fold,
            frames=frames,
            alignment="wide",
            image_size=256,
            sampling="all",
            mixture=mixture,
            neighbor_distance=10,
            clip_length=64,  # of windows: 44 frames that have both neighbours for 64 that a FAN sees
        ),
        network=_network(flip=True),
        stages=_stages(
            labels=Stage(
                "labels", epochs=100, batch_size=128, optim=Optim("adam", 1e-3), loss={"divergence": 0.3}
            ),
            tuples=Stage("tuples", epochs=12, batch_size=64, optim=optim, augment=_AUGMENT),
        ),
        weights={"fan": "weights/fan"},
    )


def synthetic(fold: int) -> Config:
    optim = Optim("adamw", 1e-2, 0.02, schedule="cosine", warmup_steps=50, clip_norm=2.0, ema_decay=0.98)
    return Config(
        name="aunet",
        data=DataConfig(
            corpus="synthetic",
            aus=SYNTHETIC_AUS,
            protocol="synthetic-3fold",
            fold=fold,
            alignment="wide",
            image_size=128,
            sampling="all",
            neighbor_distance=3,  # .4 s as in BP4D, at 8 frames a second
            clip_length=16,
        ),
        network=_network(width=32, points=98),
        stages=_stages(
            labels=Stage(
                "labels", epochs=20, batch_size=128, optim=Optim("adam", 1e-3), loss={"divergence": 0.1}
            ),
            tuples=Stage(
                "tuples",
                epochs=4,
                batch_size=16,
                optim=optim,
                augment=Augment(flip=0.5, color_jitter=0.3, rotation=10.0, scale=0.1, shift=0.03),
            ),
        ),
    )


def _stages(labels: Stage, tuples: Stage) -> dict[str, Stage]:
    """The auto-encoder; the detector by flow and by features, which differ in what moves alone; windows."""
    detector = {**vars(tuples), "start_from": "labels", "trainable": ("head",), "loss": _loss()}
    return {
        "labels": labels,
        "flow": Stage(**{**detector, "flow": True}),
        "windows": Stage(**{**detector, "view": "clips", "batch_size": 4}),
        "tuples": Stage(**detector),
    }


def _loss() -> dict[str, object]:
    """Eqs. 3 and 4."""
    return {"consistency": "paper", "gamma": 1.0}


def _network(**changes: object) -> dict[str, object]:
    """The paper's network, written out so that every field can be overridden."""
    return {
        "trunk": "fan",
        "motion": True,
        "vae": True,
        "latent": 0,
        "alpha": 0.9,
        "beta": 0.1,
        "flip": False,
        "hourglasses": 2,
        "pool": "max",
        "points": 68,
        "width": 256,
        **changes,
    }
