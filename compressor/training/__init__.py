"""Losses as pure functions, and the training loop: transformers' Trainer underneath."""
