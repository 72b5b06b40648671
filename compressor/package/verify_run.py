"""The part of `compress verify` that holds a run's folder against the manifest in its `model/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from compressor.files import file_digest
from compressor.gates.metrics import RULES, is_metric, metric_of
from compressor.package import manifest as manifests
from compressor.package.manifest import Check, Manifest
from compressor.recipe.document import stage_names
from compressor.report import devices
from compressor.report import files as forms
from compressor.report import model as reports

_AGAIN = "they are of different runs, or one was changed; run the recipe again"


def checks(report: reports.Report, manifest: Manifest, folder: Path) -> list[Check]:
    """Whether report, forms and lock are those of the run that wrote a manifest, and no gate was taken out.

    Args:
        report: The report beside the folder.
        manifest: The folder's manifest.
        folder: The folder that ships.
    """
    if report.until is not None:
        message = (
            f"is of a partial run, which stopped after {report.until} (--until) and published nothing: the model is of "
            f"an earlier run. Run the recipe without --until, or verify {folder}"
        )
        return [Check("gates", "report.json", "fail", message)]
    if report.manifest_sha256 != file_digest(folder / manifests.NAME):
        message = f"its sha256 is not the one in report.json: {_AGAIN}"
        return [Check("files", manifests.NAME, "fail", message)]
    if not manifests.same(report.gates, manifest.gates) or report.verdict != manifest.verdict:
        return [Check("gates", "report.json", "fail", f"its gates are not those of the manifest: {_AGAIN}")]
    wrong = [*_beside(report, manifest, folder.parent), *_lock(report, folder.parent / forms.LOCK_FILE)]
    if wrong:
        return wrong
    return [Check("gates", "report.json", "pass", "has the manifest's sha256, gates and measurements")]


def _beside(report: reports.Report, manifest: Manifest, run: Path) -> Iterator[Check]:
    """Whether the report and its forms are what was published; a form may have been deleted, or written again."""
    texts = {name: found for name in manifest.beside if (found := _text(run / name)) is not None}
    published = {name: devices.without(text) if name == "report.json" else text for name, text in texts.items()}
    now = manifests.beside(published, str(report.manifest_sha256))
    changed = [name for name in texts if now[name] != manifest.beside[name]]
    if "report.json" not in manifest.beside or "report.json" in changed:
        message = f"its measurements or other entries are not those that the manifest was written with: {_AGAIN}"
        yield Check("measurements", "report.json", "fail", message)
        return
    again = forms.texts(report, _text(run / forms.LOCK_FILE)) if changed else {}
    for name in changed:
        if texts[name] != again.get(name):
            yield Check("files", name, "fail", "was changed; `compress report` writes it again from report.json")


def _text(path: Path) -> str | None:
    """A file's text as it is; None where there is none. What is no UTF-8 is no text that we wrote."""
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None


def _lock(report: reports.Report, path: Path) -> Iterator[Check]:
    """Whether the lock is the report's, and its recipe's stages and gates are all in the report."""
    text = _text(path)
    if text is None:
        yield Check("files", path.name, "fail", "is missing; copy the folder or run the recipe again")
        return
    if file_digest(path) != report.lock_sha256:
        message = "its sha256 is not the one in report.json: it is of another run, or was changed; run the recipe again"
        yield Check("files", path.name, "fail", message)
        return
    try:
        stages = yaml.safe_load(text)["recipe"]["stages"]
        names = stage_names([(stage["name"], stage["stage"]) for stage in stages])
        promised = [
            (name, metric, rule, gate[rule])
            for name, stage in zip(names, stages, strict=True)
            for metric, gate in stage["gates"].items()
            for rule in RULES
            if gate.get(rule) is not None
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        yield Check("files", path.name, "fail", f"is not a run's lock ({type(error).__name__})")
        return
    judged = {(gate.stage, gate.result.metric, gate.result.rule, gate.result.limit) for gate in report.gates}
    measured = {(stage.name, metric) for stage in report.built for metric in stage.measurements}
    for name in set(names) - {stage.name for stage in report.built}:
        yield Check("gates", name, "fail", f"is a stage in {path.name} and not in report.json: {_AGAIN}")
    for name, metric, rule, limit in promised:
        # A gate of parity is not judged where there are no two formats to compare.
        optional = is_metric(metric) and metric_of(metric).kind == "parity" and (name, metric) not in measured
        if (name, metric, rule, limit) not in judged and not optional:
            message = f"{rule}: {limit} is a gate in {path.name} and not in report.json: {_AGAIN}"
            yield Check("gates", f"{name}: {metric}", "fail", message)
