"""Rows and raw text: where they come from, how rows are read and split; raw text is in `corpus/`.

`sources` finds what a recipe names, a row form reads it, `splits` writes both splits to disk. To add a row form: a file
with `read`, `identities` and `labels` (see `splits.Form`), which a task names as its `FORM`.
"""
