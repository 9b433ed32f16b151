"""Reading PyTorch's files: equal to PyTorch's own reading, and nothing in a file can run or exhaust it."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from public_weights import oldest_format, write

from jaxau import torch_files

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.array([1.5, -2.0], np.float32),
    "bn.num_batches_tracked": np.array(7, np.int64),
}


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_formats(tmp_path: Path, form):
    write(tmp_path / "f", {f"module.{name}": array for name, array in ARRAYS.items()}, form)
    found = torch_files.read(tmp_path / "f")
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert form == "safetensors" or not found[name].flags.writeable


def test_the_oldest_format_equals_pytorchs_reading(tmp_path: Path):
    torch = pytest.importorskip("torch")
    arrays = {name: ARRAYS[name] for name in ("conv.weight", "conv.bias")}
    oldest_format(tmp_path / "f.pth", arrays)
    theirs = torch.load(tmp_path / "f.pth", weights_only=False)
    ours = torch_files.read(tmp_path / "f.pth")
    assert list(ours) == list(theirs) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(theirs[name].numpy(), array)
        np.testing.assert_array_equal(ours[name], array)


@pytest.mark.parametrize("form", [True, False])
def test_types_views_and_what_training_scripts_save_beside(tmp_path: Path, form):
    torch = pytest.importorskip("torch")
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = OrderedDict(
        half=base.half(),
        bfloat16=base.bfloat16(),
        double=base.double(),
        transposed=base.permute(2, 0, 1),
        part=base[1:, ::2, 3],
        shared=base,
        parameter=torch.nn.Parameter(base[0]),
    )
    layer = torch.nn.BatchNorm2d(3)
    saved = {
        "epoch": 3,
        "best": 0.5,
        "arch": "resnet",
        "optimizer": torch.optim.SGD(layer.parameters(), 0.1).state_dict(),
        "state_dict": tensors | {f"bn.{name}": value for name, value in layer.state_dict().items()},
    }
    torch.save(saved, tmp_path / "f", _use_new_zipfile_serialization=form)
    found = torch_files.read(tmp_path / "f")
    assert set(found) == set(saved["state_dict"])
    for name, tensor in saved["state_dict"].items():
        value = found[name].astype(np.float64)
        np.testing.assert_array_equal(value, tensor.detach().double().numpy(), err_msg=name)
    assert found["bfloat16"].dtype == ml_dtypes.bfloat16
    assert found["half"].dtype == np.float16


def test_safetensors_of_bfloat16(tmp_path: Path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.tensor([1.5, 2.0]).bfloat16()}, tmp_path / "f")
    np.testing.assert_array_equal(torch_files.read(tmp_path / "f")["a"].astype(np.float32), [1.5, 2.0])


class Evil:
    """Unpickled, it would call ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def archive(pickled: bytes, **entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", pickled)
        for name, content in entries.items():
            out.writestr(f"archive/{name}", content)
    return file.getvalue()


def legacy(pickled: bytes) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [0x1950A86A20F9469CFC6C, 1001, system]
    return b"".join(pickle.dumps(part, protocol=2) for part in head) + pickled + pickle.dumps([], protocol=2)


def wrapped(pickled: bytes) -> list[bytes]:
    return [archive(pickled), legacy(pickled), pickled]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", ["value", "key", "tensor", "state"])
def test_malicious_pickles_are_refused_and_create_nothing(tmp_path: Path, protocol, place):
    torch = pytest.importorskip("torch")
    mark = tmp_path / "owned"
    evils = {
        f"{os.system.__module__}.system": Evil(os.system, f"touch {mark}"),
        "builtins.eval" if protocol > 2 else "__builtin__.eval": Evil(eval, f"open({str(mark)!r}, 'w')"),
        "torch.storage._load_from_bytes": Evil(
            torch.storage._load_from_bytes, pickle.dumps(Evil(os.system, f"touch {mark}"))
        ),
        "torch.serialization.load": Evil(torch.load, str(mark)),
        "torch._utils._rebuild_tensor_v3": Evil(torch._utils._rebuild_tensor_v3, 1),
        "pathlib.Path": Evil(Path, "x"),
    }
    for name, evil in evils.items():
        tree = {
            "value": {"weight": evil},
            "key": [(evil, 1)],
            "tensor": {"state_dict": {"weight": Evil(torch._utils._rebuild_tensor_v2, evil, 0, (1,), (1,))}},
            "state": OrderedDict(a=[evil]),
        }[place]
        for number, content in enumerate(wrapped(pickle.dumps(tree, protocol=protocol))):
            file = tmp_path / f"{number}.pth"
            file.write_bytes(content)
            before = set(tmp_path.iterdir())
            with pytest.raises(ValueError, match=r"\A\d.pth: ") as error:
                torch_files.read(file)
            assert name in str(error.value) or (name.split(".")[-1] in str(error.value)) or number == 2
            assert set(tmp_path.iterdir()) == before
    assert not mark.exists()
    with pytest.raises(FileNotFoundError), open(mark):
        pass
    pickle.loads(pickle.dumps(Evil(os.system, f"touch {mark}")))
    assert mark.exists()  # so such a pickle does run where it is unpickled


def test_a_whole_network_is_refused_by_the_name_of_its_class(tmp_path: Path):
    torch = pytest.importorskip("torch")
    for form in (True, False):
        torch.save(torch.nn.Linear(2, 3), tmp_path / "f.pth", _use_new_zipfile_serialization=form)
        with pytest.raises(ValueError, match="torch.nn.modules.linear.Linear.*state_dict"):
            torch_files.read(tmp_path / "f.pth")


def nested(depth: int) -> bytes:
    """Tuples of one tuple twice, ``depth`` deep: hashing or printing the last takes 2 ** depth steps."""
    return b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(depth))


PID = b"(X\x07\0\0\0storage%sX\x01\0\0\x000X\x03\0\0\0cpuJ%st"
FLOAT = b"ctorch\nFloatStorage\n"


def tensor(
    storage: bytes = FLOAT,
    size: int = 4,
    offset: int = 0,
    shape: bytes = b"K\x04\x85",
    stride: bytes = b"K\x01\x85",
):
    identity = PID % (storage, struct.pack("<i", size))
    where = b"J" + struct.pack("<i", offset) + shape + stride
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + b"Q" + where + b"\x89NtR"


def state_dict(value: bytes) -> bytes:
    return b"\x80\x02}X\x01\0\0\0w" + value + b"s."


def test_the_pickles_of_the_next_test_are_read_without_their_fault(tmp_path: Path):
    (tmp_path / "f").write_bytes(archive(state_dict(tensor()), **{"data/0": bytes(16)}))
    np.testing.assert_array_equal(torch_files.read(tmp_path / "f")["w"], np.zeros(4, np.float32))


@pytest.mark.parametrize(
    "pickled",
    {
        "hash of a nested tuple as key": b"\x80\x02}" + nested(60) + b"K\x01s.",
        "as a called name": b"\x80\x02" + nested(60) + b")R.",
        "as a global name": b"\x80\x04" + nested(60) + b"X\x01\0\0\0a\x93.",
        "as a storage's key": state_dict(tensor().replace(b"X\x01\0\0\x000", nested(60))),
        "as a storage's size": state_dict(tensor().replace(b"J\x04\0\0\0t", nested(60) + b"t")),
        "printed as an offset": state_dict(tensor().replace(b"J\0\0\0\0", nested(60))),
        "a shape beyond its storage": state_dict(tensor(shape=b"K\x05\x85")),
        "an offset beyond it": state_dict(tensor(offset=1)),
        "an offset before it": state_dict(tensor(offset=-1)),
        "a stride beyond it": state_dict(tensor(stride=b"K\x02\x85")),
        "a negative stride": state_dict(tensor(offset=3, stride=b"J\xff\xff\xff\xff\x85")),
        "one value as a huge tensor": state_dict(
            tensor(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", stride=b"K\0K\0\x86")
        ),
        "a huge storage": state_dict(tensor(size=2**31 - 1)),
        "numbers as a dtype": state_dict(tensor(storage=b"K\x01")),
        "another dtype": state_dict(tensor(storage=b"ctorch\nComplexFloatStorage\n")),
        "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xffa.",
        "a long of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7fa.",
        "an empty stack": b"\x80\x02a.",
        "a mark that is not there": b"\x80\x02}u.",
        "a memo that is not there": b"\x80\x02h\x07.",
        "below a mark": b"\x80\x02})(R.",
        "an extension": b"\x80\x02\x82\x01.",
        "an instance": b"\x80\x02(ios\nsystem\n.",
        "a dictionary in itself": b"\x80\x02}q\0X\x01\0\0\0ah\0s.",
        "no end": b"\x80\x02}",
        "nothing": b"",
        "a number": b"\x80\x02K\x01.",
    }.items(),
    ids=lambda item: item[0],
)
def test_hostile_pickles_are_refused_at_once(tmp_path: Path, pickled):
    for content in wrapped(pickled[1]) + [archive(pickled[1], **{"data/0": bytes(16)})]:
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(ValueError, match=r"\Af: ") as error:
            torch_files.read(tmp_path / "f")
        assert len(str(error.value)) < 500


def test_endless_pickles_are_refused(tmp_path: Path, monkeypatch):
    """Each step is small, so that a limit is needed on their number."""
    monkeypatch.setattr(torch_files, "_MOST_STEPS", 1000)
    (tmp_path / "f").write_bytes(archive(b"\x80\x02]" + b"Na" * 1000 + b"."))
    with pytest.raises(ValueError, match="more than 1000 steps"):
        torch_files.read(tmp_path / "f")


def test_colliding_keys_are_refused(tmp_path: Path):
    """Multiples of 2 ** 61 - 1 have one hash; a dictionary of them takes quadratic time."""
    keys = {(2**61 - 1) * i: None for i in range(3)}
    (tmp_path / "f").write_bytes(archive(pickle.dumps(keys, protocol=2)))
    with pytest.raises(ValueError, match="keys are no names"):
        torch_files.read(tmp_path / "f")


def test_zip_bombs_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "f", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("archive/data.pkl", state_dict(tensor()))
        out.writestr("archive/data/0", bytes(2**24))
    with pytest.raises(ValueError, match="compressed"):
        torch_files.read(tmp_path / "f")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "oldest", "pickle"])
def test_truncations_and_flipped_bytes_give_errors_or_tensors(tmp_path: Path, form):
    """Never another exception; a damaged value is noticed where the format has a checksum."""
    file = tmp_path / "f"
    if form == "oldest":
        oldest_format(file, {"a": ARRAYS["conv.weight"], "b": ARRAYS["conv.bias"]})
    else:
        write(file, ARRAYS, "zip" if form == "pickle" else form)
    expected, whole, wrap = torch_files.read(file), file.read_bytes(), bytes
    if form == "pickle":  # damaged inside of an undamaged archive
        with zipfile.ZipFile(file) as packed:
            entries = {name.split("/", 1)[1]: packed.read(name) for name in packed.namelist()}
        whole = entries.pop("data.pkl")

        def wrap(content):
            return archive(content, **entries)

    random = np.random.default_rng(0)
    for size in sorted({0, 1, 8, *random.integers(0, len(whole) - 1, 150).tolist()}):
        file.write_bytes(wrap(whole[:size]))
        try:
            found = torch_files.read(file)
        except ValueError:
            continue
        assert form == "oldest" and size > len(whole) - 20480, size  # only a tar's padding may be missing
        assert set(found) == set(expected)
    for _ in range(500):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        file.write_bytes(wrap(bytes(damaged)))
        try:
            found = torch_files.read(file)
        except ValueError:
            continue
        assert all(array.size <= 24 for array in found.values())
        if form == "zip" and set(found) == set(expected):
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"hello", "neither a file of torch.save nor"),
        (archive(b"")[:-10], "damaged|zip"),
        (archive(pickle.dumps({"a": 1, "b": [2]}, protocol=2)), "2 entries that are no tensors.*a, b"),
        (archive(pickle.dumps({}, protocol=2)), "no state dict"),
        (archive(pickle.dumps([1], protocol=2)), "no state dict"),
        (archive(state_dict(tensor())), "archive/data/0 is missing"),
        (archive(state_dict(tensor()), **{"data/0": bytes(12)}), "beyond its values"),
        (archive(state_dict(tensor()), **{"data/0": bytes(16), "byteorder": b"big"}), "big-endian"),
        (pickle.dumps({"a": 1}, protocol=2), "none of torch.save"),
    ],
)
def test_other_files_are_told(tmp_path: Path, content, match):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        torch_files.read(tmp_path / "f")
