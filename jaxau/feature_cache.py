"""Features of every frame from a trained stage, computed once for a later stage that trains on them alone.

A stage with ``cache`` = K (AAR's `cache`) runs the model of the stage it starts from over all frames: K
variants of the training subjects' (crops at the centre and the four corners, each as it is and mirrored), the
centre of all others', as prediction sees it. On disk are ``features.npy``, (K, records, k, d) float32, sparse
where nothing is written, and ``cache.json``, which says whose features these are and how far they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray
from tqdm import tqdm

from jaxau import files, progress, sharding
from jaxau.checkpoint import Model
from jaxau.config import Stage

Batch = Mapping[str, np.ndarray]

_SAVE_EVERY = 20  # batches


def fill(
    folder: Path, name: str, stage: Stage, parts: Iterable[str], data: Any, model: Model, mesh: Mesh
) -> None:
    """Compute what the cache in ``folder`` lacks; a kill costs at most some batches.

    Args:
      folder: of the cache.
      name, stage: the caching stage; ``stage.cache`` is the number K of variants.
      parts: of the subjects, "train", "inner", "test"; K variants of "train", one of the others.
      data: as of ``train.run``.
      model: whose ``outputs["features"]`` (b, k, d) are kept.
      mesh: devices.

    Raises:
      ValueError: the folder holds features of another model, data set or number of variants.
      SystemExit: SIGTERM or Ctrl-C came; what is done is kept.
    """
    state = _claim(folder / "cache.json", stage, data, model)
    variables = jax.device_put(model.variables, NamedSharding(mesh, PartitionSpec()))

    @jax.jit
    def step(variables: Any, image: jax.Array) -> jax.Array:
        outputs: Any = model.network.apply(variables, image, train=False)
        return outputs["features"]

    array = None
    with progress.TerminationRequest() as stop:
        for part in parts:
            for variant in range(stage.cache if part == "train" else 1):
                key = f"{part}, variant {variant}"
                done = state["done"].get(key, 0)
                batches = data.evaluate(name, part, stage.batch_size, variant, done * stage.batch_size)
                for batch in tqdm(batches, f"{name}: {key}", initial=done, unit="batch"):
                    image = sharding.shard_batch({"image": batch["image"]}, mesh)["image"]
                    record, features = _gather(batch, step(variables, image))
                    if jax.process_index() == 0:
                        if array is None:
                            records = data.manifest["counts"]["records"]
                            shape = (stage.cache, records, *features.shape[1:])
                            array = _open(folder / "features.npy", shape, new=not state["done"])
                        array[variant, record] = features
                    done += 1
                    if stop.is_set() or done % _SAVE_EVERY == 0:
                        _save(folder, state, key, done, array)
                    if stop.is_set():
                        raise SystemExit(stop.status)
                _save(folder, state, key, done, array)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"cache {folder}")


def attach(folder: Path, batches: Iterable[Batch]) -> Iterator[dict[str, np.ndarray]]:
    """Batches of the view ``features`` with ``features`` (b, t, k, d) float32 from the cache in ``folder``.

    Raises:
      ValueError: a record that is not in the cache.
    """
    array = np.load(folder / "features.npy", mmap_mode="r")
    for batch in batches:
        features = array[batch["variant"][:, None], batch["record"]]
        # Sparse where nothing was written; a face whose features are all exactly 0 does not exist.
        lacking = ~features.any(axis=(-2, -1))
        if lacking.any():
            raise ValueError(
                f"{folder}: records {np.unique(batch['record'][lacking])[:5].tolist()} are not in the cache; "
                "delete the folder, and the same command computes it anew"
            )
        yield {**batch, "features": features}


def _claim(path: Path, stage: Stage, data: Any, model: Model) -> dict[str, Any]:
    """The state of the cache in cache.json, new or checked to be of the same model and data."""
    described = {
        "model": model.info["hash"],
        "data set": data.manifest["hash"],
        "variants": stage.cache,
        "augmentation": "no augmentation" if stage.cache == 1 else f"{stage.cache} crops and mirror images",
    }
    if not path.is_file():
        return {**described, "done": {}}
    state = files.read_json(path)
    other = [key for key, value in described.items() if state[key] != value]
    if other:
        raise ValueError(
            f"{path.parent}: the cached features are of another {', '.join(other)}; delete the folder, or "
            "use another --workdir"
        )
    return state


def _gather(batch: Batch, features: jax.Array) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Record indices (n,) and features (n, k, d) of all processes, without padding."""
    fields: Any = (batch["record"], batch["mask"], features)
    if jax.process_count() > 1:
        fields = multihost_utils.process_allgather(fields, tiled=True)
    record, mask, values = map(np.asarray, fields)
    return record[mask], values[mask].astype(np.float32)


def _open(path: Path, shape: tuple[int, ...], new: bool) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, "w+" if new else "r+", np.float32, shape)


def _save(folder: Path, state: dict[str, Any], key: str, done: int, array: Any) -> None:
    """Features first: cache.json never promises more than there is."""
    state["done"][key] = done
    if array is not None:
        array.flush()
        files.write_json(folder / "cache.json", state)
