"""The metrics that gates can limit, and the rules that make sense for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["quality", "loss", "latency", "cost", "coverage", "parity", "placement"]

RULES: dict[str, str] = {
    "min": "the value is at least the limit",
    "max": "the value is at most the limit",
    "max_drop": "reference - value is at most the limit, in the metric's own unit",
    "min_retention": "value / reference is at least the limit",
    "min_speedup": "reference / value is at least the limit",
    "max_ratio": "value / reference is at most the limit",
}
"""Gate rules and what each demands; `relative_to` names the reference."""

QUALITY_KINDS = frozenset({"quality", "loss"})
"""Kinds that are scored on rows; higher is better for a `quality`, lower for a `loss`."""

RELATIVE_RULES = frozenset({"max_drop", "min_retention", "min_speedup", "max_ratio"})

_RULES_BY_KIND: dict[Kind, tuple[str, ...]] = {
    "quality": ("min", "max", "max_drop", "min_retention"),
    "loss": ("min", "max", "max_ratio"),
    "latency": ("min", "max", "min_speedup", "max_ratio"),
    "cost": ("min", "max", "max_ratio"),
    "coverage": ("min", "max"),
    "parity": ("min", "max"),
    "placement": ("min", "max"),
}


_RANGES = {
    "spearman": (-1.0, 1.0),
    "matthews_correlation": (-1.0, 1.0),
    "parity_min_cosine": (-1.0, 1.0),
    "perplexity": (1.0, math.inf),
}
"""The values of metrics that are neither shares nor amounts."""
_LEAST = 1e-9
"""Limits have to be above 0 where 0 could never hold, or would always."""
_MOST_RETENTION = 10.0
"""No compressed model is ten times as good as its teacher; a limit beyond that is a percentage."""


@dataclass(frozen=True)
class Metric:
    """A measured quantity.

    Attributes:
        name: The name in recipes and reports.
        unit: Unit of the value; `""` for a share.
        kind: Decides which rules are allowed and how its bounds are computed.
        help: One line for the recipe's reference.
        form: Name of the file that ships of which it is measured; empty for the checkpoint as a whole.
        label: The label, or the type of entities, of which it is; `*` for the one that does worst; empty for none.
        vectors: The smaller form of vectors of which it is, such as `128,int8`; empty for vectors as the model gives
            them.
    """

    name: str
    unit: str
    kind: Kind
    help: str
    form: str = ""
    label: str = ""
    vectors: str = ""

    @property
    def base(self) -> str:
        """The name without what is in brackets."""
        return self.name.partition("[")[0] if self.label or self.vectors else self.name

    @property
    def rules(self) -> tuple[str, ...]:
        """The gate rules that make sense for this metric."""
        return _RULES_BY_KIND[self.kind]

    @property
    def noisy(self) -> bool:
        """Whether it varies with the rows or the moment: other metrics of the same files are always the same."""
        return self.kind in ("quality", "loss", "latency") or self.name == "peak_rss_bytes"

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value there can be."""
        share = self.kind in ("quality", "coverage") or self.name.endswith("agreement")
        share |= self.name.startswith("nodes[")
        return _RANGES.get(self.base, (0.0, 1.0) if share else (0.0, math.inf))

    def limits(self, rule: str) -> tuple[float, float]:
        """The smallest and the largest limit of a rule: beyond them a gate can never hold, or never fail."""
        low, high = self.range
        if rule == "max_drop":
            return low - high, high - low
        if rule in ("min", "max"):
            positive = rule == "max" and self.kind in ("loss", "latency", "cost")
            return max(low, _LEAST) if positive else low, high
        return _LEAST, _MOST_RETENTION if rule == "min_retention" else math.inf


Held = Literal["float", "quantized", "evaluated", "texts", "padded"]
"""What a format's answers are held to; see `compressor.measure.parity_inputs.Comparison`."""

QUANTIZED_PARITY = "parity_quantized_label_agreement"
EVALUATED_PARITY = "parity_evaluated_label_agreement"
PADDED_LABELS, PADDED_DIFFERENCE = "parity_padded_label_agreement", "parity_padded_max_abs_diff"

PARITY: dict[str, tuple[Held, ...]] = {
    "parity_label_agreement": ("float", "texts"),
    "parity_max_abs_diff": ("float",),
    "parity_min_cosine": ("float",),
    QUANTIZED_PARITY: ("quantized",),
    EVALUATED_PARITY: ("evaluated",),
    PADDED_LABELS: ("padded",),
    PADDED_DIFFERENCE: ("padded",),
}
"""The formats that each metric of parity is of; it is measured where one of them ships."""

PROVIDERS = {"nnapi": "NNAPI", "coreml": "Core ML"}
"""Execution providers of phones whose share of an ONNX graph is measured; that of Core ML makes ML programs."""


def partitions(provider: str) -> str:
    """The metric of the pieces of a graph that an execution provider would take."""
    return f"partitions[{provider}]"


def node_share(provider: str) -> str:
    """The metric of the nodes that it would take."""
    return f"nodes[{provider}]"


def _quality(name: str, help: str) -> Metric:
    """A metric of rows, a share or a correlation: the higher, the better."""
    return Metric(name, "", "quality", help)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _quality(
            "accuracy",
            "share of rows with the right label; of words with the right tag; of masked tokens guessed right",
        ),
        _quality("sentence_order_accuracy", "share of segment pairs whose order is classified correctly"),
        Metric("loss", "nats", "loss", "mean cross-entropy of a masked token"),
        Metric("perplexity", "", "loss", "exponential of the loss"),
        _quality(
            "f1",
            "F1 of label 1 for two labels, unweighted mean over the labels for more; of entities, as seqeval counts; "
            "of the words of an answer, as SQuAD's script does",
        ),
        _quality("f1_micro", "F1 over the decisions on all labels of all rows; 0 where none is true or given"),
        _quality(
            "f1_macro",
            "unweighted mean of the F1 of each label that a row has or is given (scikit-learn's zero_division=nan)",
        ),
        _quality(
            "average_precision",
            "unweighted mean of the average precision of each label that a row has: how scores rank the rows, whatever "
            "the thresholds",
        ),
        _quality(
            "exact_match",
            "question-answering: share of questions answered with the very words of a right answer, but for case, "
            "punctuation and articles (SQuAD's script); multi-label: share of rows given all their labels and no other",
        ),
        _quality("spearman", "Spearman's rank correlation"),
        _quality(
            "ndcg_at_10",
            "mean over queries of the discounted gain of the first 10 rows by score, relative to the best order's; of "
            "rows (`data.query`) the gain is 2^relevance - 1, of documents (`data.retrieval`) their grade",
        ),
        _quality(
            "mrr_at_10",
            "mean over queries of 1 / the place of the first relevant row or document, 0 if it is not among the first "
            "10",
        ),
        _quality("recall_at_1", "mean over queries of the share of its documents that is first by cosine"),
        _quality("recall_at_10", "mean over queries of the share of its documents among the first 10"),
        _quality("matthews_correlation", "Matthews correlation coefficient"),
        Metric("latency_p50_ms", "ms", "latency", "median latency of one call"),
        Metric("latency_p95_ms", "ms", "latency", "95th percentile of the latency of one call"),
        Metric("size_bytes", "bytes", "cost", "size of the file that the measured runtime loads"),
        Metric("num_parameters", "parameters", "cost", "parameters stored, shared ones once"),
        Metric("peak_rss_bytes", "bytes", "cost", "peak resident memory of a fresh process that runs the model"),
        Metric("quantized_coverage", "", "coverage", "share of weight matrices that run as integers"),
        Metric("parity_label_agreement", "", "parity", "share of rows where every exported format gives torch's label"),
        Metric(
            "parity_max_abs_diff", "", "parity", "largest difference of a logit between any exported format and torch"
        ),
        Metric(
            "parity_min_cosine",
            "",
            "parity",
            "smallest cosine of logits or vectors: of float formats with torch's, of one file with its reference's",
        ),
        Metric(
            QUANTIZED_PARITY,
            "",
            "parity",
            "share of rows where every other quantized format gives the label of the quantized ONNX graph",
        ),
        Metric(
            PADDED_LABELS,
            "",
            "parity",
            "share of rows whose label stays the same when they are padded, of the quantized file where it is least",
        ),
        Metric(
            PADDED_DIFFERENCE,
            "",
            "parity",
            "largest difference of a logit of any quantized file between a row and the same row padded",
        ),
        Metric(
            EVALUATED_PARITY,
            "",
            "parity",
            "share of rows where every format that is evaluated, because nothing here runs it, gives torch's label",
        ),
        *(
            Metric(
                partitions(provider),
                "pieces",
                "placement",
                f"pieces of the deployed ONNX graph, of its longest fixed length if it has any, that {name} would take,"
                " by ONNX Runtime's checker of operators and sizes; 0 where it takes nothing",
            )
            for provider, name in PROVIDERS.items()
        ),
        *(
            Metric(node_share(provider), "", "placement", f"share of that graph's nodes that {name} would take")
            for provider, name in PROVIDERS.items()
        ),
    )
}


RANKINGS = ("ndcg_at_10", "mrr_at_10")
"""Metrics of rows in order of their scores, query by query: measured where the recipe names queries."""

ANY_LABEL = "*"
"""In the place of a label: every label that occurs; the one that does worst decides."""

PER_LABEL: dict[str, Metric] = {
    name: Metric(name, "", "quality", f"{what}; `{name}[*]`: of the worst")
    for name, what in (
        ("precision", "share of what is given one label, or one type of entities, that has it"),
        ("recall", "share of what has one label, or one type of entities, that is given it"),
        ("f1", "harmonic mean of precision and recall of one label, or one type of entities"),
    )
}
"""Metrics that are measured of one label, as `recall[NAME]`."""

OF_VECTORS = ("spearman", *RANKINGS, "recall_at_1", "recall_at_10")
"""Metrics that are measured of smaller forms of vectors, as `recall_at_1[128]`."""


def metric_of(name: str) -> Metric:
    """The metric of a name in gates and reports: `f1`, `recall[NAME]`, or `torchscript.latency_p50_ms` of one file.

    Raises:
        KeyError: There is no such metric.
    """
    form, own = form_and_name(name)
    if own in METRICS:
        return replace(METRICS[own], form=form)
    base, bracket, label = own.partition("[")
    if not bracket or not label.endswith("]") or len(label) < 2:
        raise KeyError(name)
    if base in OF_VECTORS:
        return replace(METRICS[base], name=own, form=form, vectors=label[:-1])
    return replace(PER_LABEL[base], name=own, form=form, label=label[:-1])


def form_and_name(name: str) -> tuple[str, str]:
    """The file, and the metric in it; labels may have dots."""
    head, bracket, label = name.partition("[")
    form, _, base = head.rpartition(".")
    return form, base + bracket + label


def of_file(form: str, metric: str) -> str:
    """The name of a metric of one file that ships."""
    return f"{form}.{metric}"


def is_metric(name: str) -> bool:
    """Whether there is such a metric."""
    try:
        metric_of(name)
    except KeyError:
        return False
    return True
