"""AUNet by parts, each frame seen once, gives the numbers of the whole."""

import jax
import numpy as np
import pytest

from jaxau.models.aunet import AUNet


@pytest.mark.parametrize(
    ("part", "trunk", "flip"),
    [("tuples", "fan", False), ("flow", "resnet18", True)],
)
def test_features_of_frames_and_what_is_detected_in_them(part, trunk, flip):
    network = AUNet((1, 2, 4), part=part, trunk=trunk, vae=False, width=16, hourglasses=1, flip=flip)
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    trios = np.array([[0, 1, 2], [1, 2, 3], [3, 3, 1]])
    flow = [rng.normal(0, 0.1, (3, 64, 64, 4)).astype(np.float32)] if part == "flow" else []
    shapes = jax.eval_shape(network.init, jax.random.key(1), video[trios], *flow)
    variables = jax.tree.map(lambda leaf: 0.2 * rng.random(leaf.shape, np.float32) + 0.01, shapes)
    whole = jax.jit(lambda *given: network.apply(variables, *given)["logits"])(video[trios], *flow)
    features = jax.jit(lambda image: network.apply(variables, image, method="features"))(video)
    trio = jax.tree.map(lambda leaf: leaf[trios], features)
    found = jax.jit(lambda *given: network.apply(variables, *given, method="detect")["logits"])(trio, *flow)
    np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max())
    assert np.abs(whole[0] - whole[1]).max() > 1e-4 * np.abs(whole).max()
