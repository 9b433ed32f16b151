"""Pictures of a data set that are decoded once: in a file that is mapped into memory, or on the "
"accelerator."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.records import Records
from data_pipelines.transforms import LUMA
from jaxau.config import Config
from jaxau.faces.align import ALIGNMENTS, resize

Batch = dict[str, np.ndarray]

DRAWN = 6
"""So many of the first fields of `transforms.Draw` the device can do."""


def check_device(config: Config, alignment: str) -> None:
    """Refuse a run that cannot keep its pictures on the device."""
    wrong = [
        name
        for name, stage in config.stages.items()
        if stage.view not in ("frames", "clips")
        or (options := stage.augment).moves
        or options.blur
        or options.compression
        or options.holes
    ]
    if wrong or ALIGNMENTS[alignment].fitted or config.data.mixture or jax.process_count() > 1:
        raise ValueError(
            "config.data.loader='device': only for stills and clips of one corpus in one process, which are "
            f"cut, mirrored and coloured; not for the stages {wrong} with records aligned as {alignment!r}; "
            "use 'raw' or 'jpeg'"
        )


def decode_to_file(records: Records) -> Path:
    """Decode all pictures into ``<data set>/decoded-<hash>.npy``, unless it is there.

    Returns:
      The file: (n, s, s, 3) uint8, n records; 5 to 10 times as large as the JPEGs.
    """
    path = records.folder / f"decoded-{records.manifest['hash'][:16]}.npy"
    if not path.is_file():
        partial_path = path.with_suffix(f".{os.getpid()}.partial")
        shape = (len(records), *records.shape)
        pictures = np.lib.format.open_memmap(partial_path, "w+", np.uint8, shape)
        _fill(pictures, records)
        pictures.flush()
        partial_path.replace(path)
    return path


def _fill(pictures: np.ndarray, records: Records) -> None:
    """Decode, and resize to what ``pictures`` holds."""

    def fill(index: int) -> None:
        pictures[index] = resize(records.frame(index).image, pictures.shape[1])

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for _ in threads.map(fill, range(len(records))):
            pass


class DevicePictures:
    """All pictures of a data set on the accelerator, from which it cuts and colours a batch itself.

    Args:
      records: of the data set.
      resize_to: side to which the pictures are reduced once, before they are kept.

    Raises:
      ValueError: they need more memory than the device has free.
    """

    def __init__(self, records: Records, resize_to: int):
        shape = (len(records), resize_to, resize_to, 3)
        needed, device = int(np.prod(shape)), jax.local_devices()[0]
        memory = device.memory_stats() or {}
        free = memory.get("bytes_limit", needed + 1) - memory.get("bytes_in_use", 0)
        if needed > free:
            raise ValueError(
                f"config.data.loader='device': {len(records)} pictures of {resize_to} pixels need "
                f"{needed / 2**30:.1f} GiB, {device} has {free / 2**30:.1f} GiB free; use 'raw' or 'jpeg'"
            )
        pictures = np.empty(shape, np.uint8)
        _fill(pictures, records)
        self._pictures = jax.device_put(pictures, device)

    def __call__(self, batch: Batch, image_size: int, color: bool) -> Batch:
        """Put ``image`` in the place of ``draw`` (b, 6), the first fields of `transforms.Draw`."""
        draw = batch.pop("draw")
        still = batch["record"].ndim == 1
        records = batch["record"][:, None] if still else batch["record"]
        images = _cut(self._pictures, records, draw, image_size, color)
        return {**batch, "image": images[:, 0] if still else images}


@partial(jax.jit, static_argnames=("image_size", "color"))
def _cut(pictures: jax.Array, records: jax.Array, draw: jax.Array, image_size: int, color: bool) -> jax.Array:
    """(b, t, h, w, 3) uint8 of pictures (n, r, r, 3), records (b, t) and draws (b, 6)."""

    def one(indices: jax.Array, drawn: jax.Array) -> jax.Array:
        left, top = drawn[0].astype(jnp.int32), drawn[1].astype(jnp.int32)
        size = (len(indices), image_size, image_size, 3)
        cut = jax.lax.dynamic_slice(pictures[indices], (0, top, left, 0), size)
        cut = jnp.where(drawn[2] > 0, cut[:, :, ::-1], cut)
        return _adjust_color(cut, *drawn[3:]) if color else cut

    return jax.vmap(one)(records, draw)


def _adjust_color(
    images: jax.Array, brightness: jax.Array, contrast: jax.Array, saturation: jax.Array
) -> jax.Array:
    """As `transforms.fill` does it."""
    luma = jnp.asarray(LUMA, jnp.float32)
    exact = images.astype(jnp.float32)
    mean_grey = luma @ exact.mean((0, 1, 2))
    grey = (exact @ luma)[..., None]
    adjusted = brightness * (
        contrast * (saturation * exact + (1 - saturation) * grey) + (1 - contrast) * mean_grey
    )
    return jnp.clip(jnp.round(adjusted), 0, 255).astype(jnp.uint8)


@functools.lru_cache(maxsize=4)
def opened(path: Path) -> np.ndarray:
    """The pictures that `decode_to_file` wrote, mapped into memory."""
    pictures: np.ndarray = np.load(path, mmap_mode="r")
    return pictures
