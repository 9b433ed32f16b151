"""FAN's configurations: the paper's values, and what a run of landmarks alone may leave out."""

import dataclasses

import numpy as np
import pytest

from configs.fan import get_config
from jaxau import models, optim
from jaxau.config import Stage, from_dict


def test_the_papers_values():
    """Bulat and Tzimiropoulos, Section 4: batches of 10, 40 epochs, rates that fall to a hundredth."""
    config = from_dict(get_config("300w_lp").to_dict())
    stage = config.stages["landmarks"]
    assert (config.data.corpus, config.data.protocol) == ("300w_lp", "300w-lp")
    assert (config.data.aus, config.data.image_size, config.data.alignment) == ((), 256, "wide")
    assert (stage.view, stage.epochs, stage.batch_size) == ("landmarks", 40, 10)
    assert (stage.augment.flip, stage.augment.rotation, stage.augment.scale) == (0.5, 50.0, 0.2)
    assert stage.augment.color_jitter and stage.augment.holes
    rate = optim.make_schedule(stage.optim, 3000)
    np.testing.assert_allclose([rate(s) for s in (0, 999, 1000, 2999)], [1e-4, 1e-4, 1e-5, 1e-6], rtol=1e-5)
    assert models.create(config, "landmarks") == models.fan.FAN()
    assert models.create_loss(config, "landmarks") == models.fan.LandmarksLoss(1.0)
    assert models.role(config, "landmarks").selects == "-nme"


def test_synthetic_faces_have_98_landmarks():
    config = from_dict(get_config("synthetic,fold=2").to_dict())
    network = models.create(config, "landmarks")
    assert (network.points, network.hourglasses, config.data.fold) == (98, 2, 2)
    assert config.data.image_size % 64 == 0


def test_only_stages_of_landmarks_need_no_aus():
    values = get_config("synthetic").to_dict()
    detecting = dataclasses.asdict(Stage("frames", epochs=1, batch_size=1))
    with pytest.raises(ValueError, match=r"AUs \[\]: name at least one AU"):
        from_dict({**values, "stages": {**values["stages"], "frames": detecting}})
    with pytest.raises(ValueError, match=r"AU \[99\]"):
        from_dict({**values, "data": {**values["data"], "aus": (99,)}})
