"""Steps of a network: how large they are, how fast, and how fast in PyTorch.

They are the real ones (`train.make_train_step`, `evaluate.make_eval_step`) on batches of noise that already
lie on the devices, and each is waited for to its end.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from jaxau import complexity, evaluate, models, optim, sharding, train
from jaxau.benchmark.machine import Row, interleave, measure_roof, memory_peaks, seconds_of, time_steps
from jaxau.config import Config, Stage

LOGIT_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-3
"""Shares of the largest value. The loss allows more: in training, rounding switches single ReLUs."""


@contextlib.contextmanager
def cold_compilation() -> Iterator[None]:
    """Without the persistent compilation cache, as on the first start ever."""
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it remembers whether it was on
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


class CompiledStage:
    """A stage of a configuration, compiled for inference and for training, and a batch of noise.

    Args:
      config: of the run.
      name: of the stage, which looks at pictures and detects AUs.
      batch_size: stills, clips or tuples; the batch has the clip length and image size of ``config``.

    Attributes:
      frames: pictures in a batch.
      batch: on the devices; all labels are coded.
      programs: what `measure` says of "inference" and "training" besides times.

    Raises:
      ValueError: the batch cannot be split over the devices.
    """

    def __init__(self, config: Config, name: str, batch_size: int) -> None:
        stage = dataclasses.replace(config.stages[name], batch_size=batch_size)
        self.config = dataclasses.replace(config, stages={**config.stages, name: stage})
        self.name, self.stage = name, stage
        self._mesh = sharding.make_mesh(config.mesh.fsdp)
        sharding.check_batch_size(stage, self._mesh, f"config.stages.{name}")
        noise = noise_batch(self.config, name)
        self.frames = noise["mask"].size
        self.batch = sharding.shard_batch(noise, self._mesh)

        network, loss = models.create(config, name), models.create_loss(config, name)
        role = models.role(config, name)
        self._inputs, _ = models.arguments(role, self.batch, train=False)
        optimizer = optim.make_optimizer(stage, total_steps=1000)
        loss_state = loss.init(noise_statistics(len(config.data.aus)))
        init = train._make_init(self.config, name, network, optimizer, loss_state)
        placement = sharding.state_sharding(jax.eval_shape(init), self._mesh)
        with cold_compilation():
            started = time.perf_counter()
            self._state: train.TrainState = jax.block_until_ready(jax.jit(init, out_shardings=placement)())
            init_seconds = time.perf_counter() - started
            # A copy, because the state's own buffers are donated to the first step.
            self._variables = jax.tree.map(jnp.copy, self._state.variables)
            infer: Any = evaluate.make_eval_step(network)
            self._infer, of_inference = _compile(infer, self._variables, *self._inputs)
            of_inference["first_step_seconds"] = of_inference["compile_seconds"] + seconds_of(self.infer)
            step: Any = train.make_train_step(network, loss, stage, role, optimizer, placement)
            self._train, of_training = _compile(step, self._state, self.batch)
            first = init_seconds + of_training["compile_seconds"]
            of_training["first_step_seconds"] = first + seconds_of(self.train)
        of_inference["macs"] = complexity.count_macs(network.apply, self._variables, *self._inputs)
        of_training["macs"] = complexity.count_macs(
            lambda state, batch: train.loss_and_gradients(network, loss, stage, role, state, batch)[0],
            self._state,
            self.batch,
        )
        size = count_parameters(stage, self._state.params)
        self.programs: dict[str, Row] = {
            "inference": {**size, **of_inference},
            "training": {**size, **of_training},
        }

    def infer(self) -> jax.Array:
        """Probabilities of the batch, waited for."""
        return jax.block_until_ready(self._infer(self._variables, *self._inputs))

    def train(self) -> None:
        """One update of the parameters with the batch, waited for."""
        self._state, terms = self._train(self._state, self.batch)
        jax.block_until_ready((self._state, terms))

    def step_on(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """One update with another batch from the host, not waited for, as `train.fit` does it."""
        self._state, terms = self._train(self._state, sharding.shard_batch(batch, self._mesh))
        return terms

    def take(self, variables: Any) -> None:
        """Go on with these ``params`` and ``batch_stats``, laid out as the network's own."""

        def place(own: jax.Array, given: np.ndarray) -> jax.Array:
            # A copy, because on CPUs JAX may go on using the memory that it is given.
            return jax.device_put(np.array(given, own.dtype), own.sharding)

        for name in ("params", "batch_stats"):
            placed = jax.tree.map(place, getattr(self._state, name), variables[name])
            self._state = self._state.replace(**{name: placed})
        self._variables = jax.tree.map(jnp.copy, self._state.variables)

    def in_float32(self) -> tuple[np.ndarray, float]:
        """Logits in evaluation mode and the loss in training mode, whatever the precision of the steps."""
        config = dataclasses.replace(self.config, dtype="float32")
        network, loss = models.create(config, self.name), models.create_loss(config, self.name)

        @jax.jit
        def compute(state: train.TrainState, batch: Any) -> tuple[jax.Array, jax.Array]:
            variables = {"params": state.params, "batch_stats": state.batch_stats}
            still: Any = network.apply(variables, batch["image"])
            moving, _ = network.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
            return still["logits"], loss(moving, batch, state.loss_state)[0]

        with jax.default_matmul_precision("highest"):  # no TF32
            logits, value = compute(self._state, self.batch)
        return np.asarray(logits), float(value)


def _compile(jitted: Any, *arguments: Any) -> tuple[Any, Row]:
    """The executable, how long it took to make, and the memory that it plans with."""
    started = time.perf_counter()
    compiled = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - started
    plan = compiled.memory_analysis()
    planned = None
    if plan is not None:
        planned = (
            plan.temp_size_in_bytes
            + plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            - plan.alias_size_in_bytes
        )
    return compiled, {"compile_seconds": seconds, "planned_memory_bytes": planned}


def count_parameters(stage: Stage, params: Any) -> Row:
    """``parameters``, and ``trainable_parameters``, those that the stage changes."""
    sizes = jax.tree.map(lambda leaf: leaf.size, params)
    total = trained = sum(jax.tree.leaves(sizes))
    if stage.trainable:
        labels = optim.trainable_labels(stage, params)
        counted = jax.tree.map(lambda size, label: size * (label == "train"), sizes, labels)
        trained = sum(jax.tree.leaves(counted))
    return {"parameters": total, "trainable_parameters": trained}


def timed_stages(config: Config) -> list[str]:
    """The stages that detect AUs in pictures."""
    return [
        name
        for name, stage in config.stages.items()
        if stage.view in ("frames", "clips", "tuples")
        and not stage.cache
        and models.role(config, name).detects_aus
    ]


def noise_batch(config: Config, name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of the stage's view whose pictures, labels and places of AUs are random, and all known."""
    rng, batch, role = np.random.default_rng(seed), {}, models.role(config, name)
    for field, shape in models.first_batch(config, name).items():
        if field not in (*role.inputs, *role.targets, "au", "au_mask"):
            continue
        size = (config.stages[name].batch_size, *shape.shape[1:])
        if field == "corpus":
            batch[field] = np.zeros(size, np.int32)  # the first
        elif shape.dtype == bool:
            batch[field] = np.ones(size, bool)
        elif shape.dtype == np.float32:
            batch[field] = rng.normal(size=size).astype(np.float32)
        else:
            most = 256 if shape.dtype == np.uint8 else 2
            batch[field] = rng.integers(0, most, size, dtype=shape.dtype)
    labels, side = batch["au"].shape, config.data.image_size
    return {
        **batch,
        "mask": np.ones(labels[:-1], bool),
        "au_centers": rng.uniform(0.2 * side, 0.8 * side, (*labels, 2, 2)).astype(np.float32),
        "au_centers_mask": np.ones(labels, bool),
    }


def noise_statistics(num_aus: int) -> dict[str, np.ndarray]:
    """Counts of a training split in which each AU occurs at another rate."""
    return {"n_occ": np.arange(1, num_aus + 1) * 10, "n_coded": np.full(num_aus, 1000)}


def measure_network(
    config: Config,
    batch_sizes: Mapping[str, int],
    warmup: int,
    repeats: int,
    make_twin: "MakeTwin | None",
    turn: int,
    say: Callable[[str], None],
) -> Row:
    """Stages of a configuration, alone and then against their PyTorch twins.

    Args:
      config: of the run.
      batch_sizes: of each stage that is measured; stills, clips or tuples.
      warmup: untimed steps before.
      repeats: timed steps, and rounds against PyTorch.
      make_twin: makes a twin; None = jaxau alone.
      turn: steps in a row against PyTorch.
      say: receives a line about what is under way.

    Returns:
      ``network``, ``dtype``, ``roof`` (see `measure_roof`; the better of one before and one after, since what
      else runs only lowers it), ``rows`` (see `measure`, with ``share_of_roof``) and, with twins,
      ``against`` (see `measure_against`).

    Raises:
      ValueError: as `CompiledStage` and `measure_against`.
    """
    roofs = [measure_roof()]
    stages, rows, against = [], [], []
    for name, batch_size in batch_sizes.items():
        say(f"{config.name}, {name}: compiling")
        stages.append(CompiledStage(config, name, batch_size))
        say(f"{config.name}, {name}: {repeats} steps of inference and of training")
        rows += measure(stages[-1], warmup, repeats)
    for stage in stages if make_twin else ():  # last, so that no peak of memory is PyTorch's
        assert make_twin
        say(f"{config.name}, {stage.name}: {repeats} rounds against PyTorch")
        twin = make_twin(config, stage.name, stage.batch, noise_statistics(len(config.data.aus)))
        against += measure_against(stage, twin, warmup, repeats, turn)
    roofs.append(measure_roof())
    roof = max(roofs, key=lambda found: found["flops_per_second"])
    for row in rows:
        arithmetic = 2 * row["macs"] / row["step_seconds"]["median"]
        row["share_of_roof"] = arithmetic / (roof["flops_per_second"] * jax.device_count())
    found = {"kind": "steps", "network": config.name, "dtype": config.dtype, "roof": roof, "rows": rows}
    return {**found, "against": against} if make_twin else found


def measure(stage: CompiledStage, warmup: int, repeats: int) -> list[Row]:
    """One row for inference and one for a training step; times are of one batch."""
    rows = []
    for mode, step in (("inference", stage.infer), ("training", stage.train)):
        seconds = time_steps(step, warmup, repeats)
        rows.append(
            {
                **_described(stage, mode),
                **stage.programs[mode],
                "step_seconds": seconds,
                "samples_per_second": stage.stage.batch_size / seconds["median"],
                "frames_per_second": stage.frames / seconds["median"],
                **memory_peaks(),
            }
        )
    return rows


def _described(stage: CompiledStage, mode: str) -> Row:
    return {
        "mode": mode,
        "stage": stage.name,
        "dtype": stage.config.dtype,
        "batch_size": stage.stage.batch_size,
        "frames": stage.frames,
    }


# ---- against another implementation --------------------------------------------------------------


class Twin(Protocol):
    """The same network, loss and optimizer in PyTorch, with the same batch."""

    form: str

    def variables(self) -> dict[str, Any]:
        """Its ``params`` and ``batch_stats``, laid out as jaxau's."""

    def in_float32(self) -> tuple[np.ndarray, float]:
        """As `CompiledStage.in_float32`."""

    def infer(self) -> None:
        """One batch, waited for."""

    def train(self) -> None:
        """One update, waited for."""


MakeTwin = Callable[[Config, str, Mapping[str, jax.Array], Mapping[str, np.ndarray]], Twin]
"""From the configuration, the name of the stage, the batch and the statistics for the loss."""


def measure_against(stage: CompiledStage, twin: Twin, warmup: int, rounds: int, turn: int) -> list[Row]:
    """Both by turns with the same weights; one row for inference and one for a training step.

    Raises:
      ValueError: logits or loss differ, so it would not be the same work that is timed.
    """
    stage.take(twin.variables())
    (logits, loss), (their_logits, their_loss) = stage.in_float32(), twin.in_float32()
    parity = {
        "logit_difference": check_parity("logits", logits, their_logits, LOGIT_TOLERANCE),
        "loss_difference": check_parity("loss", loss, their_loss, LOSS_TOLERANCE),
    }
    pairs = {"inference": (stage.infer, twin.infer), "training": (stage.train, twin.train)}
    return [
        {
            **_described(stage, mode),
            "torch_form": twin.form,
            **parity,
            **interleave(ours, theirs, warmup, rounds, turn),
        }
        for mode, (ours, theirs) in pairs.items()
    ]


def check_parity(what: str, ours: Any, theirs: Any, tolerance: float) -> float:
    """The largest difference as a share of the largest value.

    Raises:
      ValueError: it is above ``tolerance``, or not a number.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    difference = float(np.abs(a - b).max() / np.abs(b).max())
    if not difference <= tolerance:
        raise ValueError(
            f"{what} of jaxau and of its PyTorch twin differ by {difference:.2g} of the largest value, "
            f"allowed are {tolerance:g}: not the same network, so nothing is timed; run tests/models"
        )
    return difference
