from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import KINDS, hidden_states_of, is_tied, logits_of, make_albert, make_batch, make_model

from compressor.errors import StageError
from compressor.models.convert import from_parts, to_parts
from compressor.models.parts import ModelParts
from compressor.models.surgery import prune, pruning_widths
from compressor.models.surgery.prune import Kept, Scores, choose, pruned
from compressor.models.surgery.pruning_widths import Widths
from compressor.models.surgery.reduce_width import channels_of, reduce_width
from compressor.models.surgery.share_layers import MEAN, Sharing, best_start, share

ALL_KINDS = [*KINDS, "BertForPreTraining", "AlbertForSequenceClassification", "AlbertForMaskedLM"]


def model_of(kind: str) -> Any:
    if kind == "BertForPreTraining":
        two = {"id2label": {0: "in order", 1: "swapped"}, "label2id": {"in order": 0, "swapped": 1}}
        return transformers.BertForPreTraining(make_model("BertForMaskedLM", **two).config).eval()
    return make_albert(kind) if kind.startswith("Albert") else make_model(kind)


def logits(model: Any) -> torch.Tensor:
    if type(model).__name__.endswith("ForPreTraining"):
        batch = make_batch()
        with torch.no_grad():
            return model.eval()(**batch).prediction_logits[batch["attention_mask"].bool()]
    return logits_of(model)


def kept_of(whole: ModelParts, heads: float, ffn: float, scope: str = "layer") -> Kept:
    after = pruning_widths.after(whole.heads, whole.neurons, (heads, ffn), scope)
    return choose(prune.random_scores(whole, 3), after, scope)


def silenced(whole: ModelParts, kept: Kept) -> ModelParts:
    """The same model with nothing coming out of what is not kept; its tensors are changed."""
    for block, heads in zip(whole.attentions, kept.heads, strict=True):
        channels = channels_of(heads, whole.head_size)
        gone = [c for c in range(block["attention_output.weight"].shape[1]) if c not in channels]
        block["attention_output.weight"][:, gone] = 0
    for block, neurons in zip(whole.feed_forwards, kept.neurons, strict=True):
        gone = [n for n in range(block["down.weight"].shape[1]) if n not in neurons]
        block["down.weight"][:, gone] = 0
    return whole


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_removing_nothing_changes_no_logit(kind, scope):
    model = model_of(kind)
    whole = to_parts(model)
    same = from_parts(pruned(whole, kept_of(whole, 0.0, 0.0, scope)))
    assert type(same) is type(model)
    assert torch.equal(logits(same), logits(model))
    assert same.config.to_dict() == model.config.to_dict()


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("heads", "ffn"), [(0.25, 0.0), (0.0, 0.5), (0.5, 0.75)])
def test_what_is_removed_is_as_if_it_were_silent(kind, scope, heads, ffn, tmp_path: Path):
    model = model_of(kind)
    whole = to_parts(model)
    kept = kept_of(whole, heads, ffn, scope)
    small = from_parts(pruned(whole, kept)).eval()
    assert small.num_parameters() < model.num_parameters()
    small.save_pretrained(tmp_path)
    expected = logits(from_parts(silenced(whole, kept)))
    assert (logits(small) - expected).abs().max() < 1e-5
    assert (logits(model) - expected).abs().max() == 0, "silenced in place"

    head = kind[kind.index("For") :]
    loaded, info = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert torch.equal(logits(loaded), logits(small))
    if "MaskedLM" in kind:
        assert is_tied(loaded)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_one_width_and_all_heads_stay_the_plain_class(kind):
    model = model_of(kind)
    whole = to_parts(model)
    small = from_parts(pruned(whole, kept_of(whole, 0.0, 0.5)))
    assert type(small) is type(model)
    width = small.config.hidden_dim if kind.startswith("Distil") else small.config.intermediate_size
    assert width == 32
    fewer = from_parts(pruned(whole, kept_of(whole, 0.25, 0.0)))
    assert fewer.config.model_type == "compact_bert"
    assert set(fewer.config.heads) == {3}
    assert len(fewer.config.heads) == len(whole.attentions), "what layers share is pruned once"


def test_a_pruned_model_can_be_pruned_narrowed_and_shared():
    whole = to_parts(make_model("BertForSequenceClassification"))
    once = from_parts(pruned(whole, kept_of(whole, 0.25, 0.25, "global"))).eval()
    again = to_parts(once)
    assert again.heads == [len(block["query.bias"]) // 8 for block in again.attentions]
    kept = kept_of(again, 0.25, 0.5, "global")
    twice = from_parts(pruned(again, kept)).eval()
    assert sum(to_parts(twice).heads) == 9 and sum(to_parts(twice).neurons) == 96
    expected = logits_of(from_parts(silenced(to_parts(from_parts(again)), kept)))
    assert (logits_of(twice) - expected).abs().max() < 1e-5
    assert reduce_width(twice, 16).config.hidden_size == 16
    assert len(hidden_states_of(from_parts(again.with_layers([0, 3])))) == 3

    uneven = pruned(whole, Kept((torch.arange(4),) * 4, tuple(torch.arange(8 * (n + 1)) for n in range(4))))
    model = from_parts(uneven).eval()
    shared = share(model, Sharing("all", 1, 4), [2])
    assert (shared.config.model_type, shared.config.intermediate_size) == ("albert", 24)
    with pytest.raises(StageError, match="of different widths and have no mean"):
        share(model, Sharing("all", 1, 4), [MEAN])
    _, tried = best_start(model, Sharing("ffn", 2, 4), lambda _: 1.0)
    assert [sorted(entry) for entry in tried] == [["0", "1"], ["2", "3"]]


def test_the_best_of_each_layer_are_kept_in_order():
    scores = Scores(
        (torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 5.0, 4.0])),
        (torch.arange(16.0), torch.arange(16.0).flip(0)),
    )
    kept = choose(scores, Widths((2, 1), (8, 8)), "layer")
    assert [index.tolist() for index in kept.heads] == [[0, 2], [1]]
    assert [index.tolist() for index in kept.neurons] == [list(range(8, 16)), list(range(8))]
    assert prune.removed_share(scores, kept) == {"heads": round(6 / 16, 4), "neurons": round(56 / 240, 4)}


def test_across_layers_normalised_scores_compete_and_none_is_left_empty():
    # Norms 5 and 0.05: divided by them, [0.6, 0.8, 0] and [0, 0.8, 0.6].
    assert _heads((torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 0.04, 0.03])), 4) == [[0, 1], [1, 2]]
    assert _heads((torch.ones(3), torch.tensor([1.0, 0.0, 0.0])), 3) == [[0, 1], [0]], "equals: the first layer's"
    assert _heads((torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3)), 4) == [[0, 1, 2], [0]], "one stays"


def _heads(scores: tuple[torch.Tensor, ...], total: int) -> list[list[int]]:
    everything = tuple(torch.ones(8) for _ in scores)
    kept = choose(Scores(scores, everything), Widths((total,), (8 * len(scores),)), "global")
    return [index.tolist() for index in kept.heads]


def test_across_layers_neurons_go_in_eights():
    first, second = torch.full((24,), 0.1), torch.full((24,), 0.1)
    first[:12] = 1.0  # the second group of this block has a mean of 0.55, of the other 0.1
    second[:8] = 1.0
    kept = choose(Scores((torch.ones(1),) * 2, (first, second)), Widths((2,), (24,)), "global")
    assert [len(index) for index in kept.neurons] == [16, 8]
    assert set(range(12)) <= set(kept.neurons[0].tolist())


def test_magnitudes_by_hand():
    whole = to_parts(
        make_model("BertForMaskedLM", num_hidden_layers=1, hidden_size=4, num_attention_heads=2, intermediate_size=8)
    )
    block, ffn = whole.attentions[0], whole.feed_forwards[0]
    block["value.weight"].copy_(torch.tensor([[3.0, 0, 0, 0], [4.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 0]]))
    block["attention_output.weight"].copy_(torch.tensor([[0, 2.0, 6, 0], [0, 0, 8, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    ffn["up.weight"].copy_(torch.arange(8.0)[:, None].expand(8, 4))
    ffn["down.weight"].fill_(0.5)
    found = prune.magnitudes(whole)
    assert found.heads[0].tolist() == pytest.approx([10.0, 10.0])  # 5 x 2 and 1 x 10
    assert found.neurons[0].tolist() == pytest.approx([2.0 * n for n in range(8)])  # 2n x 1


def test_chance_depends_on_the_seed_alone():
    whole = to_parts(make_model("BertForMaskedLM"))
    one, same, other = (prune.random_scores(whole, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.heads, same.heads, strict=True))
    assert not torch.equal(one.neurons[0], other.neurons[0])


@pytest.mark.parametrize(
    ("count", "share", "group", "expected"),
    [
        *((12, 0.25, 1, 9), (4, 0.25, 1, 3), (12, 0.0, 1, 12), (4, 0.9, 1, 0), (1536, 0.5, 8, 768), (64, 0.3, 8, 48)),
        *((100, 0.0, 8, 100), (100, 0.01, 8, 96), (12, 0.05, 8, 8), (4, 0.1, 8, 0), (64, 0.99, 8, 0)),
    ],
)
def test_what_is_kept_is_whole_heads_and_eights(count, share, group, expected):
    assert pruning_widths.kept(count, share, group) == expected


@pytest.mark.parametrize(
    ("now", "goal", "steps", "expected"),
    [
        (Widths((12, 12), (1536, 768)), Widths((9, 3), (768, 768)), 1, Widths((9, 3), (768, 768))),
        (Widths((12, 12), (1536, 768)), Widths((9, 3), (768, 768)), 3, Widths((11, 9), (1280, 768))),
        (Widths((11, 9), (1280, 768)), Widths((9, 3), (768, 768)), 2, Widths((10, 6), (1024, 768))),
        (Widths((4,), (100,)), Widths((3,), (88,)), 2, Widths((3,), (88,))),
    ],
)
def test_a_goal_is_reached_in_equal_steps(now, goal, steps, expected):
    assert pruning_widths.towards(now, goal, steps) == expected


@pytest.mark.parametrize(
    ("shares", "scope", "message"),
    [
        ((0.9, 0.0), "layer", r"heads is 0.9: of 4 it would not leave one head in each layer; at most 0.75"),
        ((0.9, 0.0), "global", r"heads is 0.9: of 16 it would not leave one head in each layer; at most 0.75"),
        ((0.0, 0.95), "layer", r"ffn is 0.95: of 64 it would not leave eight neurons in each layer; at most 0.875"),
    ],
)
def test_a_layer_is_never_left_with_nothing(shares, scope, message):
    with pytest.raises(StageError, match=message):
        pruning_widths.after([4] * 4, [64] * 4, shares, scope)
    assert pruning_widths.after([4] * 4, [64] * 4, (0.75, 0.875), "global") == Widths((4,), (32,))
