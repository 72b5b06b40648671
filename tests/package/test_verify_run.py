"""`compress verify` on a run whose numbers, gates, forms or lock were changed, and on signed folders."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from running import compress
from test_verify import failed, failed_of, flip, look, look_at_files, run, sign

from compressor.package import manifest as manifests

__all__ = ["run"]


def change_report(run: Path, change: Callable[[dict], None]) -> None:
    report = json.loads((run / "report.json").read_text())
    change(report)
    (run / "report.json").write_text(json.dumps(report, indent=2) + "\n")


NUMBERS: dict[str, Callable[[dict], None]] = {
    "a measurement": lambda report: report["stages"][1]["measurements"]["accuracy"].update(value=0.99),
    "a bound": lambda report: report["stages"][1]["measurements"]["latency_p50_ms"].update(high=0.1),
    "a detail": lambda report: report["stages"][1]["details"].update(notes=["trained on more rows"]),
    "the machine": lambda report: report["environment"].update(cpu="another"),
    "the time": lambda report: report.update(seconds=1.0),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_a_changed_number_of_the_report_is_found(run: Path, what: str):
    change_report(run, NUMBERS[what])
    assert "not those that the manifest was written with" in failed_of(look_at_files(run))["report.json"]


def test_a_new_manifest_does_not_hide_a_changed_report(run: Path):
    """The report names the new manifest, which still has the digest of the old report."""
    change_report(run, NUMBERS["a measurement"])
    digest = replace(manifests.read(run / "model"), recipe="other").write(run / "model")
    change_report(run, lambda report: report.update(manifest_sha256=digest))
    assert "report.json" in failed_of(look_at_files(run))


def drop_gates(run: Path, stage: str) -> None:
    change_report(run, lambda report: next(e for e in report["stages"] if e["name"] == stage)["gates"].clear())


def test_a_gate_that_was_taken_out_of_the_manifest_is_found(run: Path):
    gates = [gate for gate in manifests.read(run / "model").gates if gate.stage != "finetune"]
    sign(run, gates=gates)
    assert "not those of the manifest" in failed_of(look_at_files(run))["report.json"]
    drop_gates(run, "finetune")
    sign(run, gates=gates)
    assert "is a gate in recipe.lock.yaml" in failed_of(look_at_files(run))["finetune: accuracy"]


def test_a_stage_that_was_taken_out_is_found(run: Path):
    change_report(run, lambda report: report["stages"].pop(1))
    sign(run, gates=[gate for gate in manifests.read(run / "model").gates if gate.stage != "finetune"])
    assert "is a stage in recipe.lock.yaml" in failed_of(look_at_files(run))["finetune"]


@pytest.mark.parametrize("name", ["report.html", "report.md", "junit.xml", "recipe.lock.yaml", "report.json"])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_beside_the_model_is_found(run: Path, name: str, where: str):
    flip(run / name, {"first": 0, "middle": (run / name).stat().st_size // 2, "last": -1}[where])
    assert name in failed_of(look_at_files(run))


def test_a_form_may_be_deleted_or_written_again(run: Path):
    (run / "report.html").unlink()
    (run / "report.md").write_text("mine")
    assert "report.md" in failed_of(look_at_files(run))
    assert compress("report", run, cwd=run).returncode == 0
    assert set(failed_of(look_at_files(run))) == {"extra.txt", "formats"}
    (run / "junit.xml").unlink()
    assert set(failed_of(look_at_files(run))) == {"extra.txt", "formats"}


@pytest.mark.parametrize("content", [None, "", "[]", "recipe: {stages: 7}", "recipe: {stages: [{}]}", "[" * 5000])
def test_a_lock_that_is_missing_or_none_is_found(run: Path, content: str | None):
    path = run / "recipe.lock.yaml"
    if content is None:
        path.unlink()
        assert "is missing" in failed_of(look_at_files(run))[path.name]
    else:
        path.write_text(content)
        assert "of another run" in failed_of(look_at_files(run))[path.name]
        sign(run)
        assert "not a run's lock" in failed_of(look_at_files(run))[path.name]


def test_a_format_that_was_taken_out_is_told_by_the_recorded_answers(run: Path):
    shutil.rmtree(run / "model" / "torchscript")
    sign(run)
    assert "is not there" in failed(look(run))["torchscript/model.pt, recorded"]


def test_a_format_without_recorded_answers_is_found(run: Path):
    path = run / "model" / "verification.json"
    document = json.loads(path.read_text())
    del document["answers"]["onnx/model.onnx"]
    path.write_text(json.dumps(document))
    sign(run)
    assert "has no recorded answers" in failed(look(run))["onnx/model.onnx, recorded"]


@pytest.mark.parametrize("name", ["../../secret.onnx", "/etc/passwd", "onnx/absent.onnx"])
def test_the_measured_file_is_one_of_the_folder(run: Path, name: str):
    sign(run, file=name)
    assert "not among the files" in failed(look(run))[name]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys `ours` and `theirs`, and the file of those who may sign: ours."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(command, check=True)
    public = (folder / "ours.pub").read_text()
    (folder / "allowed").write_text(f"release@example.org,backup@example.org {public}")
    return folder


def make_signature(model: Path, key: Path, namespace: str = "compressor") -> None:
    (model / manifests.SIGNATURE).unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace, str(model / manifests.NAME)]
    subprocess.run(command, check=True, capture_output=True)


def test_a_signed_folder_passes_for_those_who_may_sign(run: Path, keys: Path, tmp_path: Path):
    make_signature(run / "model", keys / "ours")
    signers = ("--allowed-signers", keys / "allowed")
    for path, options in ((run, ()), (run, signers), (run / "model", (*signers, "--identity", "backup@example.org"))):
        result = compress("verify", path, *options, cwd=tmp_path)
        assert result.returncode == 0, result.stdout
        assert ("release@example.org" in result.stdout or "backup@example.org" in result.stdout) == bool(options)


def fail_signature(run: Path, keys: Path, *options: str) -> str:
    """The message of the failed check of a signature."""
    (run / "model" / "extra.txt").touch()
    result = compress("verify", run, "--json", "--allowed-signers", keys / "allowed", *options, cwd=run)
    assert result.returncode == 1
    return next(c["message"] for c in json.loads(result.stdout)["checks"] if c["kind"] == "signature")


def test_a_missing_or_foreign_signature_fails(run: Path, keys: Path):
    model = run / "model"
    assert "is missing" in fail_signature(run, keys)
    make_signature(model, keys / "theirs")
    assert "is of nobody" in fail_signature(run, keys)
    make_signature(model, keys / "ours", namespace="git")
    assert "is not release@example.org's" in fail_signature(run, keys)
    make_signature(model, keys / "ours")
    assert "is not other@example.org's" in fail_signature(run, keys, "--identity", "other@example.org")
    (model / manifests.SIGNATURE).write_text("no signature")
    assert "is of nobody" in fail_signature(run, keys)


def test_a_file_that_is_exchanged_together_with_its_digests_is_found(run: Path, keys: Path):
    make_signature(run / "model", keys / "ours")
    (run / "model" / "README.md").write_text("another card")
    sign(run)
    assert "is not release@example.org's" in fail_signature(run, keys)


def test_what_a_signature_needs_is_told_in_one_line(
    run: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_signature(run / "model", keys / "ours")
    assert compress("verify", run, "--identity", "me", cwd=tmp_path).returncode == 2
    assert compress("verify", run, "--allowed-signers", "nowhere", cwd=tmp_path).returncode == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    result = compress("verify", run, "--allowed-signers", keys / "allowed", cwd=tmp_path)
    assert result.returncode == 3
    assert "ssh-keygen" in result.stderr and len(result.stderr.strip().splitlines()) == 1
