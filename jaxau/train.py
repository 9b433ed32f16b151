"""Training: stages in order, one ``fit``, one train step."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxau import (
    checkpoint,
    evaluate,
    feature_cache,
    files,
    finetune,
    metrics,
    models,
    optim,
    progress,
    sharding,
    weights,
)
from jaxau import config as config_lib
from jaxau.config import Config, Stage


class Data(Protocol):
    """What ``make_data(config)`` returns; see ``data_pipelines.loader``."""

    manifest: Any
    split: Any
    statistics: Any

    def num_examples(self, stage: str) -> int:
        """Training examples (stills, clips, tuples ...) in an epoch of ``stage``."""

    def train(self, stage: str, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Endless batches, beginning with the global example index ``start``."""

    def evaluate(
        self, stage: str, part: str, batch_size: int, variant: int = 0, start: int = 0
    ) -> Iterator[dict[str, np.ndarray]]:
        """All frames of the subjects of ``part`` ("train", "inner", "test") once, padded batches."""


class TrainState(struct.PyTreeNode):
    """Everything that a step changes.

    The data position is ``step * batch_size``, the global example index. ``ema_params`` is empty where the
    stage averages nothing.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    loss_state: Any
    rng: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """What evaluation uses: the averaged parameters where there are any."""
        return {"params": self.ema_params or self.params, "batch_stats": self.batch_stats}


def run(config: Config, make_data: Callable[[Config], Data], workdir: Path) -> dict[str, dict[str, float]]:
    """Fit all stages in order; finished stages are skipped, a broken one goes on where it stopped.

    Returns:
      For each stage fitted by this call: ``seconds`` and ``frames_per_second`` of its training steps.

    Raises:
      ValueError: ``workdir`` holds a run with another configuration or data set, or another process works
        there; an AU never occurs on the training subjects.
    """
    claim_workdir(config, workdir)
    mesh = sharding.make_mesh(config.mesh.fsdp)
    for name, stage in config.stages.items():  # before any work
        sharding.check_batch_size(stage, mesh, f"config.stages.{name}")
        models.create(config, name)
        if not stage.cache:
            models.create_loss(config, name)
    weights.check(config)
    data = make_data(config)
    never = [au for au, n in zip(config.data.aus, data.statistics["n_occ"], strict=True) if n == 0]
    if never:
        raise ValueError(
            f"config.data.aus: AU {never} never occurs on the {len(data.split.train)} training subjects of "
            f"fold {config.data.fold}, so it cannot be learned; leave it out"
        )
    timing = {}
    with files.exclusive(workdir) if jax.process_index() == 0 else contextlib.nullcontext():
        _claim_data(data, workdir)
        for name, stage in config.stages.items():
            if stage.cache:
                wanted = [s for s, other in config.stages.items() if other.start_from == name]
                if not all(_is_finished(workdir / s) for s in wanted):
                    model = checkpoint.load_model(workdir / stage.start_from)
                    parts = [part for part in ("train", _SELECTS[config.selection]) if part]
                    feature_cache.fill(workdir / name, name, stage, parts, data, model, mesh)
            elif not _is_finished(workdir / name):
                timing[name] = fit(config, name, data, workdir, mesh)
    return timing


def _is_finished(stage: Path) -> bool:
    return (stage / "model" / "model.json").is_file()


def _claim_data(data: Data, workdir: Path) -> None:
    """Write data.json, or check that this run began with the same data set."""
    path, given = workdir / "data.json", data.manifest["hash"]
    if path.is_file():
        evaluate.check_same_data(files.read_json(path)["manifest_hash"], given, str(workdir))
    elif jax.process_index() == 0:
        files.write_json(path, {"manifest_hash": given, "subjects": dataclasses.asdict(data.split)})


def claim_workdir(config: Config, workdir: Path) -> None:
    """Write config.json, or check that the one there is the same."""
    path, values = workdir / "config.json", json.loads(json.dumps(config_lib.to_dict(config)))
    if not path.is_file():
        files.write_json(path, values)
        return
    differences = _differences(files.read_json(path), values, "config")
    if differences:
        raise ValueError(
            f"{workdir} holds a run with another configuration; use another --workdir, or repeat the old "
            "values:\n  " + "\n  ".join(differences)
        )


def fit(config: Config, name: str, data: Data, workdir: Path, mesh: jax.sharding.Mesh) -> dict[str, float]:
    """Train one stage to its end, or from where it stopped, and write its selected model.

    Each epoch is scored on the inner subjects; the best one is selected (mean F1 at threshold .5, or what
    else the stage is for, see ``models.Role``), and thresholds are chosen on the same subjects. An optimistic
    run does the same with the test subjects; a conventional one scores nothing, takes the last epoch, and
    leaves the thresholds at .5. So does a stage with a corpus of its own.

    Raises:
      ValueError: the loss is not finite; names the step and the records of the batch.
      SystemExit: SIGTERM or Ctrl-C came; the state is saved.
    """
    stage, role, directory = config.stages[name], models.role(config, name), workdir / name
    network, loss = models.create(config, name), models.create_loss(config, name)
    examples = data.num_examples(name)
    total_steps = -(-stage.epochs * examples // stage.batch_size)
    if stage.max_steps:
        total_steps = min(total_steps, stage.max_steps)
    optimizer = optim.make_optimizer(stage, total_steps)
    schedule = optim.make_schedule(stage.optim, total_steps)

    init = _make_init(config, name, network, optimizer, loss.init(data.statistics))
    abstract = jax.eval_shape(init)
    placement = sharding.state_sharding(abstract, mesh)
    abstract = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), abstract, placement
    )
    train_step = make_train_step(network, loss, stage, role, optimizer, placement)
    end_epoch = jax.jit(loss.end_epoch)
    epoch_metrics = jax.jit(
        partial(loss.epoch_metrics, aus=config.data.aus), out_shardings=NamedSharding(mesh, PartitionSpec())
    )
    eval_step = evaluate.make_eval_step(network)
    terms_step = evaluate.make_terms_step(network, loss, role)

    part = _SELECTS[config.selection] if role.selects and not stage.corpus else ""

    def with_features(batches: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        cached = stage.view == "features"
        return feature_cache.attach(workdir / stage.start_from, batches) if cached else batches

    def predictions(state: TrainState) -> evaluate.Predictions:
        batches = with_features(data.evaluate(name, part, stage.batch_size))
        return evaluate.predict(eval_step, state.variables, batches, mesh, role.inputs)

    def scores(state: TrainState) -> dict[str, float]:
        """Of an epoch, the first of which selects."""
        if role.detects_aus:
            found = predictions(state)
            return {"f1": _mean_f1(found, config, part), "cross_entropy": evaluate.cross_entropy(found)}
        batches, term = data.evaluate(name, part, stage.batch_size), role.selects.removeprefix("-")
        terms = evaluate.mean_terms(terms_step, state.variables, state.loss_state, batches, mesh)
        return {term: terms[term], **terms}

    def epoch_of(step: int) -> int:
        return step * stage.batch_size // examples

    with (
        checkpoint.Checkpoints(directory / "checkpoints") as checkpoints,
        progress.TerminationRequest() as stop,
    ):
        if checkpoints.latest is None:
            # Born sharded: no device ever holds the whole state. It runs once, so that on a CPU compiling it
            # well does not pay: of a network with many kernels that takes seven times as long.
            quickly = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
            state = jax.jit(init, out_shardings=placement, compiler_options=quickly)()
            if config.weights:
                state = weights.into_state(state, config, directory)
            if config.finetune and role.detects_aus:  # other stages have nothing that is matched by AU
                state = finetune.into_state(state, config, name, directory)
            if stage.start_from:
                state = weights.hand_on(state, workdir / config.parameters_from(name))
            if models.paper(config.name).siamese:
                earlier = workdir / config.parameters_from(name) if stage.start_from else None
                state = weights.begin_siamese(state, config, earlier)
        else:
            state = checkpoints.restore(checkpoints.latest, abstract)
        first = int(state.step)
        log = progress.MetricsLog(workdir / "metrics.jsonl", name, first)
        batches = with_features(data.train(name, first * stage.batch_size))
        watch = progress.Stopwatch()
        for step in tqdm(range(first, total_steps), name, total_steps, initial=first, unit="step"):
            batch = next(batches)
            state, terms = train_step(state, sharding.shard_batch(batch, mesh))
            log.add(step + 1, epoch_of(step) + 1, terms, float(schedule(step)), batch["record"])
            done = step + 1
            watch.lap(terms)
            interrupted = stop.is_set()
            if done == total_steps or epoch_of(done) > epoch_of(step):
                log.flush()
                of_epoch = epoch_metrics(state.loss_state)
                state = state.replace(loss_state=end_epoch(state.loss_state))
                found = scores(state) if part else {}
                named = {f"{part}/{term}": value for term, value in found.items()}
                log.add_epoch(done, epoch_of(step) + 1, named, of_epoch)
                sign = -1 if role.selects.startswith("-") else 1
                checkpoints.save(done, state, sign * next(iter(found.values())) if found else None)
                watch.skip()
            elif interrupted or (stage.checkpoint_every_steps and done % stage.checkpoint_every_steps == 0):
                log.flush()
                checkpoints.save(done, state)
            if interrupted:
                checkpoints.wait()
                raise SystemExit(stop.status)
        checkpoints.wait()
        selected = checkpoints.best if part else checkpoints.latest
        assert selected is not None, "the last epoch was saved, and scored where anything is"
        state = checkpoints.restore(selected, abstract)

    chosen: dict[str, Any] = {"thresholds": []}
    if role.detects_aus:
        chosen = _choose_thresholds(predictions(state), config, data) if part else _half(config)
    info = {**_describe_model(config, name, data), "epoch": epoch_of(selected - 1) + 1, **chosen}
    variables = jax.device_get(jax.device_put(state.variables, NamedSharding(mesh, PartitionSpec())))
    if jax.process_index() == 0:
        checkpoint.save_model(directory / "model", variables, info)
    frames = stage.batch_size * (config.data.clip_length if stage.view in ("clips", "features") else 1)
    return {"seconds": watch.seconds, "frames_per_second": watch.laps * frames / max(watch.seconds, 1e-9)}


_SELECTS: dict[config_lib.Selection, str] = {"honest": "inner", "optimistic": "test", "conventional": ""}
"""The part of the subjects that chooses epoch and thresholds."""


def _choose_thresholds(found: evaluate.Predictions, config: Config, data: Data) -> dict[str, Any]:
    """The entries of model.json about thresholds."""
    thresholds = metrics.best_thresholds(found["probability"], found["truth"], found["mask"])
    honest = f"best F1 on {len(data.split.inner)} inner subjects"
    optimistic = f"optimistic: best F1 on the {len(data.split.test)} test subjects, as was the epoch"
    return {
        "thresholds": thresholds.value.tolist(),
        "threshold_source": honest if config.selection == "honest" else optimistic,
        "thresholds_kept_at_half": [
            au for au, kept in zip(config.data.aus, thresholds.kept, strict=True) if kept
        ],
    }


def _half(config: Config) -> dict[str, Any]:
    """As `_choose_thresholds`, where nothing chooses."""
    return {
        "thresholds": [0.5] * len(config.data.aus),
        "threshold_source": "conventional: .5, not chosen; the epoch is the last",
        "thresholds_kept_at_half": list(config.data.aus),
    }


def make_train_step(
    network: nn.Module,
    loss: models.Loss,
    stage: Stage,
    role: models.Role,
    optimizer: optax.GradientTransformation,
    placement: Any,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """One jit-compiled update ``(state, batch) -> (state, terms)``; the state's buffers are donated.

    ``role`` is the stage's, ``placement`` the state's sharding. ``terms`` are scalars: the loss and its
    parts.
    """

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        found = loss_and_gradients(network, loss, stage, role, state, batch)
        gradients, terms, batch_stats, loss_state = found
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = state.ema_params
        if stage.optim.ema_decay:
            # In this form a frozen parameter's average stays exactly what it is.
            share = 1 - stage.optim.ema_decay
            ema_params = jax.tree.map(lambda mean, new: mean + share * (new - mean), ema_params, params)
        state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=ema_params,
            loss_state=loss_state,
        )
        return state, terms

    return jax.jit(step, donate_argnums=0, out_shardings=(placement, None))


def loss_and_gradients(
    network: nn.Module,
    loss: models.Loss,
    stage: Stage,
    role: models.Role,
    state: TrainState,
    batch: dict[str, jax.Array],
) -> tuple[Any, dict[str, jax.Array], Any, Any]:
    """What one step needs to know before it changes the parameters.

    With ``stage.accumulate`` = n the batch runs in n parts, one after another: part i holds the examples i,
    i + n, ..., so that each device keeps its own. Gradients and terms are the means of those of the parts
    (where the parts differ in their numbers of coded labels, a little off those of the undivided batch),
    BatchNorm sees one part at a time, and the counts in the loss's state add up. On CPUs this saves memory
    only with XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false: by default XLA runs the parts
    side by side there.

    Returns:
      Gradients like ``state.params``; ``terms``, scalars: the loss and its parts; the new BatchNorm
      statistics; the new state of the loss.
    """
    rng = jax.random.fold_in(state.rng, state.step)

    def objective(params: Any, batch_stats: Any, loss_state: Any, part: Any, key: jax.Array) -> Any:
        given, named = models.arguments(role, part, train=True)
        outputs, updated = network.apply(
            {"params": params, "batch_stats": batch_stats},
            *given,
            train=not stage.freeze_batch_stats,
            mutable=["batch_stats"],
            rngs={"dropout": key, "noise": jax.random.fold_in(key, 1)},
            **named,
        )
        value, terms, loss_state = loss(outputs, part, loss_state)
        return value, ({"loss": value, **terms}, updated.get("batch_stats", {}), loss_state)

    n, total = stage.accumulate, None
    batch_stats, loss_state = state.batch_stats, state.loss_state
    for i in range(n):  # unrolled: convolutions inside a scan are slow on CPUs
        part = {
            key: value.reshape(len(value) // n, n, *value.shape[1:])[:, i] for key, value in batch.items()
        }
        gradients, (terms, batch_stats, loss_state) = jax.grad(objective, has_aux=True)(
            state.params, batch_stats, loss_state, part, jax.random.fold_in(rng, i)
        )
        found = (gradients, terms)
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    gradients, terms = jax.tree.map(lambda value: value / n, total)
    return gradients, terms, batch_stats, loss_state


def _make_init(
    config: Config, name: str, network: nn.Module, optimizer: optax.GradientTransformation, loss_state: Any
) -> Callable[[], TrainState]:
    """A function without arguments that makes the stage's first state."""
    stage, shapes = config.stages[name], models.first_batch(config, name)
    # Each stage draws its own numbers, whatever stages come before it.
    seed = np.random.SeedSequence([config.seed, *name.encode()]).generate_state(1)[0]

    def init() -> TrainState:
        init_key, rng = jax.random.split(jax.random.key(seed))
        batch = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        given, named = models.arguments(models.role(config, name), batch, train=True)
        variables = network.init(init_key, *given, **named)
        params = variables["params"]
        return TrainState(
            step=jnp.int32(0),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(params),
            ema_params=jax.tree.map(jnp.copy, params) if stage.optim.ema_decay else {},
            loss_state=loss_state,
            rng=rng,
        )

    return init


def _describe_model(config: Config, name: str, data: Data) -> dict[str, Any]:
    """The provenance that every prediction carries."""
    manifest, stage = data.manifest, config.stages[name]
    return {
        "network": config.name,
        "stage": name,
        "aus": list(config.data.aus),
        "alignment": config.data.alignment,
        "image_size": config.data.image_size,
        "resize_to": stage.augment.resize_to,
        "view": stage.view,
        "inputs": list(models.role(config, name).inputs),
        "detects_aus": models.role(config, name).detects_aus,
        "clip_length": config.data.clip_length if stage.view in ("clips", "features") else 0,
        "neighbor_distance": config.data.neighbor_distance if stage.view == "tuples" else 0,
        "weights": weights.provenance(config),
        "trained_on": manifest["description"],
        "synthetic": manifest["synthetic"],
        "corpus": config.data.corpus,
        "protocol": config.data.protocol_name,
        "fold": config.data.fold,
        "selection": config.selection,
        "train_subjects": len(data.split.train),
        "manifest_hash": manifest["hash"],
        "licence": manifest["licence"],
        "face_model": manifest.get("expression", {}).get("model"),
        "config": config_lib.to_dict(config),
    }


def _mean_f1(found: evaluate.Predictions, config: Config, part: str) -> float:
    aus = config.data.aus
    score = metrics.score(
        found["probability"], found["truth"], found["mask"], 0.5, found["subject"], aus, bootstrap=0
    )
    if score["mean"]["f1"] is None:
        raise ValueError(
            f"AUs {list(aus)} never occur on the {part} subjects, so no epoch can be selected; raise "
            "config.data.inner_fraction or change config.seed, or run with config.selection=conventional"
        )
    return score["mean"]["f1"]


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{path}.{key}")]
    return [] if old == new else [f"{path}: {old!r} there, {new!r} now"]
