"""Forms of the convolution that AUs or patches do with their own kernels, timed against each other.

    python -m launch.bench_branches

Prints a Markdown table for this machine's default device: milliseconds of the forward pass and of forward and
backward together (medians), and seconds until the latter is compiled. Forms that win nowhere live only here;
``jaxau.models.branches`` holds those that are used.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jaxau.models.branches import branch_conv

_BATCH = flags.DEFINE_integer("batch", 2, "Images.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each form, of which the median counts.")
_PATIENCE = flags.DEFINE_float("patience", 5.0, "Seconds of one run after which a form is not run again.")


def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One grouped convolution, which is also what ``vmap`` makes of it."""
    (k, n, height, width, _), outputs = x.shape, kernel.shape[-1]
    wide = jnp.moveaxis(x, 0, 3).reshape(n, height, width, -1)
    kernel = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], k * outputs)
    y = jax.lax.conv_general_dilated(
        wide, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=k
    )
    return jnp.moveaxis(y.reshape(n, height, width, k, outputs), 3, 0)


def columns(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One batched matrix product with the nine neighbours of each pixel side by side."""
    height, width = x.shape[2:4]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    near = [padded[:, :, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return jnp.einsum(
        "knhwc,kcd->knhwd", jnp.concatenate(near, -1), kernel.reshape(len(kernel), -1, kernel.shape[-1])
    )


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """For one input that all branches share (n, h, w, c): one wide convolution."""
    branches, outputs = len(kernel), kernel.shape[-1]
    wide = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], branches * outputs)
    y = jax.lax.conv_general_dilated(x, wide, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.moveaxis(y.reshape(*y.shape[:-1], branches, outputs), -2, 0)


FORMS: dict[str, Callable] = {
    "loop": partial(branch_conv, form="loop"),
    "shifted": partial(branch_conv, form="shifted"),
    "products": partial(branch_conv, form="products"),
    "columns": columns,
    "grouped": grouped,
}
SHARED_FORMS: dict[str, Callable] = {"loop": partial(branch_conv, form="loop"), "dense": dense}
# What: branches, side of the map, channels in and out; the input is one for all branches ("shared") or not.
PROBLEMS = {
    "region layer 1, 8 x 8 patches": (64, 22, 32, 16, False),
    "region layer 1, 4 x 4 patches": (16, 44, 16, 8, False),
    "region layer 1, 2 x 2 patches": (4, 88, 8, 8, False),
    "region layer 2, 8 x 8 patches": (64, 11, 64, 32, False),
    "12 AUs, first convolution": (12, 44, 64, 96, True),
    "12 AUs, later convolutions": (12, 44, 96, 96, False),
    "12 AUs, attention": (12, 44, 96, 1, False),
}


def main(_: Any) -> None:
    """Time every form on every problem."""
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, batch {_BATCH.value}, float32\n")
    print("| what | form | forward, ms | forward + backward, ms | compile, s |")
    print("|---|---|---|---|---|")
    for what, (k, side, inputs, outputs, shared) in PROBLEMS.items():
        rng = np.random.default_rng(0)
        lead = (_BATCH.value,) if shared else (k, _BATCH.value)
        x = jnp.asarray(rng.standard_normal((*lead, side, side, inputs), np.float32))
        kernel = jnp.asarray(rng.standard_normal((k, 3, 3, inputs, outputs), np.float32))
        for name, form in (SHARED_FORMS if shared else FORMS).items():
            forward = jax.jit(form).lower(x, kernel).compile()

            def both(x: jax.Array, kernel: jax.Array, form: Callable = form) -> Any:
                return jax.value_and_grad(lambda *a: (form(*a) ** 2).sum(), (0, 1))(x, kernel)

            start = time.perf_counter()
            backward = jax.jit(both).lower(x, kernel).compile()
            compiled = time.perf_counter() - start
            cells = [f"{1000 * _median(run, x, kernel):.1f}" for run in (forward, backward)]
            print(f"| {what} | {name} | {cells[0]} | {cells[1]} | {compiled:.1f} |", flush=True)


def _median(run: Callable, *arguments: Any) -> float:
    """Seconds of ``run``; the first call does not count unless it already tries the patience."""
    seconds: list[float] = []
    for index in range(_REPEATS.value + 1):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > _PATIENCE.value:
            return seconds[-1]
        if index == 0:
            seconds.pop()
    return float(np.median(seconds))


if __name__ == "__main__":
    app.run(main)
