"""Digest of the code that a result depends on: a module and everything of this package that it imports."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "compressor"


_ROOT = Path(__file__).parents[1]


_NOT_CODE = frozenset(f"{PACKAGE}.{name}" for name in ("errors", "progress", "host", "spec", "gates", "pipeline"))
"""Modules and folders that cannot change an artifact: messages, judging, and values that keys hold themselves."""


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
