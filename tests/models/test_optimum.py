"""Our tables of families and heads against those of optimum's core.

They are not made of optimum's: it reads loaded configs of transformers, not a config.json and its defaults, has no
widths of feed-forward blocks, and its auto classes cost an import of torch, which `compress validate` does without.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from compressor.models import heads
from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES

OURS_ALONE = ("compact_bert",)
TASKS = {
    "text-classification": heads.SEQUENCE_CLASSIFICATION,
    "token-classification": heads.TOKEN_CLASSIFICATION,
    "question-answering": heads.QUESTION_ANSWERING,
    "fill-mask": heads.MASKED_LM,
}


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in OURS_ALONE])
@pytest.mark.parametrize("said", [True, False], ids=["written", "defaults"])
def test_sizes_of_a_family_go_by_the_names_that_optimum_gives_them(family: str, said: bool, tmp_path: Path):
    normalized = pytest.importorskip("optimum.utils").NormalizedConfigManager.get_normalized_config_class(family)
    config = transformers.AutoConfig.for_model(family)
    theirs = normalized(config)
    if said:
        for number, name in enumerate(("NUM_LAYERS", "NUM_ATTENTION_HEADS", "VOCAB_SIZE")):
            setattr(config, getattr(theirs, name, name), 6 * (number + 1))
    written = config.to_dict() if said else {"model_type": family}
    (tmp_path / "config.json").write_text(json.dumps(written))
    ours = Checkpoint(tmp_path)
    found = (ours.num_hidden_layers, ours.num_attention_heads, ours.hidden_size, ours.vocab_size)
    assert found == (theirs.num_layers, theirs.num_attention_heads, theirs.hidden_size, theirs.vocab_size)


@pytest.mark.parametrize("task", TASKS)
def test_the_auto_class_of_a_task_is_optimums(task: str):
    manager = pytest.importorskip("optimum.exporters.tasks").TasksManager
    assert manager.get_model_class_for_task(task, "pt").__name__ == f"AutoModel{TASKS[task].auto}"
