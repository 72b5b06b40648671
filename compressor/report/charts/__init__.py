"""Drawings as inline SVG, one file each; `svg` and `marker` hold the elements they share.

To add a drawing: a file with a function `draw` that returns an `Element`, and a line in the page's template.
"""
