"""Core ML: an ML program for iOS and macOS, and its evaluation without Apple's kernels. An extra.

`conversion.write` makes the package, `session.Evaluator` runs what was saved. Nothing here runs Apple's kernels, so an
evaluation says that the saved program computes the model in half precision, and nothing of speed. To add an operator
that a converted model has: a line in `operators.OPERATORS`.
"""
