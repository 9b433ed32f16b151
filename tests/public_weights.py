"""Files with the names and in the formats in which public networks come, and what networks make of them."""

import io
import struct
import tarfile
from collections import OrderedDict

import jax
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import save_file


def golden_state(golden, name) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The state dict and the inputs of a golden network."""
    weights, spec, _ = golden(name)
    state = {n: weights.fill(n, tuple(s), spec["seed"], r, spec["gain"]) for n, s, r in spec["parameters"]}
    inputs = {
        n: weights.inputs(tuple(about["shape"]), spec["seed"], n, about["kind"])
        for n, about in spec["inputs"].items()
    }
    for n, checksum in spec["parameter_checksums"].items():
        np.testing.assert_allclose(weights.checksum(state[n]), checksum, rtol=1e-9)
    return state, inputs


def write(path, state, form: str, wrap=lambda tree: tree) -> None:
    """Write a state dict as a "zip" or "legacy" file of torch.save, or as "safetensors"."""
    if form == "safetensors":
        save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, path)
        return
    torch = pytest.importorskip("torch")
    tree = OrderedDict((name, torch.from_numpy(np.array(array))) for name, array in state.items())
    torch.save(wrap(tree), path, _use_new_zipfile_serialization=form == "zip")


def observe(network: nn.Module, variables, *inputs, **options) -> tuple[dict, dict]:
    """What goes into and what comes out of every module, by its path with dots; "" is the network."""

    @jax.jit
    def run(variables, *inputs):
        came, went = {}, {}

        def note(call, args, kwargs, context):
            out = call(*args, **kwargs)
            if context.method_name == "__call__":
                path = ".".join(context.module.path)
                came[path], went[path] = args[0], out
            return out

        with nn.intercept_methods(note):
            network.apply(variables, *inputs, **options)
        return came, went

    return jax.device_get(run(variables, *inputs))


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def check_outputs(golden, name: str, got: dict) -> None:
    """Every stored output within 1e-5 of its largest value; ``got`` has channels last."""
    weights, spec, want = golden(name)
    assert set(got) == set(spec["outputs"])
    for key, about in spec["outputs"].items():
        value = np.moveaxis(np.asarray(got[key]), -1, 1) if len(about["shape"]) == 4 else np.asarray(got[key])
        assert list(value.shape) == about["shape"], key
        value = weights.sample(value, about["step"])
        np.testing.assert_allclose(
            value.reshape(-1), want[key].reshape(-1), rtol=0, atol=1e-5 * about["abs_max"], err_msg=key
        )


def oldest_format(path, arrays: dict[str, np.ndarray]) -> None:
    """A tar archive as PyTorch before 0.1.10 wrote it: storages, tensors, and a pickle that names these."""

    def names(*parts: bytes) -> bytes:
        return b"\x80\x02" + b"".join(parts) + b"."

    def number(n: int) -> bytes:
        return b"J" + struct.pack("<i", n)

    def text(s: str) -> bytes:
        return b"X" + struct.pack("<I", len(s)) + s.encode()

    float_storage, float_tensor = b"ctorch\nFloatStorage\n", b"ctorch\nFloatTensor\n"
    storages, tensors = names(number(len(arrays))), names(number(len(arrays)))
    entries = b""
    for key, (name, array) in enumerate(arrays.items()):
        storages += names(b"(" + number(key) + text("cpu") + float_storage + b"t")
        storages += struct.pack("<q", array.size) + array.astype("<f4").tobytes()
        tensors += names(b"(" + number(100 + key) + number(key) + float_tensor + b"t")
        strides = [s // array.itemsize for s in np.ascontiguousarray(array).strides]
        tensors += struct.pack(f"<ii{2 * array.ndim + 1}q", array.ndim, 0, *array.shape, *strides, 0)
        entries += text(name) + text(str(100 + key)) + b"Q"
    storages += names(b"]")
    contents = {
        "sys_info": names(b"}"),
        "pickle": names(b"ccollections\nOrderedDict\n)R(" + entries + b"u"),
        "tensors": tensors,
        "storages": storages,
    }
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5  # such a time needs a pax header
            archive.addfile(info, io.BytesIO(content))
