"""From the tokens of texts to rows of one length, as ONNX operators."""

from __future__ import annotations

from compressor.runtimes.baked_tokenizer.wordpiece import Pieces, Tokenizer
from compressor.runtimes.onnx.builder import Graph

_INT64 = 7  # TensorProto.INT64


def padded(graph: Graph, tokenizer: Tokenizer, texts: list[Pieces], max_length: int) -> dict[str, str]:
    """Rows of one length: `[CLS] text [SEP]`, or `[CLS] text [SEP] other text [SEP]`, and padding."""
    vocabulary, one = tokenizer.vocabulary, graph.integers(1)
    last, column = graph.integers(vocabulary[tokenizer.last]), graph.integers([1])
    counts = _truncated(graph, [text.counts for text in texts], max_length - 1 - len(texts))
    ends: list[str] = []  # where the token behind each text is
    for count in counts:
        ends.append(graph.add("Add", graph.add("Add", ends[-1], count) if ends else count, one))
    longest = graph.add("ReduceMax", ends[-1], keepdims=0)
    positions = graph.add("Range", graph.integers(0), graph.add("Add", longest, one), one)
    ends = [graph.add("Unsqueeze", end, column) for end in ends]
    ids = graph.integers(tokenizer.padding)
    begin = one  # where a text's first token is
    for end in ends:
        ids = graph.add("Where", graph.add("Equal", positions, end), last, ids)
    for text, end in zip(texts, ends, strict=True):
        inside = graph.add(
            "And", graph.add("Not", graph.add("Less", positions, begin)), graph.add("Less", positions, end)
        )
        offset = graph.add("Sub", graph.add("Unsqueeze", text.starts, column), begin)
        index = graph.add("Where", inside, graph.add("Add", positions, offset), graph.integers(0))
        ids = graph.add("Where", inside, graph.add("Gather", text.ids, index), ids)
        begin = graph.add("Add", end, one)
    at_front = graph.add("Equal", positions, graph.integers(0))
    ids = graph.add("Where", at_front, graph.integers(vocabulary[tokenizer.first]), ids)
    mask = graph.add("LessOrEqual", positions, ends[-1])
    second = graph.add("And", graph.add("Greater", positions, ends[0]), mask)
    return {
        "input_ids": ids,
        "attention_mask": graph.add("Cast", mask, to=_INT64),
        "token_type_ids": graph.add("Cast", second, to=_INT64),
    }


def _truncated(graph: Graph, counts: list[str], room: int) -> list[str]:
    """How many tokens of each text are kept: of a pair, as `longest_first` does it.

    The shorter one is kept whole if it takes half of the room or less; if both take more, each gets half, and of an odd
    room the longer one gets more.
    """
    most = graph.integers(room)
    if len(counts) == 1:
        return [graph.add("Min", counts[0], most)]
    first, second = counts
    half, rest = graph.integers(room // 2), graph.integers(room - room // 2)
    in_order = graph.add("LessOrEqual", first, second)
    shares = graph.add("Where", in_order, half, rest), graph.add("Where", in_order, rest, half)
    return [
        graph.add("Min", own, graph.add("Max", share, graph.add("Sub", most, other)))
        for own, other, share in ((first, second, shares[0]), (second, first, shares[1]))
    ]
