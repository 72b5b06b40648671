"""What runs on a device: one file, which is sent there as it is.

A new runtime that devices may have is one class in `worker.SESSIONS`. The file imports nothing of this project, runs
with Python 3.8, and needs numpy and what the session of a job imports.
"""
