"""The folder that ships, `model/`: publishing it with its manifest, verifying it, and listing its contents.

To add a check of published folders: a function in `verify` that returns `Check`s.
"""
