"""Thresholds of a multi-label model: the probability above which a text is given a label, one for each label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressor.models.heads import MULTI_LABEL

if TYPE_CHECKING:
    from compressor.models.checkpoint import Checkpoint

KEY = "label_thresholds"
"""Key of config.json: from a label to its threshold; `DEFAULT` for labels that it does not name."""
DEFAULT = 0.5


def gives_sets(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a multi-label model."""
    return config.get("problem_type") in MULTI_LABEL.problem_types


def thresholds(checkpoint: Checkpoint) -> list[float]:
    """The thresholds of a multi-label model, in the order of its outputs."""
    given = checkpoint.config.get(KEY) or {}
    return [float(given.get(label, DEFAULT)) for label in checkpoint.labels]


def offsets(checkpoint: Checkpoint) -> list[float] | None:
    """What logits are compared with: a text is given a label if its logit is above the label's offset.

    The sigmoid of a logit is above a threshold t where the logit is above log(t / (1 - t)).

    Returns:
        One for each output; None where all are 0, or the model is not multi-label.
    """
    found = [math.log(t / (1 - t)) for t in thresholds(checkpoint)] if gives_sets(checkpoint.config) else []
    return found if any(found) else None


def fault(config: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    """What is wrong with the thresholds of a config.json; None if nothing is.

    Args:
        config: The parsed config.json.
        labels: Names of the head's outputs.
    """
    given = config.get(KEY)
    if given is None:
        return None
    if not isinstance(given, dict):
        return f"config.json has {KEY} that are no mapping of labels to thresholds"
    if unknown := [name for name in given if name not in labels]:
        return f"config.json has {KEY} of {unknown[0]!r}, which is none of its labels"
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            return f"config.json has {value!r} in {KEY} for {name!r}, must be above 0 and below 1"
    return None
