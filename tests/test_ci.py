"""The action and docs/ci.md: YAML that parses, inputs that exist, and command lines that `compress` takes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressor.commands import main
from compressor.recipe.document import Recipe

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL | re.MULTILINE)
DOCUMENTS = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]


def document(key: str) -> Any:
    (found,) = (entry for entry in DOCUMENTS if key in entry)
    return found


def accepted(arguments: list[str]) -> dict[str, Any]:
    """What click makes of a command line, without running it; raises what a user would be told."""
    name, *rest = arguments
    return main.main.commands[name].make_context(name, rest).params


def ran(script: str, folder: Path, failing: tuple[str, ...] = (), **variables: str) -> list[list[str]]:
    """Runs a job's script in bash, where `compress` and what fetches things only write down how they were called."""
    stubs = folder / "bin"
    stubs.mkdir(exist_ok=True)
    for name in ("compress", "curl", "gh", "python"):
        log = f"import json, sys; open({str(folder / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')"
        body = f'exec {sys.executable} -c {shlex.quote(log)} {name} "$@"' if name == "compress" else "exit 0"
        (stubs / name).write_text(f"#!/bin/sh\n{'exit 22' if name in failing else body}\n")
        (stubs / name).chmod(0o755)
    (folder / "calls").write_text("")
    environment = {"PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}", **variables}
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, check=False)
    assert result.returncode == 0
    return [json.loads(line)[1:] for line in (folder / "calls").read_text().splitlines()]


def test_every_command_in_the_docs_is_one():
    lines = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
    commands = [line for line in lines if line.startswith("compress ")]
    assert len(commands) >= 3
    for line in commands:
        assert accepted(shlex.split(line)[1:])["recipe"] == Path("recipes/mobile_int8.yaml")
    assert (ROOT / "recipes" / "mobile_int8.yaml").is_file()


def test_the_defaults_in_the_docs_are_those_of_the_code():
    recipe = yaml.safe_load((ROOT / "recipes" / "mobile_int8.yaml").read_text())
    code, docs = (
        Recipe.model_validate_json(json.dumps({**recipe, **extra})).regression_gates
        for extra in ({}, document("regression"))
    )
    assert docs == code


def test_the_action_uses_what_it_declares_and_declares_what_it_uses():
    assert {"name", "description", "inputs", "runs"} <= set(ACTION)
    assert ACTION["runs"]["using"] == "composite"
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"])))
    assert used == set(ACTION["inputs"])
    for name, given in ACTION["inputs"].items():
        assert given["description"] and ("default" in given) != given.get("required", False), name
    steps = ACTION["runs"]["steps"]
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        assert "run" not in step or step["shell"] == "bash", "a composite action has to say so"
        assert "${{" not in step.get("run", ""), "inputs reach scripts by the environment, not as code"
        assert re.fullmatch(r"actions/[\w-]+(/\w+)?@v\d+", step.get("uses", "actions/x@v1"))
    assert {step.get("id") for step in steps} >= {"compress"}
    restored, saved = (step["with"] for step in steps if step.get("uses", "").startswith("actions/cache/"))
    assert (restored["path"], restored["key"]) == (saved["path"], saved["key"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"baseline": None, "lock": None, "allow_inconclusive": False}),
        (
            {"BASELINE": "main/my model", "LOCK": "x.lock.yaml", "ALLOW_INCONCLUSIVE": "true"},
            {"baseline": Path("main/my model"), "lock": Path("x.lock.yaml"), "allow_inconclusive": True},
        ),
    ],
)
def test_what_the_action_runs_is_a_command(tmp_path: Path, given: dict[str, str], expected: dict[str, Any]):
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "compress")
    variables = {**dict.fromkeys(step["env"], ""), "RECIPE": "a recipe.yaml", "ARTIFACTS": "out"}
    (arguments,) = ran(step["run"], tmp_path, **{**variables, **given}, GITHUB_OUTPUT=str(tmp_path / "output"))
    found = accepted(arguments)
    assert {name: found[name] for name in expected} == expected
    assert (found["recipe"], found["artifacts"]) == (Path("a recipe.yaml"), Path("out"))
    assert (tmp_path / "output").read_text() == "exit-code=0\n"


def test_the_actions_exit_code_is_that_of_the_run(tmp_path: Path):
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "compress")
    script = f'({step["run"]}) || echo "ended with $?" >> output'
    ran(script, tmp_path, failing=("compress",), **dict.fromkeys(step["env"], ""), GITHUB_OUTPUT="output")
    assert (tmp_path / "output").read_text() == "exit-code=22\nended with 22\n"


def test_the_actions_torch_is_the_one_that_is_installed_elsewhere():
    script = next(step["run"] for step in ACTION["runs"]["steps"] if step.get("name") == "Install")
    (version,) = re.findall(r"torch==(\S+)", script)
    for path in ("Makefile", "docs/ci.md", "constraints.txt"):
        assert f"torch=={version}" in (ROOT / path).read_text(), path
    assert 'attr = "compressor.__version__"' in (ROOT / "pyproject.toml").read_text()


def test_the_github_workflow_uses_the_action_as_it_is():
    workflow = document("jobs")
    assert set(workflow[True]) == {"pull_request", "push"}, "YAML 1.1 reads the key `on` as true"
    (job,) = workflow["jobs"].values()
    (step,) = (step for step in job["steps"] if "bert-compressor" in step.get("uses", ""))
    required = {name for name, given in ACTION["inputs"].items() if given.get("required")}
    assert required <= set(step["with"]) <= set(ACTION["inputs"])
    fetch = next(step for step in job["steps"] if "gh run download" in step.get("run", ""))
    assert f"--name {ACTION['inputs']['artifact-name']['default']}" in fetch["run"]
    table = re.findall(r"^\| `([\w-]+)` \| (\S*) ?\|", (ROOT / "docs" / "ci.md").read_text(), re.MULTILINE)
    defaults = {name: str(given.get("default", "required")) for name, given in ACTION["inputs"].items()}
    assert {name: default.strip("`") for name, default in table} == defaults


@pytest.mark.parametrize(
    ("merge_request", "failing", "baseline"),
    [("7", (), Path("main/artifacts/mobile_int8")), ("7", ("curl",), None), ("", (), None)],
)
def test_the_gitlab_job_compares_where_there_is_something_to_compare_with(
    tmp_path: Path, merge_request: str, failing: tuple[str, ...], baseline: Path | None
):
    job = document("compress")["compress"]
    variables = dict.fromkeys(("CI_API_V4_URL", "CI_PROJECT_ID", "CI_DEFAULT_BRANCH", "ARTIFACTS_TOKEN"), "x")
    # GitLab does not stop at variables that are not set.
    script = "set +u\n" + "\n".join(job["script"])
    (arguments,) = ran(script, tmp_path, failing, CI_MERGE_REQUEST_IID=merge_request, **variables)
    found = accepted(arguments)
    assert found["baseline"] == baseline
    assert found["lock"] == Path("recipes/mobile_int8.lock.yaml")
    assert job["artifacts"]["reports"] == {"junit": "artifacts/*/junit.xml"}
    assert job["allow_failure"] == {"exit_codes": 4}
