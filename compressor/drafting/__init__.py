"""Drafts of recipes, for `compress init`: from a checkpoint, rows and a target to a commented recipe. No torch.

`rows` reads the beginning of a file, `columns` and `task` say what it is, `labels` and `lengths` hold it against the
checkpoint, `held_out` refuses rows that cannot be split and scored, `plans` chooses stages whose sizes `sizes`
estimates, `document` writes the recipe, and `draft` does all of it in turn. To add a task: how its columns are known,
in `task`; its keys of `data` come from there. To add a stage: a step of `plans.ladder`, and its entries in `document`.
"""
