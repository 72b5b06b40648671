"""Checks that need several parts of a recipe at once, such as a stage and the stages before it.

To add a check: a function `(recipe, add)` that calls `add` for each problem, and a call in `resolve.resolve`. A check
of a single stage, task or format belongs to its own file.
"""
