"""All rewrites of an exported graph, with how often each found what it looks for.

The rewrites look for what transformers' eager attention and torch's tracer make of a layer. A version of either that
makes something else would leave the graph right, and slower: so the matches are counted, and held against what the
model's family has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from compressor.errors import StageError
from compressor.models.families import FAMILIES
from compressor.models.heads import SEQUENCE_CLASSIFICATION
from compressor.runtimes.onnx import attention_biases, flatten, rewrite, sharing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MATRICES = "float_matrices"
"""Name of the number of matrices that are stored, where fewer are better."""

_POSITION_WISE = frozenset({"gelu", "gelu_new", "gelu_python", "gelu_fast", "relu", "tanh", "silu", "sigmoid"})
"""Activations of operators that `rewrite` knows to treat tokens apart."""
_SIZES, _JOINED, _PRODUCTS = 4, 4, 6
"""Of a layer: computed sizes (queries, keys, values and their result), biases that stay (all but keys' and values'),
and matrix products that a first token needs (of the last layer: all but keys and values)."""


def apply(model: onnx.ModelProto) -> dict[str, int]:
    """Rewrites a graph, in place.

    Returns:
        `tied_tables`, `leading_sizes`, `first_token_products`, `key_biases`, `value_biases` and `joined_biases`: what
        each rewrite found; and `float_matrices`, how many are stored.
    """
    tied = sharing.share(model)
    sizes = rewrite.keep_leading_sizes(model)
    products = rewrite.compute_first_token_only(model)
    keys, values = attention_biases.fold_biases(model)
    joined = flatten.flatten(model)
    kinds = [(tensor.data_type, len(tensor.dims)) for tensor in model.graph.initializer]
    return {
        "tied_tables": tied,
        "leading_sizes": sizes,
        "first_token_products": products,
        "key_biases": keys,
        "value_biases": values,
        "joined_biases": joined,
        MATRICES: kinds.count((onnx.TensorProto.FLOAT, 2)),
    }


def expected(model: PreTrainedModel) -> dict[str, int]:
    """The least that each rewrite finds in a model of a family in the table, and the most matrices that are stored."""
    if model.config.model_type not in FAMILIES:
        return {}
    config, layers = model.config, int(model.config.num_hidden_layers)
    table, output = model.get_input_embeddings(), model.get_output_embeddings()
    tied = output is not None and output.weight is table.weight
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    classifies = type(model).__name__.endswith(SEQUENCE_CLASSIFICATION.auto)
    first = classifies and activation in _POSITION_WISE
    stored = {"tied_tables": int(tied), MATRICES: sum(parameter.ndim == 2 for parameter in model.parameters())}
    if FAMILIES[config.model_type].whole_layers:  # a graph that no rewrite was made for ships as it is
        return stored
    return {
        **stored,
        "leading_sizes": _SIZES * layers,
        "first_token_products": _PRODUCTS * first,
        "key_biases": layers,
        "value_biases": layers,
        "joined_biases": _JOINED * layers,
    }


def check(found: dict[str, int], model: PreTrainedModel) -> None:
    """Holds what the rewrites found against what the model has.

    Raises:
        StageError: A rewrite found less, or a matrix is stored twice.
    """
    wanted = expected(model)
    missed = [
        f"{name}: {found[name]}, {wanted[name]} expected"
        for name in wanted
        if (found[name] > wanted[name] if name == MATRICES else found[name] < wanted[name])
    ]
    if missed:
        raise StageError(
            f"the rewrites do not know the exported graph of this {model.config.model_type} ({'; '.join(missed)}): "
            "the file would be slower or larger than it has to be\n"
            "  install the versions of torch and transformers that constraints.txt pins"
        )
