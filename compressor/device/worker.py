"""The worker: runs files on the machine where it is started, and says what it found. It is sent as it is.

It needs Python 3.8, numpy and the runtime of the files, mostly ONNX Runtime. It is started by `BOOT`, reads its own
source and then messages from stdin, and writes messages to stdout, one after the other. A message is a line of JSON,
with `v` (`PROTOCOL`), `kind` and `arrays`, and the bytes of those arrays. A message of another version, of a kind that
is not known, too long, or not as its kind has it is refused, and the worker ends. Nothing that it receives after its
own source is executed or unpickled.

Files are asked for by their digest, in a cache of `CACHE_BYTES` that stays; or by their path, where the worker and the
client are on one machine.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Dict

try:
    import resource
except ImportError:  # Windows: no peak memory, and calls that were interrupted are not known
    resource = None  # type: ignore[assignment]  # where it is missing, nothing of it is used

import numpy as np

PROTOCOL = 1
BOOT = (
    "import sys;i=getattr(sys.stdin,'buffer',sys.stdin);n=i.readline();s=i.read(int(n));"
    "exec(compile(s,'worker','exec')) if sys.version_info>=(3,8) else "
    """sys.stdout.write('{"v":1,"kind":"refused","reason":"old","arrays":[],"python":"%d.%d"}\\n'%sys.version_info[:2])"""
)
"""The program that a Python is started with, as `python -c`: takes the length of this file in a line, and this file."""
CACHE, CACHE_BYTES = "COMPRESS_DEVICE_CACHE", 4 << 30
"""Environment variable of the cache's folder, and the most that it holds."""
PART_BYTES = 4 << 20
"""Most bytes of a part of a file."""
POSITIONS, AT_POSITIONS = "positions", "@positions"
"""The input that says which positions are wanted, and what stands behind the name of an output that has those alone."""

_MOST_HEADER, _MOST_BYTES = 1 << 20, 256 << 20
_DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "text")
_WARM_UP_CALLS, _WARM_UP_S = 10, 1.0
_PATIENCE = 2
"""Interrupted calls that are timed again, for each timed call; later ones are kept as they are."""
_REPORT_S = 0.1
_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve"),
)

Arrays = Dict[str, Any]
"""NumPy arrays by name; of texts, arrays of strings."""


class Refused(Exception):
    """A message that is not of the protocol."""


class Channel:
    """Messages over two files.

    Args:
        reader: Where they come from.
        writer: Where they go.
        most: Most bytes of arrays that are read of one message.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, most: int = _MOST_BYTES) -> None:
        self._reader, self._writer, self._most = reader, writer, most
        self.sent = 0

    def send(self, kind: str, arrays: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Writes a message."""
        listed, payloads = [], []
        for name, array in (arrays or {}).items():
            array = np.asarray(array)
            if array.dtype.kind in "OU":
                payload = json.dumps(array.tolist()).encode()
                listed.append((name, "text", array.shape, len(payload)))
            else:
                payload = np.ascontiguousarray(array).tobytes()
                listed.append((name, array.dtype.name, array.shape, len(payload)))
            payloads.append(payload)
        header = json.dumps({"v": PROTOCOL, "kind": kind, "arrays": listed, **fields}).encode() + b"\n"
        for part in (header, *payloads):
            self._writer.write(part)
            self.sent += len(part)
        self._writer.flush()

    def receive(self) -> tuple[dict[str, Any], Arrays]:
        """The next message: its line, and its arrays.

        Raises:
            EOFError: The other end is closed.
            Refused: It is not of the protocol.
        """
        line = self._reader.readline(_MOST_HEADER + 1)
        if not line:
            raise EOFError
        if len(line) > _MOST_HEADER or not line.endswith(b"\n"):
            raise Refused("a line that is too long or breaks off")
        try:
            header = json.loads(line.decode())
        except (ValueError, RecursionError):
            raise Refused("a line that is not JSON") from None
        if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
            raise Refused("a line without a kind")
        if header.get("v") != PROTOCOL:
            raise Refused("version {!r} of the protocol, this is {}".format(header.get("v"), PROTOCOL))
        return header, self._arrays(header.pop("arrays", None))

    def _arrays(self, listed: Any) -> Arrays:
        if not isinstance(listed, list):
            raise Refused("no list of arrays")
        left, checked = self._most, []
        for entry in listed:
            if not (isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str) and entry[1] in _DTYPES):
                raise Refused("an array that is not described")
            name, dtype, shape, size = entry
            if not (isinstance(shape, list) and len(shape) <= 8 and all(_natural(value) for value in [*shape, size])):
                raise Refused("an array without a shape")
            if dtype != "text" and size != math.prod(shape) * np.dtype(dtype).itemsize:
                raise Refused("an array of another size than its shape")
            left -= size
            if left < 0:
                raise Refused(f"arrays of more than {self._most} bytes")
            checked.append((name, dtype, shape, size))
        return {name: self._array(dtype, shape, size) for name, dtype, shape, size in checked}

    def _array(self, dtype: str, shape: list[int], size: int) -> Any:
        payload = bytearray()
        while len(payload) < size:  # memory is taken as bytes come, not as they are announced
            part = self._reader.read(min(PART_BYTES, size - len(payload)))
            if not part:
                raise EOFError
            payload += part
        if dtype != "text":
            return np.frombuffer(payload, dtype=dtype).reshape(shape)
        try:
            texts = json.loads(payload.decode())
        except (ValueError, RecursionError):
            raise Refused("texts that are not JSON") from None
        if len(shape) != 1 or not isinstance(texts, list) or len(texts) != shape[0]:
            raise Refused("texts of another number than their shape")
        if not all(isinstance(text, str) for text in texts):
            raise Refused("texts that are none")
        return np.array(texts, dtype=object)


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


class OnnxRuntime:
    """An .onnx or .ort file, run by ONNX Runtime on the CPU.

    Args:
        path: The file.
        threads: Threads within an operator.
    """

    concurrent = True

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnx_options(threads)
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def predict(self, inputs: Mapping[str, Any]) -> Arrays:
        """The model's outputs by name; inputs that it does not take are ignored."""
        given = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, given))


def onnx_options(threads: int) -> Any:
    """How every session of ONNX Runtime of ours runs, whatever for."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of one session would burn the cores of the session it is compared with.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class TorchScript:
    """A TorchScript file, which holds the names of its inputs and outputs.

    Args:
        path: The .pt file.
        threads: Threads within an operator, of the whole process.
    """

    concurrent = False
    NAMES = ("input_names.txt", "output_names.txt")

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        extra: dict[str, Any] = dict.fromkeys(self.NAMES, "")
        self._torch: Any = torch
        self._module: Any = self._torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        texts = (text.decode() if isinstance(text, bytes) else text for text in extra.values())
        self._inputs, self._outputs = (text.split("\n") for text in texts)

    def predict(self, inputs: Mapping[str, Any]) -> Arrays:
        """The model's outputs by name."""
        with self._torch.inference_mode():
            given = self._module(*(self._torch.from_numpy(_own(inputs[name])) for name in self._inputs))
            tensors = given if isinstance(given, tuple) else (given,)
            return {name: tensor.numpy() for name, tensor in zip(self._outputs, tensors)}


class ExecuTorch:
    """A .pte file; rows of a batch run one after the other.

    Args:
        path: The file.
        threads: Of XNNPACK, within an operator; of all sessions of the process.
    """

    concurrent = False
    INPUTS = ("input_ids", "attention_mask", "token_type_ids")
    """Names of what a file takes, in its order; it has the first few of them."""
    OUTPUTS: ClassVar[dict[tuple[int, ...], tuple[str, ...]]] = {
        (2,): ("logits",),
        (3,): ("logits",),
        (3, 2): ("logits", "sentence_order_logits"),
        (2, 2): ("start_logits", "end_logits"),
        (2, 3): ("sentence_embedding", "token_embeddings"),
    }
    """Names of what a file gives, in its order, by the number of axes of each: the file itself has no names."""
    BYTES: ClassVar[dict[int, str]] = {1: "sentence_embedding_int8", 0: "sentence_embedding_binary"}
    """Names of outputs by ExecuTorch's number of their type: signed and unsigned bytes."""

    def __init__(self, path: Path, threads: int) -> None:
        import executorch.kernels.quantized  # noqa: F401 -- the operators that look up rows of integers
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)  # before anything runs in it
        self._torch: Any = torch
        self._program = Runtime.get().load_program(path)
        self._method = self._program.load_method("forward")
        meta = self._method.metadata
        self._inputs = self.INPUTS[: meta.num_inputs()]
        given = [meta.output_tensor_meta(at) for at in range(meta.num_outputs())]
        smaller = [self.BYTES[entry.dtype()] for entry in given if entry.dtype() in self.BYTES]
        floats = tuple(len(entry.sizes()) for entry in given if entry.dtype() not in self.BYTES)
        self._outputs = (*self.OUTPUTS[floats], *smaller)
        self._longest = int(meta.input_tensor_meta(0).sizes()[1])

    def predict(self, inputs: Mapping[str, Any]) -> Arrays:
        """The model's outputs by name.

        Raises:
            ValueError: A row is longer than the file takes.
        """
        length = inputs[self._inputs[0]].shape[1]
        if length > self._longest:
            raise ValueError(f"a row has {length} tokens, and this .pte file takes {self._longest} at most; cut it")
        tensors = [self._torch.from_numpy(_own(inputs[name])) for name in self._inputs]
        # What `execute` gives is overwritten by the next call.
        rows = [
            [each.numpy().copy() for each in self._method.execute([tensor[index : index + 1] for tensor in tensors])]
            for index in range(len(tensors[0]))
        ]
        return {name: np.concatenate(column) for name, column in zip(self._outputs, zip(*rows))}


def _own(array: Any) -> Any:
    """An array that torch can take without a copy: contiguous, and writable, as it wants it."""
    return np.require(array, requirements=["C", "W"])


SESSIONS: dict[str, Callable[[Path, int], Any]] = {
    "onnxruntime": OnnxRuntime,
    "ort": OnnxRuntime,
    "torchscript": TorchScript,
    "executorch": ExecuTorch,
}
"""How the files of each runtime are loaded. On the client's own machine there are its modules besides."""


class Cache:
    """Files by their digests, the least used of which go when there are too many."""

    def __init__(self) -> None:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = Path(os.environ.get(CACHE) or Path(caches) / "compress-device")
        try:
            self.folder = folder.expanduser()
        except RuntimeError:  # there is no home
            self.folder = Path(tempfile.gettempdir()) / "compress-device"

    def path(self, digest: str) -> Path:
        """Where a file is, or would be."""
        return self.folder / digest

    def room(self, size: int) -> None:
        """Makes room for a file.

        Raises:
            OSError: The disk is too full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for partial in self.folder.glob("*.partial"):
            if time.time() - partial.stat().st_mtime > 3600:  # of a transfer that broke off
                partial.unlink()
        files = sorted(self.folder.glob("?" * 64), key=lambda path: path.stat().st_mtime)
        kept = sum(path.stat().st_size for path in files)
        for path in files:
            free = shutil.disk_usage(self.folder).free
            if kept + size <= CACHE_BYTES and free > size + PART_BYTES:
                return
            kept -= path.stat().st_size
            path.unlink()
        free = shutil.disk_usage(self.folder).free
        if free <= size + PART_BYTES:
            what = f"{free / 1e6:.0f} MB free in {self.folder}, {size / 1e6:.0f} MB needed"
            raise OSError(errno.ENOSPC, what)


def machine() -> dict[str, Any]:
    """The properties of this machine that decide speed and which kernels run."""
    info: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        info.setdefault(name.strip(), value.strip())
    flags = set((info.get("flags") or info.get("Features") or "").split())
    board = _text("/proc/device-tree/model").strip("\0\n")
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": info.get("model name") or board or platform.processor() or "unknown",
        "cpu_features": " ".join(flag for flag in _FEATURES if flag in flags),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def state(system: Path = Path("/sys")) -> dict[str, Any]:
    """How the machine is now: what is unknown is left out.

    Args:
        system: Linux's folder of devices.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, AttributeError):
        found["load"] = round(os.getloadavg()[0], 2)
    zones = _numbers(system, "class/thermal/thermal_zone*/temp")
    if zones:
        found["temperature_c"] = max(zones) / 1e3
    policies = "devices/system/cpu/cpufreq/policy*"
    speeds = _numbers(system, policies + "/scaling_cur_freq")
    if speeds:
        found["mhz"] = max(speeds) / 1e3
    governors = sorted(set(_texts(system, policies + "/scaling_governor")))
    if governors:
        found["governor"] = " ".join(governors)
    throttled = _numbers(system, "devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    if throttled:
        found["throttled"] = sum(throttled)
    return found


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _texts(folder: Path, pattern: str) -> list[str]:
    return [text for text in (_text(str(path)).strip() for path in folder.glob(pattern)) if text]


def _numbers(folder: Path, pattern: str) -> list[int]:
    return [int(text) for text in _texts(folder, pattern) if text.lstrip("-").isdigit()]


def versions() -> dict[str, str]:
    """The runtimes that are there."""
    from importlib import metadata

    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in ("onnxruntime", "torch", "executorch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class Worker:
    """Does what messages ask for, until the other end is closed.

    Args:
        channel: The messages.
        modules: Modules with a `Session` of their own, by runtime: of the client's machine, where they can be imported.
    """

    def __init__(self, channel: Channel, modules: Mapping[str, str] | None = None) -> None:
        self._channel, self._cache, self._reported = channel, Cache(), 0.0
        self._modules = dict(modules or {})

    def serve(self) -> None:
        """Says what is here, and does jobs.

        Raises:
            Refused: A message is not of the protocol; the client was told.
        """
        jobs = {
            "have": self.have,
            "put": self.put,
            "answer": self.answer,
            "latency": self.latency,
            "memory": self.memory,
            "drop": self.drop,
        }
        self._channel.send("hello", machine=machine(), versions=versions(), state=state())
        while True:
            try:
                header, arrays = self._channel.receive()
                kind = header["kind"]
                if kind not in jobs:
                    raise Refused(f"a message of the kind {kind[:40]!r}")
                try:
                    jobs[kind](header, arrays)
                except (EOFError, Refused):
                    raise
                except Exception as error:  # runtimes raise anything; so do fields that are missing
                    self._failed(error)
            except EOFError:
                return
            except Refused as error:
                self._channel.send("refused", reason=str(error))
                raise

    def _failed(self, error: Exception) -> None:
        text = next(iter(str(error).strip().splitlines()), "no text")
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        missing = isinstance(error, ModuleNotFoundError) and error.name
        reason = f"{type(error).__name__}: {text[:2000]}"
        self._channel.send("failed", reason=reason, **({"full": True} if full else {"missing": missing or None}))

    def have(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        """Says which of some files are in the cache, by their digests."""
        digests = [_digest(entry) for entry in _list(header, "digests")]
        there = [digest for digest in digests if self._cache.path(digest).is_file()]
        for digest in there:
            os.utime(self._cache.path(digest))
        self._channel.send("have", digests=there)

    def put(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        """Takes a file into the cache, in messages `part` of an array `bytes` each, after an answer `ready`."""
        digest, size = _digest(header.get("digest")), header.get("size")
        if not _natural(size) or not size:
            raise Refused("a file without a size")
        self._cache.room(size)
        handle, name = tempfile.mkstemp(prefix=digest[:8], suffix=".partial", dir=str(self._cache.folder))
        try:
            with os.fdopen(handle, "wb") as file:
                self._channel.send("ready")
                found, got = hashlib.sha256(), 0
                while got < size:
                    part, content = self._channel.receive()
                    data = content.get("bytes")
                    if part["kind"] != "part" or data is None or data.dtype != np.uint8 or not data.size:
                        raise Refused("something else than a part of a file")
                    found.update(data.tobytes())
                    file.write(data.tobytes())
                    got += data.size
            if got != size or found.hexdigest() != digest:
                raise ValueError("the file that arrived is another one than was announced")
            Path(name).replace(self._cache.path(digest))
        finally:
            with contextlib.suppress(OSError):
                Path(name).unlink()
        self._channel.send("done")

    def drop(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        """Empties the cache."""
        shutil.rmtree(str(self._cache.folder), ignore_errors=True)
        self._channel.send("done")

    def answer(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        """Runs a file on the arrays of each message `ask` that follows, until one of the kind `end`.

        Each gets a message `answer`, in their order, with the outputs that `outputs` names; None for all. Where an
        `ask` has an array `positions`, outputs of tokens come at those positions alone: indices into
        `batch x sequence`.
        """
        session = self._session(header)
        workers = header.get("workers", 1) if session.concurrent else 1
        wanted = header.get("outputs")
        waiting: deque[Future[Arrays]] = deque()
        self._channel.send("ready")
        with ThreadPoolExecutor(max(1, min(64, int(workers)))) as pool:
            while True:
                message, inputs = self._channel.receive()
                if message["kind"] not in ("ask", "end"):
                    raise Refused("a message of the kind {!r} among rows".format(message["kind"][:40]))
                if message["kind"] == "ask":
                    waiting.append(pool.submit(_run, session, inputs, wanted))
                while waiting and (message["kind"] == "end" or len(waiting) > workers):
                    self._channel.send("answer", waiting.popleft().result())
                if message["kind"] == "end":
                    break
        self._channel.send("done")

    def latency(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        """Milliseconds per call of several files, timed in turn: in each round every file once, in alternating order.

        A call during which the system gave a core to another process is timed again: on a busy machine a call is either
        undisturbed or a time slice longer, whatever the model, and a median that falls between the two describes
        neither (`benchmarks/gate_fidelity.py`). The inputs of file 0 are the arrays `0/input_ids` and so on.
        """
        files, runs = _list(header, "files"), int(header["runs"])
        sessions = [self._session({"threads": header["threads"], **entry}) for entry in files]
        inputs: list[Arrays] = [{} for _ in files]
        for name, array in arrays.items():
            place, _, own = name.partition("/")
            inputs[int(place)][own] = array
        for session, given in zip(sessions, inputs):
            start = time.perf_counter()
            for call in range(_WARM_UP_CALLS):
                session.predict(given)
                if call and time.perf_counter() - start > _WARM_UP_S:
                    break
        before = state()
        samples: list[list[float]] = [[] for _ in files]
        patience, disturbed = _PATIENCE * runs * len(files), 0
        order = list(range(len(files)))
        for run in range(runs):
            for index in order if run % 2 == 0 else reversed(order):
                milliseconds, interrupted = _timed(sessions[index], inputs[index])
                while interrupted and patience:
                    patience -= 1
                    milliseconds, interrupted = _timed(sessions[index], inputs[index])
                disturbed += interrupted
                samples[index].append(milliseconds)
            self._progress(run + 1, runs)
        times = {str(place): np.array(found) for place, found in enumerate(samples)}
        self._channel.send("done", times, before=before, after=state(), disturbed=disturbed)

    def memory(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        """Peak resident memory of this process, in bytes, after it has loaded one file and run it a few times."""
        session = self._session(header)
        for _ in range(3):
            session.predict(arrays)
        self._channel.send("done", peak_rss_bytes=peak_rss_bytes())

    def _progress(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._reported >= _REPORT_S:
            self._reported = time.monotonic()
            self._channel.send("progress", done=done, total=total)

    def _session(self, entry: Mapping[str, Any]) -> Any:
        runtime, threads = entry["runtime"], int(entry["threads"])
        if "digest" in entry:
            path = self._cache.path(_digest(entry["digest"]))
        else:
            path = Path(entry["path"])
        if runtime in self._modules:
            return import_module(self._modules[runtime]).Session(path, threads)
        if runtime not in SESSIONS:
            raise ValueError("there is no runtime {!r} here; there are {}".format(runtime, ", ".join(SESSIONS)))
        return SESSIONS[runtime](path, threads)


def _run(session: Any, inputs: Arrays, wanted: list[str] | None) -> Arrays:
    positions = inputs.pop(POSITIONS, None)
    outputs = {name: array for name, array in session.predict(inputs).items() if wanted is None or name in wanted}
    if positions is None:
        return outputs
    tokens = next(iter(inputs.values())).shape[:2]
    chosen: Arrays = {}
    for name, array in outputs.items():
        if array.ndim == 3 and array.shape[:2] == tokens:
            chosen[name + AT_POSITIONS] = array.reshape(-1, array.shape[2])[positions]
        else:
            chosen[name] = array
    return chosen


def _timed(session: Any, inputs: Arrays) -> tuple[float, bool]:
    """Milliseconds of a call, and whether a thread of this process lost its core during it."""
    before = _switches()
    start = time.perf_counter()
    session.predict(inputs)
    seconds = time.perf_counter() - start
    return seconds * 1e3, _switches() > before


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def peak_rss_bytes() -> int:
    """Peak resident memory of this process."""
    # On Linux ru_maxrss starts with the parent's peak; VmHWM starts with this program.
    for line in _text("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if not resource:
        raise ValueError("the peak memory of a process is not known on this system")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _list(header: Mapping[str, Any], name: str) -> list[Any]:
    found = header.get(name)
    if not isinstance(found, list) or len(found) > 10000:
        raise Refused(f"no list of {name}")
    return found


def _digest(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise Refused("a digest that is none")
    return value


@contextlib.contextmanager
def _own_output() -> Iterator[BinaryIO]:
    """Where messages go. What libraries print goes to the log, stderr, instead."""
    sys.stdout.flush()
    handle = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(handle, "wb") as writer:
        yield writer


def main() -> None:
    """Serves stdin and stdout. Arguments: modules of the client's machine, as `runtime=module`."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the client ends this process
    modules = dict(argument.split("=", 1) for argument in sys.argv[1:])
    with _own_output() as writer:
        try:
            Worker(Channel(sys.stdin.buffer, writer), modules).serve()
        except (Refused, BrokenPipeError):
            sys.exit(2)


if __name__ == "__main__":
    main()
