"""Parameters that a run does not begin with at random: ``config.weights``, prefix -> folder."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxau import checkpoint, files, models
from jaxau.config import Config


def check(config: Config) -> None:
    """Refuse a prefix that no stage's network has, or a folder without weights, before any work.

    Says loudly which parts would stay random.

    Raises:
      ValueError: as said.
    """
    wanted = [models.abstract_variables(config, name)["params"] for name in config.stages if config.weights]
    for prefix, folder in config.weights.items():
        checkpoint.read_info(folder)
        if all(_below(params, prefix) is None for params in wanted):
            known = sorted({name for params in wanted for name in params})
            raise ValueError(
                f"config.weights.{prefix}: no stage's network has such parameters; they begin with {known}"
            )
    for prefix in left_random(config):
        print(
            f"WARNING: {prefix} is random and no stage trains it: give config.weights.{prefix}=FOLDER, of "
            "imported weights or of a run",
            file=sys.stderr,
        )


def fitting(config: Config, given: Mapping[str, str]) -> dict[str, str]:
    """Those of ``given``, prefix -> folder, that the network of some stage has a place for."""
    wanted = [models.abstract_variables(config, name)["params"] for name in config.stages if given]
    return {
        prefix: folder
        for prefix, folder in given.items()
        if any(_below(params, prefix) is not None for params in wanted)
    }


def left_random(config: Config) -> list[str]:
    """The parts of the network that are made to be frozen, but which nothing has trained."""
    found: list[str] = []
    for prefix in models.paper(config.name).frozen:
        if prefix in config.weights or config.finetune:
            continue
        having = [
            stage
            for name, stage in config.stages.items()
            if _below(models.abstract_variables(config, name)["params"], prefix) is not None
        ]
        if having and not any(prefix.startswith(stage.trainable or "") for stage in having):
            found.append(prefix)
    return found


def into_state(state: Any, config: Config, directory: Path) -> Any:
    """A stage's first state with the weights of ``config.weights``; says and writes down which.

    Args:
      state: with ``params``, ``batch_stats`` and ``ema_params``.
      config: of the run.
      directory: of the stage, where ``weights.json`` says what was taken.

    Raises:
      ValueError: weights that lack parameters of their part of the network, or have others' shapes.
    """
    fresh = {"params": state.params, "batch_stats": state.batch_stats}
    report = {}
    for prefix, folder in config.weights.items():
        if _below(fresh["params"], prefix) is None:
            continue
        given, info = checkpoint.load_variables(folder)
        if _below(given["params"], prefix) is not None:  # of a run of the same network
            given = {name: _below(tree, prefix) or {} for name, tree in given.items()}
        fresh, unused = place(fresh, given, prefix, folder, tuple(info.get("covers", ())))
        report[prefix] = {"folder": folder, "hash": info["hash"], "unused": unused}
        if jax.process_index() == 0:
            rest = f"; not used: {', '.join(unused)}" if unused else ""
            print(f"{directory.name}: {prefix} begins with {folder}{rest}", file=sys.stderr)
    if report and jax.process_index() == 0:
        files.write_json(directory / "weights.json", report)
    ema_params = jax.tree.map(jnp.copy, fresh["params"]) if state.ema_params else {}
    return state.replace(**fresh, ema_params=ema_params)


def place(
    fresh: Mapping[str, Any], given: Mapping[str, Any], prefix: str, what: str, covers: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Put weights under a prefix.

    Args:
      fresh: variables by collection; arrays of any sharding, which is kept.
      given: variables of the part of the network that the prefix names.
      prefix: path with "/" between names.
      what: for errors.
      covers: names below the prefix that are meant, all without any.

    Returns:
      The variables, and the names of the weights that the network has no place for.

    Raises:
      ValueError: all that is missing or misshaped.
    """
    have = {(name, *path): leaf for name, tree in given.items() for path, leaf in _leaves(tree)}
    problems, used = [], set()
    start = tuple(prefix.split("/"))

    def taken(name: str) -> Any:
        def one(path: Any, leaf: Any) -> Any:
            names = _names(path)
            if names[: len(start)] != start or (covers and names[len(start)] not in covers):
                return leaf
            key = (name, *names[len(start) :])
            if key not in have or have[key].shape != leaf.shape:
                found = f"has shape {have[key].shape}, not {leaf.shape}" if key in have else "is missing"
                problems.append(f"{'/'.join(key)} {found}")
                return leaf
            used.add(key)
            return jax.device_put(np.asarray(have[key], leaf.dtype), leaf.sharding)

        return jax.tree_util.tree_map_with_path(one, fresh[name])

    placed = {name: taken(name) for name in fresh}
    if problems:
        raise ValueError(
            f"config.weights.{prefix}={what!r}: these are not weights of this part of the network "
            f"({len(problems)} differences; see jaxau info):\n  " + "\n  ".join(problems)
        )
    return placed, ["/".join(key) for key in have if key not in used]


def hand_on(state: Any, earlier_stage: Path) -> Any:
    """Put an earlier stage's selected parameters into a first state.

    What they lack stays fresh, and what this stage's network has no place for, such as another stage's head,
    stays behind.

    Raises:
      ValueError: nothing fits, or a shape differs.
    """
    earlier = checkpoint.load_model(earlier_stage).variables

    def place(fresh: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        have = flatten_dict(given)
        placed = flatten_dict(fresh)
        for path in placed.keys() & have.keys():
            old, new = placed[path], np.asarray(have[path])
            if old.shape != new.shape:
                raise ValueError(
                    f"{earlier_stage}: {'/'.join(path)} has the shape {new.shape}, this stage's network "
                    f"needs {old.shape}; give both stages the same config.network"
                )
            placed[path] = jax.device_put(new, old.sharding)
        return dict(unflatten_dict(placed))

    if not flatten_dict(state.params).keys() & flatten_dict(earlier["params"]).keys():
        raise ValueError(
            f"{earlier_stage} has the parameters {sorted(earlier['params'])}, this stage's network none of "
            f"them but {sorted(state.params)}; leave start_from empty"
        )
    params = place(state.params, earlier["params"])
    return state.replace(
        params=params,
        batch_stats=place(state.batch_stats, earlier["batch_stats"]),
        ema_params=jax.tree.map(jnp.copy, params) if state.ema_params else {},
    )


def begin_siamese(state: Any, config: Config, earlier_stage: Path | None) -> Any:
    """Begin parts of the network as others, where neither weights nor an earlier stage gave them their own.

    BatchNorm's parameters and statistics stay fresh, without which the two parts could not be told apart.
    """
    given = set(config.weights)
    if earlier_stage is not None:
        given |= set(checkpoint.load_model(earlier_stage).variables["params"])
    params = flatten_dict(state.params)
    for part, other in models.paper(config.name).siamese.items():
        if part in given:
            continue
        for path in [path for path in params if path[0] == part]:
            if (*path[:-1], "scale") not in params:  # no BatchNorm
                params[path] = jnp.copy(params[other, *path[1:]])
    params = dict(unflatten_dict(params))
    ema_params = jax.tree.map(jnp.copy, params) if state.ema_params else {}
    return state.replace(params=params, ema_params=ema_params)


def provenance(config: Config) -> dict[str, Any]:
    """What is known of each of ``config.weights``: hash, licence, source; for the models made from them."""
    known = ("hash", "kind", "source", "sha256", "licence", "trained_on", "network")
    return {
        prefix: {key: value for key, value in checkpoint.read_info(folder).items() if key in known}
        for prefix, folder in config.weights.items()
    }


def _below(params: Mapping[str, Any], prefix: str) -> Any:
    """The subtree at a prefix, None where there is none."""
    tree: Any = params
    for name in prefix.split("/"):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _leaves(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    return [(_names(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _names(path: Any) -> tuple[str, ...]:
    return tuple(str(key.key) for key in path)
