"""What AAR's attention has learned: maps of unseen people lie on each AU's own region."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.tables import PAPERS
from data_pipelines.corpora import synthetic
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from data_pipelines.synthetic import SynthConfig
from jaxau import checkpoint, evaluate, facs, models, reproduce, train
from jaxau.models import aar


def own_share(network, variables, batches) -> np.ndarray:
    """(k,) share of each map's mass where the AU's predefined map is above .5, mean over all faces."""

    @jax.jit
    def step(batch):
        maps = network.apply(variables, batch["image"], train=False)["attention"]
        side, cells = batch["image"].shape[1], maps.shape[1]
        region = aar.attention_target(batch["au_centers"], side, cells, aar.AttentionLoss().delta) > 0.5
        return (maps * region).sum((1, 2)) / maps.sum((1, 2)), batch["mask"][:, None] & batch[
            "au_centers_mask"
        ]

    shares, masks = zip(*(map(np.asarray, step(batch)) for batch in batches), strict=True)
    return np.ma.masked_array(np.concatenate(shares), ~np.concatenate(masks)).mean(0).filled(np.nan)


@pytest.mark.slow
def test_maps_lie_on_the_aus_own_regions(tmp_path: Path):
    """More of each map's mass lies there than of an untrained network's, for every AU that is detected."""
    row = next(row for row in PAPERS["aar"].tables[7].rows if row.label == "AA")
    config = reproduce.configure(PAPERS["aar"], row, "bp4d", "synthetic", "short")
    prepare(synthetic.corpus(SynthConfig(tier="small"), "jaa200"), tmp_path / "data", workers=2)
    open_data, workdir = partial(make_data, data_dir=tmp_path / "data"), tmp_path / "run"
    train.run(config, open_data, workdir)
    scores = evaluate.read_scores(evaluate.run(workdir, open_data))
    detected = np.array(
        [
            row["f1"] is not None and row["f1"] > floor["f1"]
            for row, floor in zip(
                scores["stages"]["frames"]["honest"]["per_au"],
                scores["baselines"]["always_on"]["per_au"],
                strict=True,
            )
        ]
    )
    data, network = open_data(config), models.create(config, "frames")
    batch_size = 32
    trained = own_share(
        network, checkpoint.load_model(workdir).variables, data.evaluate("frames", "test", batch_size)
    )
    image = np.zeros((1, config.data.image_size, config.data.image_size, 3), np.uint8)
    untrained = own_share(
        network,
        jax.jit(network.init)(jax.random.key(1), image),
        data.evaluate("frames", "test", batch_size),
    )
    for au, before, after, counts in zip(config.data.aus, untrained, trained, detected, strict=True):
        print(f"{facs.column(au)}: {before:.3f} -> {after:.3f}{'' if counts else ' (not above always on)'}")
    assert detected.sum() >= 3
    assert (trained > untrained)[detected].all()
