"""Measures deployed files in processes of their own: quality, latency, memory, size, and parity between formats.

`measurement.measure` measures one checkpoint; it sends jobs through `client` to `worker`, the measuring process. To add
a measurement: a function in `worker` with a line in its `JOBS`, and a call in `measurement`.
"""
