"""A copy of the package with one file and one line more: what adding a stage, a task or a family takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import compressor

_FILES = shutil.ignore_patterns("__pycache__")


class ExtendedPackage:
    """A copy of `compressor/` that tests add files and lines to.

    Args:
        folder: Where the copy goes; the folder for `PYTHONPATH`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(Path(compressor.__file__).parent, folder / "compressor", ignore=_FILES)

    def write(self, path: str, text: str) -> None:
        """Adds a new file.

        Args:
            path: Its path from the package's folder, such as `tasks/toy.py`.
            text: Its content.
        """
        file = self.folder / "compressor" / path
        assert not file.exists(), f"{path} is there already"
        file.write_text(text, encoding="utf-8")

    def insert(self, path: str, marker: str, line: str) -> None:
        """Adds a line behind the only line of a file that contains a marker, indented as that one.

        Args:
            path: The file's path from the package's folder, such as `tasks/__init__.py`.
            marker: Part of the line.
            line: The line to add, without its indentation.
        """
        file = self.folder / "compressor" / path
        lines = file.read_text(encoding="utf-8").splitlines()
        [index] = [index for index, text in enumerate(lines) if marker in text]
        indentation = lines[index][: len(lines[index]) - len(lines[index].lstrip())]
        lines.insert(index + 1, indentation + line)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def compress(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs `compress` of the copy in a process of its own; its working folder is the copy's."""
        return self.python("-m", "compressor", *arguments)

    def python(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs Python with the copy in a process of its own."""
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
