"""Train steps and checkpoints on however many devices XLA simulates.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/sharded_step.py FOLDER JOB...

Jobs, of which each prints what it found under its NAME:
  train:FSDP:NAME         a gradient (FOLDER/NAME.npz), three steps, a checkpoint (FOLDER/NAME)
  accumulate:FSDP:PARTS:NAME    a compiled step in parts
  open:FSDP:FROM:NAME     the checkpoint FROM, saved again as NAME
  constraint:FSDP:NAME, grouped:FSDP:NAME     two ways to spoil a data-parallel step
"""

import dataclasses
import hashlib
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from small_run import NETWORK, random_batch, small_config

from jaxau import models, optim, sharding, train
from jaxau.checkpoint import Checkpoints

BATCH = 48


class Job:
    """The stage ``frames`` of the small run on a mesh."""

    def __init__(self, fsdp: int, accumulate: int = 1) -> None:
        config = small_config()
        # Large enough for convolutions to be most of the work; no parameter has a side of 48.
        config = dataclasses.replace(config, network={**NETWORK, "widths": (32, 40)})
        self.stage = dataclasses.replace(config.stages["frames"], batch_size=BATCH, accumulate=accumulate)
        self.mesh = sharding.make_mesh(fsdp)
        self.network, self.loss = models.create(config, "frames"), models.create_loss(config, "frames")
        self.role = models.role(config, "frames")
        self.optimizer = optim.make_optimizer(self.stage, 10)
        statistics = {"n_occ": np.array([30, 20, 40, 10]), "n_coded": np.full(4, 100)}
        self.init = train._make_init(
            config, "frames", self.network, self.optimizer, self.loss.init(statistics)
        )
        abstract = jax.eval_shape(self.init)
        self.placement = sharding.state_sharding(abstract, self.mesh)
        self.abstract = jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            abstract,
            self.placement,
        )

    def compile(self) -> Any:
        arguments = (self.network, self.loss, self.stage, self.role, self.optimizer, self.placement)
        batch = self.batch(np.random.default_rng(0))
        return train.make_train_step(*arguments).lower(self.abstract, batch).compile()

    def batch(self, rng: np.random.Generator) -> dict[str, jax.Array]:
        return sharding.shard_batch(random_batch(rng, (BATCH,), 32, 4), self.mesh)


def train_steps(folder: Path, fsdp: int, name: str) -> dict[str, Any]:
    job, rng, losses = Job(fsdp), np.random.default_rng(0), []
    state = jax.jit(job.init, out_shardings=job.placement)()
    batch = job.batch(rng)
    arguments = (job.network, job.loss, job.stage, job.role)
    gradients, *_ = jax.jit(partial(train.loss_and_gradients, *arguments))(state, batch)
    compiled = job.compile()
    for _ in range(3):
        state, terms = compiled(state, batch)
        losses.append(float(terms["loss"]))
        batch = job.batch(rng)
    np.savez(folder / f"{name}.npz", **_by_path(gradients))
    with Checkpoints(folder / name) as checkpoints:
        checkpoints.save(3, state)
    kernel = state.params["trunk"]["layer2_0"]["conv2"]["kernel"]
    return {
        "devices": jax.device_count(),
        "losses": losses,
        "shards": len({str(shard.index) for shard in kernel.addressable_shards}),
        "moved": moved(compiled.as_text()),
        "state": sorted({str(list(leaf.shape)) for leaf in jax.tree.leaves(state)}),
        "flops": compiled.cost_analysis()["flops"],
        "memory": compiled.memory_analysis().temp_size_in_bytes,
        "hash": _hash(state),
    }


def open_and_save(folder: Path, fsdp: int, source: str, name: str) -> dict[str, Any]:
    job = Job(fsdp)
    with Checkpoints(folder / source) as checkpoints:
        state = checkpoints.restore(checkpoints.latest, job.abstract)
    placed = jax.tree.map(
        lambda leaf, where: leaf.sharding.is_equivalent_to(where, leaf.ndim), state, job.placement
    )
    with Checkpoints(folder / name) as checkpoints:
        checkpoints.save(int(state.step), state)
    return {"hash": _hash(state), "placed": all(jax.tree.leaves(placed))}


def accumulate(_: Path, fsdp: int, parts: str, name: str) -> dict[str, Any]:
    compiled = Job(fsdp, int(parts)).compile()
    return {
        "moved": moved(compiled.as_text()),
        "memory": compiled.memory_analysis().temp_size_in_bytes,
    }


def bad_constraint(_: Path, fsdp: int, name: str) -> dict[str, Any]:
    """Every device gets all pictures."""
    job = Job(fsdp)

    def forward(variables: Any, image: jax.Array) -> Any:
        everywhere = NamedSharding(job.mesh, PartitionSpec())
        return job.network.apply(variables, jax.lax.with_sharding_constraint(image, everywhere))

    image = job.batch(np.random.default_rng(0))["image"]
    variables = {"params": job.abstract.params, "batch_stats": job.abstract.batch_stats}
    return {"moved": moved(jax.jit(forward).lower(variables, image).compile().as_text())}


def grouped_convolution(_: Path, fsdp: int, name: str) -> dict[str, Any]:
    """The gradient of branches with their own kernels, written with vmap."""
    mesh = sharding.make_mesh(fsdp)
    x = sharding.shard_batch({"x": np.ones((BATCH, 5, 8, 8, 3), np.float32)}, mesh)["x"]

    def objective(kernels: jax.Array, x: jax.Array) -> jax.Array:
        def branch(kernel: jax.Array, x: jax.Array) -> jax.Array:
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        return (jax.vmap(branch, in_axes=(0, 1))(kernels, x) ** 2).sum()

    kernels = jax.device_put(np.ones((5, 3, 3, 3, 4), np.float32), NamedSharding(mesh, PartitionSpec()))
    return {"moved": moved(jax.jit(jax.grad(objective)).lower(kernels, x).compile().as_text())}


def moved(hlo: str) -> list[list[str]]:
    """What the collectives of a compiled program other than reductions put together: operation, shape."""
    found = []
    for line in hlo.splitlines():
        match = re.search(r" = (.+?) (all-gather|all-to-all|collective-permute)(?:-start)?\(", line)
        if match:
            found += [[match[2], f"[{shape}]"] for shape in re.findall(r"\w+\[([\d,]*)\]", match[1])]
    return [[kind, shape.replace(",", ", ")] for kind, shape in found]


def _by_path(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _hash(state: train.TrainState) -> str:
    digest = hashlib.sha256()
    for path, value in _by_path(state.replace(rng=jax.random.key_data(state.rng))).items():
        digest.update(path.encode() + value.tobytes())
    return digest.hexdigest()


JOBS = {
    "train": train_steps,
    "accumulate": accumulate,
    "open": open_and_save,
    "constraint": bad_constraint,
    "grouped": grouped_convolution,
}


def main(folder: Path, jobs: list[str]) -> None:
    done = {}
    for job in jobs:
        kind, fsdp, *names = job.split(":")
        done[names[-1]] = JOBS[kind](folder, int(fsdp), *names)
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
