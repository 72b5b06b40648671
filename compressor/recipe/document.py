"""The recipe: composes the settings that each package owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field

from compressor.data.spec import DataSpec
from compressor.gates.spec import RegressionGate
from compressor.measure.spec import MeasureSpec
from compressor.models.small_vectors import Precision
from compressor.models.spec import EmbeddingSpec
from compressor.spec import OneOf, Spec
from compressor.stages import STAGES, StageSpec
from compressor.tasks import IN_RECIPES, MASKED_LM, TASKS, main_metric, metrics

if TYPE_CHECKING:
    AnyStage = StageSpec
else:
    AnyStage = Annotated[Union[tuple(stage.spec for stage in STAGES.values())], Field(discriminator="stage")]  # noqa: UP007 -- of a table, which `|` cannot take


class Recipe(Spec):
    """A compression recipe."""

    schema_version: Literal[1]
    """Version of this format."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run's folder under `artifacts/`."""
    task: Annotated[str, OneOf(IN_RECIPES)]
    """The model's task: a label, a set of labels or a number for a text or a pair of texts, a tag for each word, the
    span that answers a question, the tokens that are hidden, or a vector for a text."""
    model: str
    """BERT, DistilBERT or ALBERT checkpoint: a folder (relative to the recipe), `package:PKG/path`, or a hub
    id[@revision]."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seeds sampling, new weights, dropout and the order of the rows."""
    embedding: EmbeddingSpec | None = None
    """Of sentence-similarity: how a sentence becomes a vector."""
    data: DataSpec
    """The rows."""
    measure: MeasureSpec = Field(default_factory=MeasureSpec)
    """How stages are measured."""
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]
    """The stages, in the order in which they run."""
    regression: dict[str, RegressionGate] | None = None
    """Gates of `compress run --baseline RUN` for the last stage, relative to that run's model: `metric: {rule:
    limit}`. Left out: the task's main metric has a `max_drop` of 0.01, `latency_p50_ms` a `max_ratio` of 1.1 and
    `size_bytes` one of 1.01. `{}` demands nothing, and the comparison is only shown."""

    @property
    def embedding_settings(self) -> dict[str, Any] | None:
        """What the recipe says of how a sentence becomes a vector; None where its task makes none."""
        if not TASKS[self.task].HEAD.vectors:
            return None
        return {} if self.embedding is None else self.embedding.settings

    @property
    def vector_precisions(self) -> tuple[Precision, ...]:
        """The smaller precisions that files give vectors in, beside floats."""
        return () if self.embedding is None else self.embedding.precisions or ()

    @property
    def metrics_of_smaller_vectors(self) -> tuple[str, ...]:
        """The metrics of the smaller forms of vectors that the recipe names, such as `recall_at_1[128]`."""
        forms = () if self.embedding is None else self.embedding.smaller
        return tuple(f"{metric}[{form.name}]" for form in forms for metric in metrics(self.task, self.data))

    def stage_names(self) -> list[str]:
        """Unique names of the stages, in order: given, or the kind with `_2`, `_3`… when it occurs again."""
        return stage_names([(stage.name, stage.kind) for stage in self.stages])

    @property
    def regression_gates(self) -> dict[str, RegressionGate]:
        """The recipe's gates relative to another run, or the defaults."""
        if self.regression is not None:
            return self.regression
        return {
            main_metric(self.task, metrics(self.task, self.data)): RegressionGate(max_drop=0.01),
            "latency_p50_ms": RegressionGate(max_ratio=1.1),
            # Not 1: files hold names and versions.
            "size_bytes": RegressionGate(max_ratio=1.01),
        }

    def quantized(self, index: int) -> dict[str, bool]:
        """The precisions of the quantized files that a stage finds; see `StageSpec.precisions`."""
        return {name: size for stage in self.stages[:index] for name, size in stage.precisions.items()}

    def task_of(self, stage: StageSpec) -> str:
        """The task of a stage's checkpoint: the recipe's, or masked-lm while it is pretrained."""
        return MASKED_LM if getattr(stage, "objective", "task") == "pretraining" else self.task


def stage_names(stages: list[tuple[str | None, str]]) -> list[str]:
    """Names for (given name, kind) pairs: the given one, or the kind, numbered from its second occurrence on."""
    seen: dict[str, int] = {}
    names = []
    for name, kind in stages:
        seen[kind] = seen.get(kind, 0) + (name is None)
        names.append(name or (kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"))
    return names
