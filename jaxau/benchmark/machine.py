"""The machine and the clock: what it is, what it does at most, and how long something takes on it."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

Row = dict[str, Any]


class Spread(TypedDict):
    """Median and quartiles of ``n`` measurements."""

    median: float
    q1: float
    q3: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of one or more values."""
    q1, median, q3 = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": median, "q1": q1, "q3": q3, "n": len(values)}


def seconds_of(step: Callable[[], object]) -> float:
    """Wall time of one call; ``step`` must wait for its results."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def time_steps(step: Callable[[], object], warmup: int, repeats: int) -> Spread:
    """Seconds of a step, each of ``repeats`` timed by itself after ``warmup`` that are not."""
    for _ in range(warmup):
        step()
    return spread([seconds_of(step) for _ in range(repeats)])


def interleave(
    ours: Callable[[], object], theirs: Callable[[], object], warmup: int, rounds: int, turn: int
) -> dict[str, Spread]:
    """Two steps by turns in one process, so that what else the machine does meets both alike.

    Args:
      ours: a step that waits for its results.
      theirs: the other one.
      warmup: steps of each that are not timed.
      rounds: of one turn each.
      turn: steps in a row, of which the median counts.

    Returns:
      ``jaxau_seconds`` and ``torch_seconds`` of a step, and ``speed_ratio``, over rounds: their seconds
      divided by ours, above 1 where ours is faster.
    """
    for step in (ours, theirs):
        for _ in range(warmup):
            step()
    pairs = [
        [statistics.median(seconds_of(step) for _ in range(turn)) for step in (ours, theirs)]
        for _ in range(rounds)
    ]
    return {
        "jaxau_seconds": spread([a for a, _ in pairs]),
        "torch_seconds": spread([b for _, b in pairs]),
        "speed_ratio": spread([b / a for a, b in pairs]),
    }


def measure_roof(side: int | None = None, rounds: int = 5) -> Row:
    """The rate of square matrix products, to which steps are compared, of one device.

    Args:
      side: of the matrices; by default 4096 in bfloat16 on an accelerator, 2048 in float32 on a CPU.
      rounds: of which the fastest counts.

    Returns:
      ``product``, what was multiplied, and ``flops_per_second`` (two for each multiply-accumulate).
    """
    on_cpu = jax.default_backend() == "cpu"
    side = side or (2048 if on_cpu else 4096)
    dtype = jnp.float32 if on_cpu else jnp.bfloat16
    row_count = 2 if on_cpu else 50  # in a row: an accelerator's queue hides how long a launch takes
    a, b = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in range(2))
    product = jax.jit(jnp.matmul)

    def multiply() -> None:
        jax.block_until_ready([product(a, b) for _ in range(row_count)])

    multiply()
    seconds = min(seconds_of(multiply) for _ in range(rounds)) / row_count
    return {"product": f"{side}^3 {jnp.dtype(dtype).name}", "flops_per_second": 2 * side**3 / seconds}


def memory_peaks() -> Row:
    """Most memory so far: on the first device where it tells, and of this process on the host."""
    on_device = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "device_peak_bytes": on_device.get("peak_bytes_in_use"),
        "host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name() -> str:
    """What JAX computes on, e.g. "NVIDIA H200", or a processor with its cores."""
    device, count = jax.devices()[0], jax.device_count()
    if device.platform == "cpu":
        return f"{_processor()}, {cores()} cores"
    return f"{count} x {device.device_kind}" if count > 1 else device.device_kind


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def environment() -> Row:
    """When and where something is measured, and how busy the machine is before."""
    packages = {name: _version(name) for name in ("jaxau", "jax", "jaxlib", "flax", "numpy", "torch")}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": cores(),
        "load_average": list(os.getloadavg()),
        "versions": {"python": platform.python_version(), **packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
