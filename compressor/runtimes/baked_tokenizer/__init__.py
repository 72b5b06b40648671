"""The ONNX file that takes texts: a BERT tokenizer as ONNX operators, joined to the graph that ships.

To add another kind of tokenizer: a file like `wordpiece` that builds its nodes, and a choice in `graph`.
"""
