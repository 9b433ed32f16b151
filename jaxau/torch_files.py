"""Tensors from files of PyTorch and from safetensors files, without PyTorch and without running a pickle.

A file of ``torch.save`` holds a pickle, which is a program: unpickling can call any function. Here a small
interpreter reads it as data instead. It knows dictionaries, lists, numbers, text and tensors; at the name of
anything else it stops, and nothing has been called, imported or created.

Three layouts exist: a zip archive (since PyTorch 1.6), pickles followed by raw values (0.1.10 to 1.5, whether
the file is called .pth, .pt or .tar) and a tar archive (before). The content decides, not the file's name.
"""

import math
import mmap
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put the state dict

_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, OSError)
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LONGEST_PICKLE, _MOST_STEPS = 2**24, 2**20  # bytes and opcodes, a hundred times those of a large network

_STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_TENSORS = {name.replace("Storage", "Tensor"): dtype for name, dtype in _STORAGES.items()}


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, without the prefix ``module.`` of DataParallel.

    The arrays are read-only views of the file, in whatever type it stores.

    Raises:
      ValueError: the file is damaged, of another format, names anything but tensors and containers, or
        holds something else than one state dict.
      OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            # A view keeps the mapping open for as long as an array needs it.
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            tree = _read(path, data)
        except (*_DAMAGE, struct.error, zipfile.BadZipFile, SafetensorError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"damaged ({_short(error)})"
            raise ValueError(f"{path.name}: {reason}") from None
    try:
        return _state_dict(tree)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _read(path: Path, data: memoryview) -> Any:
    start = bytes(data[:512])
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(path, data)
    if start[8:9] == b"{":
        with safe_open(path, framework="numpy") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 it is no dict
    if start[257:262] == b"ustar":
        return _read_tar(data)
    if start.startswith(b"\x80"):
        return _read_legacy(data)
    raise ValueError("neither a file of torch.save nor a safetensors file; give one of the two")


class _Storage(NamedTuple):
    """Values of one type, named by its key in the file."""

    key: str
    dtype: Any
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and stride count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Global(NamedTuple):
    """A name that the pickle refers to; only those in `_CALLS` and `_STORAGES` come into being."""

    module: str
    name: str


def _read_zip(path: Path, data: memoryview) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    if sum(entry.file_size for entry in entries.values()) > len(data):
        raise ValueError(
            "its entries are larger than the file: compressed or damaged; torch.save does neither"
        )
    pickles = [name for name in entries if name.rsplit("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(f"a zip archive with {len(pickles)} data.pkl: no file of torch.save")
    folder = pickles[0].removesuffix("data.pkl")

    def content(name: str) -> memoryview:
        if folder + name not in entries:
            raise ValueError(f"{folder + name} is missing: the file is damaged")
        entry = entries[folder + name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"{entry.filename} is compressed or encrypted; torch.save does neither")
        lengths = struct.unpack_from("<HH", data, entry.header_offset + 26)
        begin = entry.header_offset + 30 + sum(lengths)
        values = data[begin : begin + entry.file_size]
        if len(values) != entry.file_size or zlib.crc32(values) != entry.CRC:
            raise ValueError(f"{entry.filename} differs from its checksum: the file is damaged")
        return values

    if folder + "byteorder" in entries and bytes(content("byteorder")) != b"little":
        raise ValueError("its numbers are big-endian, which is not read; save it again on another machine")
    tree, storages = _Pickle(content("data.pkl")).load()
    return _arrays(tree, {key: content(f"data/{key}") for key in storages})


def _read_legacy(data: memoryview) -> Any:
    stream = _Pickle(data)
    if stream.load()[0] != _LEGACY_MAGIC or stream.load()[0] != _LEGACY_PROTOCOL:
        raise ValueError("a pickle, but none of torch.save; give a file of torch.save or a safetensors file")
    system = stream.load()[0]
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian, which is not read; save it again on another machine")
    tree, storages = stream.load()
    keys, _ = stream.load()
    contents, position = {}, stream.position
    for key in map(_key, keys):
        storage = storages[key]
        (size,) = struct.unpack_from("<q", data, position)
        end = position + 8 + storage.size * storage.dtype.itemsize
        if size != storage.size or end > len(data):
            raise ValueError("it ends within its values: the file is truncated or damaged")
        contents[key] = data[position + 8 : end]
        position = end
    return _arrays(tree, contents)


def _read_tar(data: memoryview) -> Any:
    members, position = {}, 0
    while data[position : position + 1] not in (b"", b"\0"):
        name = bytes(data[position : position + 100]).rstrip(b"\0").decode()
        size = int(bytes(data[position + 124 : position + 135]), 8)
        if size < 0:
            raise ValueError("a member of negative size: the file is damaged")
        if data[position + 156 : position + 157] == b"0":
            members[name] = data[position + 512 : position + 512 + size]
        position += 512 + -(-size // 512) * 512

    stream = _Pickle(members["storages"])
    contents: dict[str, memoryview] = {}
    storages: dict[str, _Storage] = {}
    for _ in range(_count(stream.load()[0], len(data))):
        key, _, kind = stream.load()[0]
        key, dtype = _key(key), _storage_type(kind)
        (size,) = struct.unpack_from("<q", members["storages"], stream.position)
        begin = stream.position + 8
        stream.position = begin + _count(size, len(data)) * dtype.itemsize
        storages[key] = _Storage(key, dtype, size)
        contents[key] = members["storages"][begin : stream.position]
    if stream.load()[0]:
        raise ValueError(
            "it holds views of storages, which are not read; save it again with a current PyTorch"
        )

    stream = _Pickle(members["tensors"])
    tensors: dict[str, _Tensor] = {}
    for _ in range(_count(stream.load()[0], len(data))):
        key, storage, _ = stream.load()[0]
        (rank,) = struct.unpack_from("<i", members["tensors"], stream.position)
        numbers = struct.unpack_from(f"<{2 * _count(rank, 64) + 1}q", members["tensors"], stream.position + 8)
        stream.position += 8 + 8 * len(numbers)
        tensors[_key(key)] = _tensor(storages[_key(storage)], numbers[-1], numbers[:rank], numbers[rank:-1])

    return _arrays(_Pickle(members["pickle"], lambda key: tensors[_key(key)]).load()[0], contents)


def _count(number: Any, most: int) -> int:
    if type(number) is not int or not 0 <= number <= most:
        raise ValueError(f"{_short(number)} for a count: the file is damaged")
    return number


def _key(key: Any) -> str:
    """Text for the name or number of a storage; a tuple could be so nested that hashing it takes forever."""
    if type(key) is not int and not isinstance(key, str):
        raise ValueError("its pickle is damaged")
    return str(key)


class _Pickle:
    """Reads one pickle after another from ``data`` as data; `load` also returns the storages by their key."""

    def __init__(self, data: memoryview, persistent: Callable[[Any], Any] | None = None) -> None:
        self._data, self._persistent = data, persistent or self._storage
        self.position = 0

    def load(self) -> tuple[Any, dict[str, _Storage]]:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, _Storage] = {}
        stream: Any = _Stream(self._data[: self.position + _LONGEST_PICKLE], self.position)
        for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                break
            if step > _MOST_STEPS:
                raise ValueError(f"its pickle has more than {_MOST_STEPS} steps: no state dict")
            self._do(opcode.name, argument)
        (result,) = self._stack
        self.position = stream.tell()
        return result, self._storages

    def _do(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                self._stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                self._stack.append(argument)
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_TUPLE":
                self._stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._pop(int(name[-1]))))
            case "MARK":
                self._marks.append(len(self._stack))
            case "TUPLE":
                self._stack.append(tuple(self._pop_mark()))
            case "APPEND" | "APPENDS":
                items = self._pop_mark() if name == "APPENDS" else self._pop(1)
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop_mark() if name == "SETITEMS" else self._pop(2)
                self._top(dict).update(_pairs(zip(items[::2], items[1::2], strict=True)))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top(object)
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top(object)
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "GLOBAL":
                self._stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self._stack.append(_global(*self._pop(2)))
            case "REDUCE":
                called, arguments = self._pop(2)
                self._stack.append(_call(called, arguments))
            case "BUILD":  # a state dict's attribute _metadata, the versions of its modules
                self._pop(1)
                self._top(dict)
            case "BINPERSID":
                self._stack.append(self._persistent(*self._pop(1)))
            case _:
                raise ValueError(f"its pickle has {name}, which no file of a state dict needs: not read")

    def _pop(self, number: int) -> list[Any]:
        first = len(self._stack) - number
        if first < (self._marks[-1] if self._marks else 0):
            raise ValueError("its pickle is damaged")
        items = self._stack[first:]
        del self._stack[first:]
        return items

    def _pop_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise ValueError("its pickle is damaged")
        return self._stack[-1]

    def _storage(self, identity: Any) -> _Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError("it holds a whole network; save its state_dict() and give that file")
        if identity[5:] not in ((), (None,)):
            raise ValueError("it holds a view of a storage: not read; save it again with a current PyTorch")
        _, kind, key, _, size = identity[:5]
        storage = _Storage(_key(key), _storage_type(kind), _count(size, 2**48))
        if self._storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {_short(key)} has two sizes: the file is damaged")
        return storage


class _Stream:
    """What `pickletools.genops` needs of a file, without copying the data that follows the pickle."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data, self._position = data, position

    def read(self, size: int) -> bytes:
        found = bytes(self._data[self._position : self._position + size])
        self._position += len(found)
        return found

    def readline(self) -> bytes:
        line = bytes(self._data[self._position : self._position + 4096])
        return self.read(line.find(b"\n") + 1)

    def tell(self) -> int:
        return self._position


def _global(module: Any, name: Any) -> _Global:
    found = _Global(_key(module), _key(name))
    if found in _CALLS or (module in ("torch", "torch.cuda") and (name in _STORAGES or name in _TENSORS)):
        return found
    raise ValueError(
        f"its pickle refers to {_short(f'{module}.{name}')}, which is no tensor; a pickle can run programs, "
        "so it was not read further and nothing of it ran. Save state_dict() alone, or as .safetensors"
    )


def _call(called: Any, arguments: Any) -> Any:
    if not isinstance(called, _Global) or called not in _CALLS or not isinstance(arguments, tuple):
        raise ValueError("its pickle is damaged")
    return _CALLS[called](*arguments)


def _ordered(pairs: Any = ()) -> dict[str, Any]:
    return _pairs(pairs)


def _pairs(pairs: Any) -> dict[Any, Any]:
    """Only names and small numbers as keys; others can be made so that finding them takes forever."""
    items = [(key, value) for key, value in pairs]
    if not all(isinstance(key, str) or (type(key) is int and 0 <= key < 2**48) for key, _ in items):
        raise ValueError("it has a dictionary whose keys are no names; save state_dict() alone")
    return dict(items)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or len(shape) != len(stride):
        raise ValueError("its pickle is damaged")
    most = storage.size
    shape, stride = tuple(_count(n, most) for n in shape), tuple(_count(n, most) for n in stride)
    return _Tensor(storage, _count(offset, most), shape, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


_CALLS: dict[_Global, Callable[..., Any]] = {
    _Global("collections", "OrderedDict"): _ordered,
    _Global("torch._utils", "_rebuild_tensor"): _tensor,
    _Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    _Global("torch._utils", "_rebuild_parameter"): _parameter,
}


def _storage_type(kind: Any) -> np.dtype:
    if not isinstance(kind, _Global) or kind.name not in _STORAGES:
        raise ValueError(f"{_short(kind)} for the type of a storage: the file is damaged")
    return np.dtype(_STORAGES[kind.name])


def _arrays(tree: Any, contents: Mapping[str, memoryview]) -> Any:
    """``tree`` with arrays for tensors at its top and in the dictionaries there, where state dicts are."""
    if not isinstance(tree, dict):
        return tree
    below = {
        name: {n: _array(v, contents) for n, v in value.items()} if isinstance(value, dict) else value
        for name, value in tree.items()
    }
    return {name: _array(value, contents) for name, value in below.items()}


def _array(value: Any, contents: Mapping[str, memoryview]) -> Any:
    if not isinstance(value, _Tensor):
        return value
    storage, size = value.storage, math.prod(value.shape)
    flat = np.frombuffer(contents[storage.key], storage.dtype)
    last = value.offset + sum((n - 1) * step for n, step in zip(value.shape, value.stride, strict=True))
    if len(flat) != storage.size or size > len(flat) or (size and not 0 <= last < len(flat)):
        raise ValueError(f"a tensor of shape {value.shape} reaches beyond its values: damaged")
    steps = [step * storage.dtype.itemsize for step in value.stride]
    return np.lib.stride_tricks.as_strided(flat[value.offset :], value.shape, steps, writeable=False)


def _state_dict(tree: Any) -> dict[str, np.ndarray]:
    if isinstance(tree, dict):
        tree = next((tree[name] for name in WRAPPERS if isinstance(tree.get(name), dict)), tree)
    if not isinstance(tree, dict) or not tree:
        raise ValueError("it holds no state dict; save the network's state_dict()")
    other = [
        name for name, value in tree.items() if not (isinstance(name, str) and isinstance(value, np.ndarray))
    ]
    if other:
        raise ValueError(
            f"it holds {len(other)} entries that are no tensors ({_short(', '.join(map(str, other)))}); save "
            f"state_dict() alone, or under one of the names {', '.join(WRAPPERS)}"
        )
    while all(name.startswith("module.") for name in tree):
        tree = {name.removeprefix("module."): value for name, value in tree.items()}
    return tree


def _short(value: Any) -> str:
    """What a file says, made fit for one line; of a structure, which can be endless, the type."""
    if not isinstance(value, int | str | Exception):
        return f"a {type(value).__name__}"
    return str(value).encode("unicode_escape").decode()[:120]
