"""Convolutions of branches: every form against float64 loops; on 8 devices no activation is moved.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/models/test_branch_conv.py

prints what the collectives of each form's gradient put together.
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxau.models import aar
from jaxau.models.branches import BranchConv, BranchNorm, branch_conv, default_form
from launch import bench_branches

FORMS = {**bench_branches.FORMS, "default": branch_conv}
SHARED_FORMS = {
    **bench_branches.SHARED_FORMS,
    "shifted": partial(branch_conv, form="shifted"),
    "products": partial(branch_conv, form="products"),
    "default": branch_conv,
}


def _loops(x, kernel, g):
    """y, and the gradients of sum(y * g) by x and kernel, with a border of zeros, in float64."""
    k, n, height, width, _ = x.shape
    y, dx, dkernel = np.zeros(g.shape), np.zeros(x.shape), np.zeros(kernel.shape)
    for j, i, row, column in np.ndindex(k, n, height, width):
        for dy in range(3):
            for dx_ in range(3):
                r, c = row + dy - 1, column + dx_ - 1
                if 0 <= r < height and 0 <= c < width:
                    y[j, i, row, column] += x[j, i, r, c] @ kernel[j, dy, dx_]
                    dx[j, i, r, c] += kernel[j, dy, dx_] @ g[j, i, row, column]
                    dkernel[j, dy, dx_] += np.outer(x[j, i, r, c], g[j, i, row, column])
    return y, dx, dkernel


def _compare(form, x, kernel, g, shared):
    def objective(x, kernel):
        y = form(x, kernel)
        return (y * g).sum(), y

    arguments = (jnp.asarray(x[0] if shared else x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    (dx, dkernel), y = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(*arguments)
    want_y, want_dx, want_dkernel = _loops(x, kernel, g)
    want_dx = want_dx.sum(0) if shared else want_dx
    for got, want in ((y, want_y), (dx, want_dx), (dkernel, want_dkernel)):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("outputs", [4, 1])
@pytest.mark.parametrize("name", FORMS)
def test_forms_equal_loops(name, outputs):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(3, 2, 5, 4, 3)), rng.normal(size=(3, 3, 3, 3, outputs))
    _compare(FORMS[name], x, kernel, rng.normal(size=(3, 2, 5, 4, outputs)), shared=False)


@pytest.mark.parametrize("name", SHARED_FORMS)
def test_forms_equal_loops_where_the_input_is_shared(name):
    rng = np.random.default_rng(1)
    x = np.broadcast_to(rng.normal(size=(2, 4, 5, 3)), (3, 2, 4, 5, 3))
    kernel = rng.normal(size=(3, 3, 3, 3, 2))
    _compare(SHARED_FORMS[name], x, kernel, rng.normal(size=(3, 2, 4, 5, 2)), shared=True)


@pytest.mark.parametrize("form", ["loop", "shifted", "products", None])
@pytest.mark.parametrize("shared", [False, True])
def test_larger_kernels_with_strides_equal_torchs(form, shared):
    """GTLE-Net's: 7x7, stride 2, padding 3, of maps with odd and even sides."""
    torch = pytest.importorskip("torch", reason="pip install 'jaxau[parity]'")
    rng = np.random.default_rng(3)
    x, kernel = rng.normal(size=(3, 2, 9, 8, 3)), rng.normal(size=(3, 7, 7, 3, 4))
    x = np.broadcast_to(x[:1], x.shape) if shared else x
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, kernel)]
    own = [
        torch.nn.functional.conv2d(
            tensors[0][k].permute(0, 3, 1, 2), tensors[1][k].permute(3, 2, 0, 1), None, 2, 3
        )
        for k in range(3)
    ]
    want = torch.stack(own).permute(0, 1, 3, 4, 2)
    g = rng.normal(size=tuple(want.shape))
    want.backward(torch.tensor(g))

    def objective(x, kernel):
        y = branch_conv(x, kernel, form, stride=2)
        return (y * g).sum(), y

    given = (jnp.asarray(x[0] if shared else x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    (dx, dkernel), y = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(*given)
    want_dx = tensors[0].grad.numpy()
    pairs = ((y, want.detach().numpy()), (dx, want_dx.sum(0) if shared else want_dx))
    for got, wanted in (*pairs, (dkernel, tensors[1].grad.numpy())):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_the_default_follows_the_measurement():
    """docs/benchmarks: a loop, but for one output channel and for the gradients of many branches."""
    assert default_form(12, 96, True) == default_form(16, 8, True) == default_form(64, 16, False) == "loop"
    assert default_form(64, 16, True) == "shifted"
    assert default_form(12, 1, True) == default_form(12, 1, False) == "products"
    assert default_form(64, 16, True, size=7) == default_form(12, 1, True, size=7) == "loop"


def test_modules_keep_their_parameters_by_branch():
    x = jnp.asarray(np.random.default_rng(2).normal(2.0, 3.0, (5, 4, 6, 6, 3)), jnp.float32)
    y, variables = BranchConv(5, 7).init_with_output(jax.random.key(0), x)
    chex.assert_shape(y, (5, 4, 6, 6, 7))
    chex.assert_shape([variables["params"][name] for name in ("kernel", "bias")], [(5, 3, 3, 3, 7), (5, 7)])
    # He's variance for 27 inputs: the branch axis is no receptive field.
    assert float(variables["params"]["kernel"].std()) == pytest.approx((2 / 27) ** 0.5, rel=0.1)
    shared = BranchConv(5, 7).apply(variables, x[2])
    np.testing.assert_allclose(shared[2], y[2], atol=1e-5)
    y, variables = BranchNorm().init_with_output(jax.random.key(0), x, train=True)
    chex.assert_shape(jax.tree.leaves(variables), (5, 3))
    np.testing.assert_allclose(y.mean((1, 2, 3)), np.zeros((5, 3)), atol=1e-4)
    np.testing.assert_allclose(y.std((1, 2, 3)), np.ones((5, 3)), atol=1e-3)


@pytest.fixture(scope="module")
def moved_on_eight():
    tests = Path(__file__).resolve().parents[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    path = {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    done = subprocess.run(
        [sys.executable, __file__], env={**os.environ, **flags, **path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["loop", "shifted", "products", "shared loop", "AAR"])
def test_eight_devices_move_no_activations(moved_on_eight, name):
    assert moved_on_eight[name] == []


def test_moved_activations_would_be_seen(moved_on_eight):
    """A grouped convolution, whose batch XLA gathers."""
    assert [kind for kind, _ in moved_on_eight["grouped"]] == ["all-gather"]


def main() -> None:
    from jax.sharding import NamedSharding, PartitionSpec
    from sharded_step import moved

    from jaxau import sharding

    mesh, found = sharding.make_mesh(), {}
    everywhere = NamedSharding(mesh, PartitionSpec())

    def gathered(objective, parameters, x, batch_axis):
        split = NamedSharding(mesh, PartitionSpec(*[None] * batch_axis, ("data", "fsdp")))
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), parameters
        )
        x = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split)
        return moved(jax.jit(jax.grad(objective)).lower(abstract, x).compile().as_text())

    def squares(kernel, x, form):
        return (form(x, kernel) ** 2).sum()

    kernel, x = jnp.ones((5, 3, 3, 3, 4)), jnp.ones((5, 48, 8, 8, 3))
    for name in ("loop", "shifted", "products", "grouped"):
        found[name] = gathered(partial(squares, form=FORMS[name]), kernel, x, 1)
    found["shared loop"] = gathered(partial(squares, form=SHARED_FORMS["loop"]), kernel, x[0], 0)

    network = aar.AAR((1, 4, 12), temporal=False, width=1)
    image = jnp.zeros((48, 32, 32, 3), jnp.uint8)
    variables = jax.eval_shape(network.init, jax.random.key(0), image[:1])
    params, stats = variables["params"], jax.tree.map(lambda s: jnp.zeros(s.shape), variables["batch_stats"])

    def trained(params, image):
        outputs, new = network.apply(
            {"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"]
        )
        return outputs["logits"].sum() + (outputs["attention"] ** 2).sum()

    found["AAR"] = gathered(trained, params, image, 0)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
