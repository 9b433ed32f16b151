"""What a long run keeps beside its state: the log of its metrics, its speed, and a request to stop."""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

_LOG_EVERY = 20  # steps between reads of the metrics from the device


class MetricsLog:
    """metrics.jsonl: every step of every stage exactly once, also after a resume.

    Values stay on the device until ``flush``, so that the loop does not wait for each step.
    """

    def __init__(self, path: Path, stage: str, first: int) -> None:
        """Drop lines of ``stage`` after step ``first``: they were not saved and come again."""
        self._path, self._stage = path, stage
        self._pending: list[tuple[dict[str, Any], dict[str, jax.Array], np.ndarray]] = []
        if jax.process_index() == 0 and path.is_file():
            kept: list[str] = []
            for line in path.read_text().splitlines(keepends=True):
                if not line.endswith("\n"):  # cut off by a kill
                    continue
                try:
                    entry = json.loads(line)
                except ValueError:
                    raise ValueError(
                        f"{path}: line {len(kept) + 1} is no JSON ({line[:40]!r}); remove that line"
                    ) from None
                if entry["stage"] != stage or entry["step"] <= first:
                    kept.append(line)
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(kept))
            os.replace(temporary, path)

    def add(self, step: int, epoch: int, terms: dict[str, jax.Array], lr: float, records: np.ndarray) -> None:
        """Remember a step; flushes now and then."""
        self._pending.append(({"stage": self._stage, "step": step, "epoch": epoch, "lr": lr}, terms, records))
        if len(self._pending) >= _LOG_EVERY:
            self.flush()

    def add_epoch(
        self, step: int, epoch: int, scores: Mapping[str, float | None], metrics: Mapping[str, jax.Array]
    ) -> None:
        """Write the end of an epoch: its scores, such as "inner/f1", and what the loss has to say of it."""
        values = {key: float(value) for key, value in jax.device_get(dict(metrics)).items()}
        self._write([{"stage": self._stage, "step": step, "epoch": epoch, **scores, **values}])

    def flush(self) -> None:
        """Read the pending values and write them; a value that is not finite stops the run."""
        lines: list[dict[str, Any]] = []
        for entry, terms, records in self._pending:
            values = {key: float(value) for key, value in jax.device_get(terms).items()}
            bad = [key for key, value in values.items() if not np.isfinite(value)]
            if bad:
                self._write(lines)
                raise ValueError(
                    f"stage {self._stage}, step {entry['step']}: {bad} not finite ({values}). Records of "
                    f"the batch: {np.unique(records).tolist()}. The last checkpoint is from before; lower "
                    "optim.lr or set optim.clip_norm, or look at these records"
                )
            lines.append({**entry, **values})
        self._pending = []
        self._write(lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if jax.process_index() == 0:
            with self._path.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())  # a checkpoint must never be newer than the log


class Stopwatch:
    """Seconds spent in training steps, without compilation and validation."""

    def __init__(self) -> None:
        self.seconds, self.laps, self._last = 0.0, 0, 0.0

    def lap(self, result: Any) -> None:
        """A step was dispatched; the first lap waits for ``result``, because it compiles."""
        if self._last == 0.0:
            jax.block_until_ready(result)
        else:
            self.laps += 1
            self.seconds += time.perf_counter() - self._last
        self._last = time.perf_counter()

    def skip(self) -> None:
        """Leave out what happened since the last lap."""
        self._last = time.perf_counter()


class TerminationRequest(threading.Event):
    """Set by SIGTERM or Ctrl-C while entered, so that the loop can save before it leaves.

    ``status`` is the exit status that then says so. A second Ctrl-C interrupts at once.
    """

    status = 0

    def __enter__(self) -> "TerminationRequest":
        def request(number: int, _frame: FrameType | None) -> None:
            self.status = 128 + number
            self.set()
            signal.signal(signal.SIGINT, signal.default_int_handler)

        in_main_thread = threading.current_thread() is threading.main_thread()
        wanted = (signal.SIGTERM, signal.SIGINT) if in_main_thread else ()
        self._previous = {number: signal.signal(number, request) for number in wanted}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
