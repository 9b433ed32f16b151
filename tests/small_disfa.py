"""A configuration for launchers: one stage of a tiny network on DISFA."""

from ml_collections import ConfigDict

from jaxau import facs
from jaxau.config import Config, DataConfig, Optim, Stage, to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig("disfa", facs.CORPUS_AUS["disfa"], "disfa-3fold", image_size=32, clip_length=8)
    stages = {"frames": Stage("frames", epochs=3, batch_size=16, optim=Optim("adamw", 3e-3))}
    network = {"block": "basic", "stage_sizes": (1,), "widths": (8,), "stem": "3x3", "features": 8}
    return to_config_dict(Config("lac", data, stages, network))
