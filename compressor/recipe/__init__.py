"""A recipe: a YAML file with `--set` values in, a typed and checked recipe out. Imports no torch.

`yaml_file` and `overrides` read, `document` composes the settings that each package owns, `messages` words type errors,
`resolve` finds the files and runs `checks/`. To add a key: a field of the settings class of the package that uses it.
"""
