"""Runs a recipe: plans its keys, builds, measures and judges its stages, and publishes the result.

The way of a run: `api` or a command, `session` (environment, log), `plan` (keys), `execute` (the loop over stages),
which calls `building` (checkpoints, from the `store`) and `measuring` (evidence for gates). A command that runs
something calls `api` or `session.run`. A new stage, task or format needs nothing new here.
"""
