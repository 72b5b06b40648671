"""A command is one file and one line."""

from __future__ import annotations

from pathlib import Path

from extending import ExtendedPackage

TOY = '''"""`compress greet`: greets."""

import click


@click.command()
def greet() -> None:
    """Greet."""
    click.echo("hello")
'''


def test_a_command_is_one_file_and_one_line(tmp_path: Path):
    package = ExtendedPackage(tmp_path)
    package.write("commands/greet.py", TOY)
    package.insert("commands/__init__.py", '"doctor",', '"greet",')
    assert "greet     Greet." in package.compress("--help").stdout
    assert package.compress("greet").stdout == "hello\n"
