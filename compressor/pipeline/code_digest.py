"""The code that a result depends on: modules, everything of this package that they import, and the libraries of both.

A library counts because a module imports it, so no list of a stage's libraries can be forgotten.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from compressor.host.machine import installed, versions

PACKAGE = "compressor"


_ROOT = Path(__file__).parents[1]


_NOT_CODE = frozenset(f"{PACKAGE}.{name}" for name in ("errors", "progress", "host", "spec", "gates", "pipeline"))
"""Modules and folders that cannot change an artifact: messages, judging, and values that keys hold themselves."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "datasets": ("datasets", "pandas"),
    "numpy": ("numpy",),
    "onnx": ("onnx", "ml_dtypes", "protobuf"),
    "onnxruntime": ("onnxruntime",),
    "pyarrow": ("pyarrow",),
    "safetensors": ("safetensors",),
    "scipy": ("scipy",),
    "tokenizers": ("tokenizers",),
    "torch": ("torch",),
    "transformers": ("transformers", "safetensors", "tokenizers"),
    "transformers.Trainer": ("accelerate",),
}
"""For each library that this package imports, the distributions whose versions decide results with it."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "coremltools": ("coremltools",),
    "executorch": ("executorch", "torchao"),
    "torchao": ("torchao",),
    "neural_compressor": ("neural-compressor",),
    "onnxruntime_extensions": ("onnxruntime-extensions",),
}
"""The same for libraries of extras: they count where a recipe asks for what needs them."""

WITHOUT_EFFECT = frozenset({"huggingface_hub", "pydantic", "pydantic_core"})
"""Libraries that cannot change a result: contents of downloads and checked values are in keys themselves."""


def made_with(*modules: str, own: Sequence[str] = (), extras: Collection[str] = ()) -> dict[str, Any]:
    """Inputs for a key: the digest of all code that makes a result, and the versions of the libraries that it uses.

    Args:
        modules: Dotted names, such as `compressor.stages.distill`; what they import counts.
        own: Modules of which only their own code counts.
        extras: Distributions of extras that are used.

    Returns:
        `code`, and `versions`: the version of Python, without its patch, and of each library that is installed.
    """
    reached = frozenset().union(*map(imported_modules, modules))
    imported = frozenset().union(*map(_imported_names, (*reached, *own)))
    found = {distribution for name in imported & LIBRARIES.keys() for distribution in LIBRARIES[name]}
    found.update(library for names in EXTRAS.values() if names[0] in extras for library in names)
    python = ".".join(map(str, sys.version_info[:2]))
    present = tuple(sorted(library for library in found.union(extras) if installed(library)))
    return {"code": code_digest(*modules, own=tuple(own)), "versions": {"python": python, **versions(present)}}


@cache
def code_digest(*modules: str, own: tuple[str, ...] = ()) -> str:
    """Digest of modules of this package and every module of this package that they import, however deep.

    Comments, docstrings and layout do not count. Nothing is imported to find out.

    Args:
        modules: Dotted names, such as `compressor.stages.distill`.
        own: Modules of which only their own code counts.
    """
    digest = hashlib.sha256()
    for name in sorted({*own}.union(*map(imported_modules, modules))):
        digest.update(f"{name}:{_source_digest(name)}\n".encode())
    return digest.hexdigest()[:16]


def imported_modules(module: str) -> set[str]:
    """The module and all modules of this package that it imports, directly or not, without `_NOT_CODE`."""
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        if name not in seen and not _NOT_CODE.intersection((name, name.rpartition(".")[0])):
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
def _imported_names(module: str) -> frozenset[str]:
    """Libraries that a module imports, and the names that it imports from them: `torch`, `transformers.Trainer`."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@cache
def _source_digest(module: str) -> str:
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Docstrings, those of attributes too.
            node.body = [n for n in node.body if not _is_text(n)] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
