"""Whether what is about vectors of sentences belongs to the task, and has texts to learn from and to be scored on."""

from __future__ import annotations

from compressor.data.spec import DataSpec
from compressor.errors import Add
from compressor.gates.metrics import is_metric, metric_of
from compressor.recipe.document import Recipe
from compressor.tasks import TASKS, metrics
from compressor.tasks.sentence_similarity import METRICS, NAME
from compressor.training.spec import DistillationSpec

_RAW_TEXT = "give the texts as data.corpus, and a distill stage learns the teacher's vectors of them"


def check_similarity(recipe: Recipe, add: Add) -> None:
    """Whether a recipe of sentence-similarity has texts, and whether another has keys that are of that task alone."""
    if not TASKS[recipe.task].HEAD.vectors:
        _refuse_keys(recipe, add)
        return
    _check_texts(recipe.data, add)
    _check_pairs(recipe.data, add)
    raw = recipe.data.train is None
    for index, stage in enumerate(recipe.stages):
        if raw and stage.makes_teacher and recipe.task_of(stage) == recipe.task:
            what = "learns from pairs, and the recipe has raw text alone"
            add(("stages", index), what, "give pairs as data.train, or drop the stage", kind="missing")
        if raw and isinstance(stage, DistillationSpec) and stage.alpha_hard:
            what = "weighs what pairs say, and the recipe has raw text alone"
            add(("stages", index, "alpha_hard"), what, "drop it, or give pairs as data.train", kind="conflict")
        if getattr(stage, "vectors", None) and recipe.task_of(stage) != recipe.task:
            what = "is of a model that makes vectors, and the stage pretrains a language model"
            add(("stages", index, "vectors"), what, "put it into a stage behind it", kind="conflict")
        for name in stage.gates:
            own = metric_of(name).base if is_metric(name) else name
            if own in METRICS and own not in metrics(recipe.task, recipe.data):
                hint = "give data.score for spearman, and data.retrieval for the others"
                add(("stages", index, "gates", name), "is not measured of these data", hint, kind="missing")


def _refuse_keys(recipe: Recipe, add: Add) -> None:
    """Notes keys that are of sentence-similarity in a recipe of another task."""
    what = f"is for {NAME}, and the task is {recipe.task}"
    if recipe.embedding is not None:
        add(("embedding",), what, "drop it", kind="conflict")
    for index, stage in enumerate(recipe.stages):
        for key in ("alpha_relation", "dimensions", "vectors"):
            if getattr(stage, key, None):
                add(("stages", index, key), what, "drop it", kind="conflict")


def _check_texts(data: DataSpec, add: Add) -> None:
    """Whether there are texts to learn from, of one kind, and texts to be scored on."""
    if data.train is None and data.corpus is None:
        add(("data",), "has no texts to learn from", f"{_RAW_TEXT}; or pairs as data.train", kind="missing")
    if data.train is not None and data.corpus is not None:
        add(("data", "corpus"), "stands beside data.train", "keep one of them", kind="conflict")
    if data.train is None and data.validation is None and data.retrieval is None:
        hint = "pairs as data.validation (text, text_pair, score), or data.retrieval"
        add(("data",), "has nothing to score the vectors on", hint, kind="missing")


def _check_pairs(data: DataSpec, add: Add) -> None:
    """Whether tables of pairs have two columns of texts."""
    if data.text_pair is None and (_is_table(data.train) or _is_table(data.validation)):
        what = "is missing: rows of data.train and data.validation are pairs of texts"
        add(("data", "text_pair"), what, f"name the column with the second text; {_RAW_TEXT}", kind="missing")
    for key in ("score", "negative"):
        if getattr(data, key) is not None and data.text_pair is None:
            add(("data", key), "is of pairs, and data.text_pair is missing", "name the column", kind="missing")
    if data.score is not None and data.negative is not None:
        add(("data", "negative"), "stands beside data.score", "pairs have a score, or a negative", kind="conflict")


def _is_table(source: object) -> bool:
    return isinstance(source, str) and source.endswith((".csv", ".tsv", ".jsonl", ".parquet"))
