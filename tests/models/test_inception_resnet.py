"""Inception-ResNet-v1 beyond its public outputs (those are in test_pretrained.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau import complexity
from jaxau.models.inception_resnet import InceptionResNet, normalize


def shapes(network, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    return variables, outputs, image


@pytest.mark.parametrize(
    ("padding", "side", "cells"),
    [("VALID", 160, (17, 8, 3)), ("SAME", 256, (32, 16, 8))],
)
def test_maps_and_size(padding, side, cells):
    variables, outputs, _ = shapes(InceptionResNet(padding), side)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 23_482_624
    assert outputs["repeat_1"].shape == (1, cells[0], cells[0], 256)
    assert outputs["repeat_2"].shape == (1, cells[1], cells[1], 896)
    assert outputs["block8"].shape == (1, cells[2], cells[2], 1792)
    assert (outputs["pooled"].shape, outputs["embedding"].shape) == ((1, 1792), (1, 512))


def test_the_part_that_gtle_net_uses():
    """9.61 M parameters and 4.39 G multiply-accumulates at 256 pixels, a subset of the whole network's."""
    whole, _, _ = shapes(InceptionResNet("SAME"), 256)
    network = InceptionResNet("SAME", last="repeat_2")
    part, outputs, image = shapes(network, 256)
    assert set(outputs) == {"repeat_1", "repeat_2"}
    assert round(sum(leaf.size for leaf in jax.tree.leaves(part["params"])) / 1e6, 2) == 9.61
    macs = complexity.count_macs(lambda v, x: network.apply(v, x, train=False), part, image)
    assert macs == pytest.approx(4.39e9, rel=0.01)
    for collection, tree in part.items():
        assert {name: whole[collection][name] for name in tree} == tree


def test_public_classifier():
    variables, outputs, _ = shapes(InceptionResNet(classes=8631), 160)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 27_910_327
    assert outputs["logits"].shape == (1, 8631)


def test_normalize():
    pixels = jnp.array([0, 127, 255], jnp.uint8).reshape(1, 1, 1, 3)
    expected = (np.array([0.0, 127.0, 255.0]) - 127.5) / 128
    np.testing.assert_allclose(normalize(pixels)[0, 0, 0], expected, atol=1e-6)
