"""Training: losses as pure functions, objectives made of them, the teacher's cached outputs, and the training loop.

`train_stage` is what every training stage runs; the loop itself is transformers' Trainer. To add a loss: a function in
`losses`, and a term of an objective in `objectives`.
"""
