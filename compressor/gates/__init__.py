"""Metrics, evidence and verdicts: decides from measurements whether a gate passes. numpy and scipy only, no models.

A measurement is `Evidence`: it knows its value, its bounds, and how it compares with a reference (`rows` for quality,
`timings` for latency, `exact` for sizes and memory). `judge` applies the rules of a recipe's gate (`spec`) to it.

To add a metric: a line in `metrics.METRICS`; the code that measures it returns one of the three kinds of evidence. To
add a kind of evidence: a file with a class that satisfies `estimate.Evidence`.
"""
