"""Multiply-accumulates counted by hand."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxau.complexity import count_macs


def test_matrix_product_inside_jit_and_scan():
    def f(x, w):
        step = jax.jit(lambda carry, _: (carry @ w, None))
        return jax.lax.scan(step, x, length=5)[0]

    assert count_macs(f, jnp.zeros((3, 4)), jnp.zeros((4, 4))) == 5 * 3 * 4 * 4


def test_convolutions():
    x = jax.ShapeDtypeStruct((2, 8, 8, 6), jnp.float32)
    dense = nn.Conv(10, (3, 3), (2, 2))
    variables = jax.eval_shape(dense.init, jax.random.key(0), x)
    assert count_macs(dense.apply, variables, x) == 2 * 4 * 4 * 10 * 3 * 3 * 6
    grouped = nn.Conv(12, (3, 3), feature_group_count=6)
    variables = jax.eval_shape(grouped.init, jax.random.key(0), x)
    assert count_macs(grouped.apply, variables, x) == 2 * 8 * 8 * 12 * 3 * 3 * 1


def test_gradients_of_a_strided_convolution_are_twice_the_forward_pass():
    """Each product of the forward pass is met once for the input and once for the kernel."""
    x, kernel = jnp.zeros((2, 8, 8, 6)), jnp.zeros((2, 2, 6, 10))

    def convolve(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=dimensions)

    forward = 2 * 4 * 4 * 10 * 2 * 2 * 6
    assert count_macs(convolve, x, kernel) == forward
    assert (
        count_macs(lambda *both: jax.vjp(convolve, *both)[1](jnp.ones((2, 4, 4, 10))), x, kernel)
        == 3 * forward
    )
