"""What an artifact depends on besides its inputs: our code, library versions, the machine."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "bert-compressor"
PACKAGE = "compressor"
_ROOT = Path(__file__).parent

BUILD_LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime")
"""Libraries whose version can change what a stage leaves."""

_SHOWN_LIBRARIES = (*BUILD_LIBRARIES, "accelerate", "datasets", "numpy", "tokenizers")

_NOT_CODE = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        *("recipe", "recipe_parts", "recipe_training", "recipe_stages", "recipe_deployment", "errors"),
        *("progress", "metrics", "evidence", "store", "fingerprint"),
    )
)
"""Modules that cannot change an artifact: a recipe's values are in its key, the rest is talk and carrying."""


@cache
def code_digest(*modules: str) -> str:
    """Digest of modules of this package and every module of this package that they import, however deep.

    Comments, docstrings and layout do not count. Nothing is imported to find out.

    Args:
        modules: Dotted names, such as `compressor.stages.distill`.
    """
    digest = hashlib.sha256()
    for name in sorted(set().union(*map(imported_modules, modules))):
        digest.update(f"{name}:{_source_digest(name)}\n".encode())
    return digest.hexdigest()[:16]


def imported_modules(module: str) -> set[str]:
    """The module and all modules of this package that it imports, directly or not, without `_NOT_CODE`."""
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        if name not in seen and name not in _NOT_CODE:
            seen.add(name)
            pending.extend(_direct_imports(name))
    return seen


def _file(module: str) -> Path:
    path = _ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


@cache
def _direct_imports(module: str) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from compressor.runtimes import onnx` names a module, `from compressor.store import Store` does not.
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(name for name in found if name.startswith(f"{PACKAGE}.") and _file(name).is_file())


@cache
def _source_digest(module: str) -> str:
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def versions(libraries: tuple[str, ...] = _SHOWN_LIBRARIES) -> dict[str, str]:
    """Installed versions, found without importing anything."""
    return {library: metadata.version(library) for library in libraries}


@cache
def host() -> dict[str, str | int]:
    """The machine, as far as it decides speed and the kernels that run."""
    info: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            info.setdefault(name.strip(), value.strip())
    wanted = (
        *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"),
        *("asimddp", "i8mm", "bf16", "sve"),
    )
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": info.get("model name") or platform.processor() or "unknown",
        "cpu_features": " ".join(flag for flag in wanted if flag in flags),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def processor() -> dict[str, str | int]:
    """The machine without how much of it may be used: what decides what comes out, and not how fast."""
    return {name: value for name, value in host().items() if name != "cores"}


def saturates() -> bool:
    """Whether ONNX Runtime adds products of 8 bits in 16 here, where they can saturate: on x86 without VNNI.

    Source: ONNX Runtime, "Quantize ONNX models", section "When and why do I need to try U8U8?".
    """
    return host()["machine"] in ("x86_64", "AMD64") and "vnni" not in str(host()["cpu_features"])


def environment() -> dict[str, str | int]:
    """Everything that identifies this installation and machine, for reports."""
    package = metadata.version(DISTRIBUTION) if installed(DISTRIBUTION) else "not installed"
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {DISTRIBUTION: package, "python": python, **versions(), **host()}


def installed(distribution: str) -> bool:
    """Whether a library is there, found without importing it."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
