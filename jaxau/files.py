"""Files that another process or a later run may find at any moment."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename: readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(json.dumps(value, indent=1))
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Read JSON; a file that is none is named, with what to do.

    Raises:
      ValueError: the file is empty, cut off or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path}: damaged ({error}); restore it, or move its folder away and write it anew"
        ) from None


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made if absent) for this process alone; the system frees it when the process ends.

    Raises:
      ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        _lock(file, folder)
        yield


@contextlib.contextmanager
def exclusive_name(path: Path) -> Iterator[None]:
    """Hold all files whose names begin with ``path`` for this process alone.

    The lock is the file ``path.lock``, which is there for that time only; one that a process left
    when it was killed holds nothing.

    Raises:
      ValueError: another process holds them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    while True:
        with lock.open("a+") as file:
            _lock(file, path)
            try:
                is_there = os.path.samestat(os.fstat(file.fileno()), lock.stat())
            except FileNotFoundError:
                is_there = False
            if not is_there:  # removed by who held it, between opening and locking
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _lock(file: TextIO, what: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise ValueError(
            f"{what}: another process is working here (process {file.read() or 'unknown'}); wait for "
            "its end, or choose another folder"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
