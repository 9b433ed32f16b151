"""A LAC small enough to compile in seconds, trained as the paper does."""

import pytest

from jaxau.config import Config, DataConfig, Optim, Stage
from jaxau.models.lac import LACLoss

NETWORK = {"block": "basic", "stage_sizes": (1, 1), "widths": (8, 12), "stem": "3x3", "features": 8}


@pytest.fixture(scope="session")
def tiny():
    optim = Optim(name="adamw", lr=1e-3, weight_decay=0.5, schedule="cosine")
    loss = {name: getattr(LACLoss, name) for name in ("classification", "roi_size", "roi_bins")}
    return Config(
        name="lac",
        data=DataConfig("synthetic", (1, 4, 12, 25), "synthetic-3fold", image_size=32, clip_length=4),
        network={"check": "spatial_temporal", **NETWORK},
        stages={
            "frames": Stage("frames", epochs=1, batch_size=64, optim=optim, loss=loss),
            "clips": Stage("clips", epochs=1, batch_size=8, optim=optim, loss=loss),
        },
    )
