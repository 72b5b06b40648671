"""Core ML: an ML program for iOS and macOS, and its evaluation without Apple's kernels. An extra.

`runtime` writes and evaluates the packages of checkpoints; `conversion` makes one, `package` reads one back from the
disk, `operators` has the definitions of a program's operators. Nothing here runs Apple's kernels: an evaluation says
that the saved program computes the model in half precision, and nothing of speed.

To add an operator that a converted model has: a line in `operators.OPERATORS`.
"""
