"""Checkpoints, with Orbax in this file only.

A run directory holds for each stage ``<stage>/checkpoints/<step>`` (training states: the latest and the best)
and, once the stage is done, ``<stage>/model``: the selected variables for inference with ``model.json``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from orbax.checkpoint import v1 as ocp

from jaxau import config as config_lib
from jaxau import files, models

_policies = ocp.training.preservation_policies
_METRIC = "selection"  # the name on disk, whatever selects


class Model(NamedTuple):
    """A network ready for inference.

    ``info`` is the content of model.json: AUs, thresholds, alignment, what it was trained on, its config.
    """

    network: nn.Module
    variables: dict[str, Any]
    info: dict[str, Any]


class Checkpoints:
    """The training states of one stage, saved asynchronously and atomically.

    Keeps the latest state, to go on from, and the one with the best score, where epochs are scored.
    """

    def __init__(self, directory: Path) -> None:
        self._checkpointer = ocp.training.Checkpointer(
            directory.absolute(),
            preservation_policy=_policies.AnyPreservationPolicy(
                [
                    _policies.LatestN(1),
                    _policies.BestN(
                        get_metric_fn=lambda metrics: metrics[_METRIC],
                        n=1,
                        reverse=False,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest whole state, None before the first."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    @property
    def best(self) -> int | None:
        """Step of the state with the highest score, the earliest of equals; None where none has one."""
        scored = [c for c in self._checkpointer.checkpoints if c.metrics]
        return min(scored, key=lambda c: (-c.metrics[_METRIC], c.step)).step if scored else None

    def save(self, step: int, state: Any, score: float | None = None) -> None:
        """Save ``state``; returns once its arrays are copied. ``score`` makes it eligible as best."""
        metrics = None if score is None else {_METRIC: score}
        # Forced, because Orbax would otherwise drop a save that comes while another is being written.
        self._checkpointer.save_checkpointables_async(step, {"state": state}, metrics=metrics, force=True)

    def wait(self) -> None:
        """Return when everything saved so far is on disk."""
        self._checkpointer.wait()

    def restore(self, step: int, abstract_state: Any) -> Any:
        """Load the state of ``step`` as ``abstract_state`` says (``ShapeDtypeStruct`` with sharding).

        Raises:
          ValueError: its structure differs; all missing, unexpected and misshaped entries are listed.
        """
        stored = self._checkpointer.checkpointables_metadata(step).metadata["state"]
        _check_structure(stored, abstract_state, f"checkpoint {self._checkpointer.directory}/{step}")
        return self._checkpointer.load_checkpointables(step, {"state": abstract_state})["state"]


def save_model(directory: Path, variables: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Write an inference checkpoint; model.json comes last, so its presence says that the rest is whole."""
    host = jax.tree.map(np.asarray, dict(variables))
    ocp.save(directory.absolute() / "variables", host, overwrite=True)
    packages = ("jax", "flax", "orbax-checkpoint", "numpy")
    info = {
        **info,
        "hash": _hash(host, info),
        "versions": {name: metadata.version(name) for name in ("jaxau", *packages)},
    }
    files.write_json(directory / "model.json", info)


def load_model(path: str | Path) -> Model:
    """Load an inference checkpoint.

    Args:
      path: a run directory (its last finished stage), ``<run>/<stage>``, or ``<run>/<stage>/model``.

    Raises:
      ValueError: there is no finished model, or its variables do not fit its network.
    """
    directory, info = _find_model(Path(path)), read_info(path)
    if "config" not in info:
        raise ValueError(
            f"checkpoint {path}: imported weights, no trained model; a run begins with them if its "
            "config.weights names this folder"
        )
    config = config_lib.from_dict(info["config"])
    network, wanted = models.create(config, info["stage"]), models.abstract_variables(config, info["stage"])
    return Model(network, _load(directory, info, wanted), info)


def load_variables(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables of an inference checkpoint, or of imported weights, and what is known of them.

    Arguments and errors as of `load_model`; no network is needed.
    """
    directory, info = _find_model(Path(path)), read_info(path)
    return _load(directory, info, None), info


def _load(directory: Path, info: Mapping[str, Any], wanted: Any) -> dict[str, Any]:
    """Read variables, all on the first device; check that they are ``wanted``, if given, and undamaged."""
    folder = directory.absolute() / "variables"
    stored = _in_orbax(folder, lambda: ocp.metadata(folder).metadata)
    if wanted is not None:
        _check_structure(stored, wanted, f"model {folder}")
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), wanted or stored
    )
    variables: dict[str, Any] = _in_orbax(folder, lambda: ocp.load(folder, target))
    if _hash(jax.tree.map(np.asarray, variables), info) != info["hash"]:
        raise ValueError(
            f"model {directory}: the variables are not those that model.json describes (their hash differs); "
            "they were damaged or exchanged: copy the run again"
        )
    return variables


def read_info(path: str | Path) -> dict[str, Any]:
    """What ``load_model(path).info`` would say, without loading the variables."""
    return files.read_json(_find_model(Path(path)) / "model.json")


def _find_model(path: Path) -> Path:
    candidates = [path, path / "model"]
    if (path / "config.json").is_file():
        stages = files.read_json(path / "config.json")["stages"]
        candidates += [path / stage / "model" for stage in reversed(stages)]
    for candidate in candidates:
        if (candidate / "model.json").is_file():
            return candidate
    raise ValueError(
        f"checkpoint {path}: no finished model (model.json) there; give a run directory, one of its stages, "
        "or let its training finish"
    )


_IDENTITY = ("network", "aus", "thresholds", "alignment", "image_size", "resize_to", "clip_length")


def _in_orbax(folder: Path, read: Callable[[], Any]) -> Any:
    """Call ``read``; what Orbax says of damaged files over several screens becomes one line."""
    try:
        return read()
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{folder}: cannot be read ({reason}); copy the run again") from None


def _hash(variables: Any, info: Mapping[str, Any]) -> str:
    """Of the variables and of what their outputs mean: the same hash, the same predictions."""
    digest = hashlib.sha256(json.dumps([info.get(name) for name in _IDENTITY]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _check_structure(stored: Any, wanted: Any, what: str) -> None:
    have = _shapes(stored)
    want = _shapes(jax.tree.map(_raw_shape, wanted))
    if not have:
        raise ValueError(
            f"{what}: cannot be read, its files are damaged; copy the run again, or remove that folder to go "
            "on from what is left"
        )
    problems = [f"missing {name}" for name in want if name not in have]
    problems += [f"unexpected {name}" for name in have if name not in want]
    problems += [
        f"{name} has shape {have[name]}, the network needs {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if problems:
        raise ValueError(
            f"{what} does not fit this run ({len(problems)} differences; another AU list, network or "
            "optimizer? use the configuration that it was saved with):\n  " + "\n  ".join(problems)
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Path -> shape; dict keys, attributes and positions read the same, as Orbax stores them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {"/".join(_name(key) for key in path): tuple(leaf.shape) for path, leaf in leaves}


def _name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def _raw_shape(leaf: Any) -> Any:
    """Typed random keys are stored as their words."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    return leaf
