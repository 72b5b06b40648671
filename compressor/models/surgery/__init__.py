"""Changes the structure of models: fewer layers, heads or tokens, shared or factorized weights. Knows no recipes.

To add a change: a file with a function that takes a model or its parts and returns a new model, which a stage calls.
"""
