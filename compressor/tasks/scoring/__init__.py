"""Scores that are more than a count of hits: entities in tags, and spans of a text.

To add a score: a file with a function from answers and references to per-row statistics, which a task calls.
"""
