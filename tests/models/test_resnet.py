"""The trunk against public PyTorch outputs, stage by stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.models.resnet import ResNet


def _flax_variables(state, stage_sizes, convs):
    """Torchvision names to ours, written out here as an independent reading of the layout."""
    params, stats = {}, {}

    def conv(ours, theirs):
        _put(params, (*ours, "kernel"), state[f"{theirs}.weight"].transpose(2, 3, 1, 0))

    def norm(ours, theirs):
        _put(params, (*ours, "scale"), state[f"{theirs}.weight"])
        _put(params, (*ours, "bias"), state[f"{theirs}.bias"])
        _put(stats, (*ours, "mean"), state[f"{theirs}.running_mean"])
        _put(stats, (*ours, "var"), state[f"{theirs}.running_var"])

    conv(("conv1",), "conv1")
    norm(("bn1",), "bn1")
    for stage, size in enumerate(stage_sizes, start=1):
        for b in range(size):
            ours, theirs = f"layer{stage}_{b}", f"layer{stage}.{b}"
            for i in range(1, convs + 1):
                conv((ours, f"conv{i}"), f"{theirs}.conv{i}")
                norm((ours, f"bn{i}"), f"{theirs}.bn{i}")
            if f"{theirs}.downsample.0.weight" in state:
                conv((ours, "downsample_conv"), f"{theirs}.downsample.0")
                norm((ours, "downsample_bn"), f"{theirs}.downsample.1")
    return {"params": params, "batch_stats": stats}


def _put(tree, path, value):
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = jnp.asarray(value)


@pytest.mark.parametrize(
    ("name", "network", "convs"),
    [
        ("resnet18", ResNet("basic", (2, 2, 2, 2)), 2),
        ("resnet50", ResNet("bottleneck", (3, 4, 6, 3)), 3),
    ],
)
def test_equals_torchvision_at_every_stage(golden, name, network, convs):
    weights, spec, want = golden(name)
    state = {n: weights.fill(n, tuple(s), spec["seed"], r, spec["gain"]) for n, s, r in spec["parameters"]}
    (input_name, about), *_ = spec["inputs"].items()
    x = weights.inputs(tuple(about["shape"]), spec["seed"], input_name, about["kind"])
    variables = _flax_variables(state, network.stage_sizes, convs)

    def capture(module, _):
        return module.name is not None and (module.name == "bn1" or module.name.startswith("layer"))

    out, inner = jax.jit(
        lambda v, x: network.apply(v, x, True, capture_intermediates=capture, mutable=["intermediates"])
    )(variables, x.transpose(0, 2, 3, 1))
    inner = inner["intermediates"]
    got = {
        f"layer{i}": inner[f"layer{i}_{size - 1}"]["__call__"][0]
        for i, size in enumerate(network.stage_sizes, start=1)
    }
    assert set(got) <= set(want), list(want)
    for key, value in got.items():
        value = weights.sample(np.asarray(value).transpose(0, 3, 1, 2), spec["outputs"][key]["step"])
        scale = spec["outputs"][key]["abs_max"]
        np.testing.assert_allclose(
            value.reshape(-1), want[key].reshape(-1), rtol=0, atol=1e-5 * scale, err_msg=key
        )
    np.testing.assert_array_equal(out, inner[f"layer4_{network.stage_sizes[-1] - 1}"]["__call__"][0])
