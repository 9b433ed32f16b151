"""AAR's configurations: the paper's values, and the rows of Tables VI and VII as overrides."""

import jax
import numpy as np
import pytest

from configs.aar import get_config
from jaxau import facs, models, optim
from jaxau.config import from_dict


@pytest.mark.parametrize("variant", ["bp4d", "disfa", "gft", "aff_wild2"])
def test_the_papers_values(variant):
    """Section IV-A."""
    config = from_dict(get_config(f"{variant},fold=2").to_dict())
    data, stages = config.data, config.stages
    assert (data.corpus, data.aus, data.fold) == (variant, facs.CORPUS_AUS[variant], 2)
    assert (data.alignment, data.image_size, data.clip_length, data.sampling) == ("jaa200", 176, 48, "all")
    assert list(stages) == ["frames", "cache", "features"] and stages["cache"].cache == 10
    assert all((s.augment.resize_to, s.augment.flip) == (200, 0.5) for s in stages.values())
    frames, features = stages["frames"].optim, stages["features"].optim
    assert (frames.name, frames.b1, frames.weight_decay, features.name) == ("sgd", 0.9, 5e-4, "adam")
    assert stages["frames"].epochs == stages["features"].epochs == 12
    rate = optim.make_schedule(frames, 1200)
    np.testing.assert_allclose(
        [rate(s) for s in (0, 199, 200, 400, 1199)], 0.006 * 0.3 ** np.array([0, 0, 1, 2, 5]), rtol=1e-5
    )
    rate = optim.make_schedule(features, 1200)
    assert rate(0) == rate(1199) == pytest.approx(0.006)
    assert models.create_loss(config, "frames") == models.aar.AttentionLoss(True, 2.0, 3.0)
    assert models.create(config, "frames") == models.aar.AAR(data.aus, temporal=False)
    assert models.create(config, "features") == models.aar.AAR(data.aus, temporal=True)


# Table VI by hand: overrides, then maps?, weights?, G, T of what they give.
ROWS = {
    "B-Net": (
        {
            "network.attention": False,
            "stages.frames.loss.attention": 0.0,
            "stages.frames.loss.weighted": False,
        },
        (False, False, None, None),
    ),
    "BW-Net": ({"network.attention": False, "stages.frames.loss.attention": 0.0}, (False, True, None, None)),
    "AA": ({}, (True, True, None, None)),
    "AA+Gsh": ({"network.graph": "shared", "network.time": "none"}, (True, True, "shared", "none")),
    "AA+Gsp": ({"network.time": "none"}, (True, True, "specific", "none")),
    "AA+Gsp+Tavg": ({"network.time": "average"}, (True, True, "specific", "average")),
    "AAR": ({}, (True, True, "specific", "gru")),
}


@pytest.mark.parametrize("name", ROWS)
def test_variants_are_overrides(name):
    overrides, (maps, weighted, graph, time) = ROWS[name]
    for variant in ("bp4d", "synthetic"):
        stages = "frames+cache+features" if graph else "frames"
        values = get_config(f"{variant},stages={stages}")
        values.update_from_flattened_dict(overrides)
        config = from_dict(values.to_dict())
        assert list(config.stages) == stages.split("+")
        network, loss = models.create(config, "frames"), models.create_loss(config, "frames")
        assert (network.attention, loss.attention > 0, loss.weighted) == (maps, maps, weighted)
        if graph:
            network = models.create(config, "features")
            assert (network.graph, network.time) == (graph, time)
            k, width = len(config.data.aus), 12 * network.width
            params = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 2, k, width), np.float32))
            labels = optim.trainable_labels(config.stages["features"], params["params"])
            assert set(jax.tree.leaves(labels)) == {"train"}


def test_unknown_variants_are_told():
    with pytest.raises(ValueError, match=r"give one of \['bp4d', 'disfa', 'gft', 'aff_wild2', 'synthetic'\]"):
        get_config("bp4dplus")
    with pytest.raises(ValueError, match=r"fold=x is no number"):
        get_config("bp4d,fold=x")
    with pytest.raises(ValueError, match=r"stages=clips; there are \['frames', 'cache', 'features'\]"):
        get_config("bp4d,stages=clips")
