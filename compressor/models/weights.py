"""The weights of a checkpoint as people have them: which files they are in, and what their headers say, without torch.

safetensors in one file or in shards, and `pytorch_model.bin`, whole or in shards. Only headers are read. A .bin file is
a pickle: it is read here by an unpickler that knows tensors and nothing else, so that no code of the file can run.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from compressor.files import disguise, read_json

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
WHOLE = (SAFETENSORS, PICKLED)
INDICES = tuple(f"{name}.index.json" for name in WHOLE)

_MOST_HEADER_BYTES = 100_000_000
_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
}  # fmt: skip
_SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, before torch 1.6

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Types of weights that are read; all are worked on as float32."""


class WeightsError(ValueError):
    """Weights that cannot be read; the message says which file, and why."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a file's header has it.

    Attributes:
        shape: Its shape.
        kind: Its type, such as `float32`.
        file: Name of its file.
        storage: What it shares with other tensors of the same file; its own name if nothing.
    """

    shape: tuple[int, ...]
    kind: str
    file: str
    storage: str

    @property
    def size_bytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * _SIZES[self.kind]


def weight_files(folder: Path) -> tuple[str, ...]:
    """Names of the files that a checkpoint's weights are in, an index first; none if there are no weights.

    Of several forms, the one that transformers takes: safetensors before .bin, one file before shards.

    Raises:
        WeightsError: An index cannot be read.
    """
    for whole, index in zip(WHOLE, INDICES, strict=True):
        if (folder / whole).is_file():
            return (whole,)
        if (folder / index).is_file():
            return (index, *sorted(set(_index(folder, index).values())))
    return ()


def read(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint by the names that its files give them.

    Raises:
        WeightsError: A file is missing, damaged, or not what its name says.
    """
    files = weight_files(folder)
    if not files:
        raise WeightsError(f"{folder} has none of {', '.join((*WHOLE, *INDICES))}")
    if files[0] in WHOLE:
        return read_file(folder / files[0])
    index = _index(folder, files[0])
    there = {name: read_file(folder / name) for name in files[1:]}
    for tensor, name in index.items():
        if tensor not in there[name]:
            raise WeightsError(f"{folder / name} lacks {tensor}, which {files[0]} says it has")
    return {tensor: there[name][tensor] for tensor, name in index.items()}


def read_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file.

    Raises:
        WeightsError: It is missing, damaged, or not what its name says.
    """
    if not path.is_file():
        raise WeightsError(f"there is no {path}")
    if what := disguise(path):
        raise WeightsError(f"{path} is {what}")
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except WeightsError:
        raise
    except Exception as error:  # whatever a damaged header makes of the readers
        raise WeightsError(f"{path} is damaged: {str(error) or type(error).__name__}") from None


def is_zip(path: Path) -> bool:
    """Whether a .bin file is in torch's form since 1.6, which can be mapped into memory."""
    with path.open("rb") as file:
        return file.read(4) == _ZIP


def _index(folder: Path, name: str) -> dict[str, str]:
    """From the names of tensors to the names of the shards that have them."""
    try:
        entries = read_json(folder / name).get("weight_map")
    except ValueError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(entries, dict) or not entries:
        raise WeightsError(f"{folder / name} is damaged: it has no weight_map")
    for file in entries.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith((".safetensors", ".bin")):
            raise WeightsError(f"{folder / name} is damaged: {file!r} is not the name of a shard beside it")
    return entries


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
            raise WeightsError(f"{path} is damaged: it has {size} bytes, and its header claims {length}")
        try:
            header = json.loads(file.read(length))
        except RecursionError:
            raise WeightsError(f"{path} is damaged: its header is nested too deep") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is damaged: its header is a {type(header).__name__}, not a list of tensors")
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        shape, kind, (start_at, end) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
        if kind not in _SAFETENSORS_TYPES:
            raise WeightsError(f"{path}: {name} is of the type {kind!r}, which is not known")
        if not all(type(number) is int and number >= 0 for number in (*shape, start_at, end)):
            raise WeightsError(f"{path} is damaged: {name} has the shape {list(shape)}")
        tensor = StoredTensor(shape, _SAFETENSORS_TYPES[kind], path.name, name)
        if tensor.size_bytes != end - start_at:
            raise WeightsError(f"{path} is damaged: {name} needs {tensor.size_bytes} bytes and has {end - start_at}")
        if end > size - 8 - length:
            raise WeightsError(f"{path} is cut off: {name} ends at byte {end + 8 + length} of {size}")
        found[name] = tensor
    return found


def _pickled(path: Path) -> dict[str, StoredTensor]:
    if not is_zip(path):
        with path.open("rb") as file:
            return _state(path, _legacy(file, path))
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member.file_size for member in archive.infolist()}
            (place,) = (name for name in members if name.endswith("/data.pkl") and name.count("/") == 1)
            if members[place] > _MOST_HEADER_BYTES:
                raise WeightsError(f"{path} is damaged: its header has {members[place]} bytes")
            with archive.open(place) as header:
                unpickler = _Unpickler(header, path)
                found = _state(path, unpickler.load())
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path} is damaged or cut off: {error}") from None
    prefix = place.removesuffix("data.pkl")
    for key, size in unpickler.storages.items():
        if members.get(f"{prefix}data/{key}", -1) < size:
            raise WeightsError(f"{path} is damaged or cut off: it lacks the numbers of {key}")
    return found


def _legacy(file: BinaryIO, path: Path) -> Any:
    """What a file of torch before 1.6 holds: three headers, the tensors, the list of their numbers, the numbers."""
    try:
        magic = _Unpickler(file, path).load()
    except WeightsError:
        raise
    except Exception:  # an unpickler raises whatever it meets
        magic = None
    if magic != _LEGACY_MAGIC:
        raise WeightsError(f"{path} is not a file that torch.save has written")
    for _ in ("version of the protocol", "sizes of numbers"):
        _Unpickler(file, path).load()
    unpickler = _Unpickler(file, path)
    found = unpickler.load()
    keys = _Unpickler(file, path).load()
    needed = sum(unpickler.storages.get(str(key), 0) + 8 for key in keys)
    if (left := path.stat().st_size - file.tell()) < needed:
        raise WeightsError(f"{path} is cut off: {needed - left} bytes are missing")
    return found


def _state(path: Path, loaded: Any) -> dict[str, StoredTensor]:
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not tensors by name")
    found = {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, StoredTensor)}
    if len(found) < len(loaded):
        other = next(str(name) for name in loaded if str(name) not in found)
        raise WeightsError(f"{path} is not a model's weights: {other} is not a tensor")
    if not found:
        raise WeightsError(f"{path} holds no tensors")
    return found


class _Unpickler(pickle.Unpickler):
    """Reads the tensors' shapes and types; refuses whatever is not a tensor.

    Args:
        file: The pickle.
        path: Its file, for messages.

    Attributes:
        storages: Bytes of each block of numbers, by its key.
    """

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for what tensors are made of.

        Raises:
            WeightsError: It is something else.
        """
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) not in known:
            raise WeightsError(f"{self._path} is not plain weights: it asks for {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> StoredTensor:
        """A block of numbers: `("storage", type, key, device, count, …)`."""
        _, kind, key, _, count, *_ = pid
        block = StoredTensor((int(count),), kind, self._path.name, str(key))
        self.storages[str(key)] = block.size_bytes
        return block


def _tensor(block: StoredTensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> StoredTensor:
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= block.shape[0]:
        raise WeightsError(f"{block.file} is damaged: it has {block.shape[0]} numbers for a tensor of {list(size)}")
    return replace(block, shape=tuple(size), storage=f"{block.storage}@{offset}")
