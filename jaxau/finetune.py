"""Starting a run from a checkpoint that was trained on other data, perhaps with other Action Units.

Parameters that belong to AUs are matched by AU number, not by position; the trunk is taken as it is. AUs that
the checkpoint does not know keep their fresh parameters: they are new heads, and are named.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxau import checkpoint, facs, files, models
from jaxau.config import Config


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run took from a checkpoint.

    Attributes:
      checkpoint: hash of the checkpoint.
      kept_aus: AUs whose heads were taken.
      new_aus: AUs whose heads are fresh.
      unused_aus: AUs of the checkpoint that the run does not have.
      fresh: other parameters that are fresh, because the checkpoint lacks them or has another shape.
      unused: parameters of the checkpoint that the run's network lacks.
    """

    checkpoint: str
    kept_aus: tuple[int, ...]
    new_aus: tuple[int, ...]
    unused_aus: tuple[int, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"started from checkpoint {self.checkpoint[:12]}: heads of AU {list(self.kept_aus)} taken"]
        parts += [f"new heads of AU {list(self.new_aus)}"] if self.new_aus else []
        parts += [f"not used: AU {list(self.unused_aus)}"] if self.unused_aus else []
        parts += [f"fresh: {', '.join(self.fresh)}"] if self.fresh else []
        parts += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def start(
    config: Config, stage: str, fresh: Mapping[str, Any], path: Path | str
) -> tuple[dict[str, Any], Report]:
    """Put a checkpoint's parameters and BatchNorm statistics into those of a stage's first state.

    Args:
      config: of the run.
      stage: whose network the variables are of.
      fresh: its variables, as initialised; arrays of any sharding, which is kept.
      path: a run directory, one of its stages, or a model folder.

    Returns:
      The variables, like ``fresh``, and what was taken.

    Raises:
      ValueError: no checkpoint, one of another network, or one of whose trunk nothing fits.
    """
    model = checkpoint.load_model(path)
    if model.info["network"] != config.name:
        raise ValueError(
            f"{path}: a checkpoint of {model.info['network']!r}, the run trains {config.name!r}: start from "
            "one of the same network"
        )
    old, new = list(model.info["aus"]), list(config.data.aus)
    given, axes = _flatten(model.variables), _au_axes(config, stage)
    not_matched: list[str] = []
    taken = 0

    def place(key_path: Any, leaf: Any) -> Any:
        nonlocal taken
        name = _name(key_path)
        value = given.pop(name, None)
        matched = None if value is None else _match(np.asarray(value), leaf.shape, axes[name], old, new)
        if matched is None:
            not_matched.append(name)
            return leaf
        taken += not axes[name]
        values, known = matched
        return jax.device_put(jnp.where(known, values.astype(leaf.dtype), leaf), leaf.sharding)

    variables = jax.tree_util.tree_map_with_path(place, dict(fresh))
    if not taken:
        raise ValueError(
            f"{path}: no parameter of its trunk fits this run's network; use the same config.network as its "
            "run"
        )
    report = Report(
        model.info["hash"],
        tuple(au for au in new if au in old),
        tuple(au for au in new if au not in old),
        tuple(au for au in old if au not in new),
        tuple(not_matched),
        tuple(given),
    )
    return variables, report


def into_state(state: Any, config: Config, stage: str, directory: Path) -> Any:
    """A stage's first state, started from ``config.finetune``; says what is new, and writes it down.

    Args:
      state: with ``params``, ``batch_stats`` and ``ema_params``.
      config: of the run.
      stage: its name.
      directory: of the stage, where ``finetune.json`` holds the `Report`.
    """
    fresh = {"params": state.params, "batch_stats": state.batch_stats}
    variables, report = start(config, stage, fresh, config.finetune)
    if jax.process_index() == 0:
        print(f"{stage}: {report}", file=sys.stderr)
        files.write_json(directory / "finetune.json", dataclasses.asdict(report))
    ema_params = jax.tree.map(jnp.copy, variables["params"]) if state.ema_params else {}
    return state.replace(**variables, ema_params=ema_params)


def _match(
    value: np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...], old: list[int], new: list[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """``value`` with its AU axes in the new order, and where it is known; None if that is not ``shape``."""
    known = np.ones(shape, bool)
    if value.ndim != len(shape):
        return None
    for axis in axes:
        if value.shape[axis] != len(old) or shape[axis] != len(new):
            return None  # an axis that holds something else for each AU, such as pairs
        source = [old.index(au) if au in old else 0 for au in new]
        value = np.take(value, source, axis)
        along = [1] * len(shape)
        along[axis] = len(new)
        known &= np.isin(new, old).reshape(along)
    return (value, known) if value.shape == shape else None


def _au_axes(config: Config, stage: str) -> dict[str, tuple[int, ...]]:
    """Variable -> its axes over AUs: those that grow when the network gets one AU more."""
    others = [au for au in facs.ACTION_UNITS if au not in config.data.aus]
    aus = config.data.aus
    changed = (*aus, others[0]) if others else aus[:-1]
    now, then = _shapes(config, stage, aus), _shapes(config, stage, changed)
    if now.keys() != then.keys():
        raise ValueError(
            f"config.name={config.name!r}: this network names parameters after positions of AUs, so that "
            "they cannot be matched by AU; train it without a checkpoint"
        )
    return {
        name: tuple(i for i, (a, b) in enumerate(zip(now[name], then[name], strict=True)) if a != b)
        for name in now
    }


def _shapes(config: Config, stage: str, aus: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    data = dataclasses.replace(config.data, aus=aus)
    variables = models.abstract_variables(dataclasses.replace(config, data=data), stage)
    return {name: tuple(leaf.shape) for name, leaf in _flatten(variables).items()}


def _flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(dict(variables))
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return "/".join(str(key.key) for key in path)
