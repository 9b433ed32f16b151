"""One parallel path: ``jax.jit`` over a mesh with the axes ``data`` and ``fsdp``.

A batch is split over both axes. Parameters are replicated over ``data`` and, where their shape allows, split
over ``fsdp``. BatchNorm under jit sees the global batch.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxau.config import Stage

_BATCH = PartitionSpec(("data", "fsdp"))


def make_mesh(fsdp: int = 1) -> jax.sharding.Mesh:
    """Mesh over all devices, ``fsdp`` of which share each parameter.

    Raises:
      ValueError: ``fsdp`` does not divide the number of devices.
    """
    devices = jax.device_count()
    if devices % fsdp:
        raise ValueError(f"config.mesh.fsdp: {fsdp} does not divide the {devices} devices; choose a divisor")
    # Auto, because linen's Dropout breaks under the default axis type, Explicit.
    return jax.make_mesh((devices // fsdp, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def check_batch_size(stage: Stage, mesh: jax.sharding.Mesh, path: str) -> None:
    """Refuse a global batch whose parts (``stage.accumulate``) cannot be split evenly over the devices."""
    if stage.batch_size % (mesh.size * stage.accumulate):
        raise ValueError(
            f"{path}.batch_size: {stage.batch_size} is not a multiple of {mesh.size} devices x "
            f"{stage.accumulate} parts ({path}.accumulate); choose one"
        )


def state_sharding(abstract_state: Any, mesh: jax.sharding.Mesh) -> Any:
    """A ``NamedSharding`` for each leaf: its largest divisible axis over ``fsdp``, else replicated."""
    fsdp = mesh.shape["fsdp"]

    def rule(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if fsdp > 1 and size % fsdp == 0]
        if not axes:
            return NamedSharding(mesh, PartitionSpec())
        largest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(rule, abstract_state)


def shard_batch(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Place this process's part of a batch on its devices, as part of the global batch."""
    sharding = NamedSharding(mesh, _BATCH)
    return {
        key: jax.device_put(value, sharding)  # it is on a device already
        if isinstance(value, jax.Array)
        else jax.make_array_from_process_local_data(sharding, value)
        for key, value in batch.items()
    }
