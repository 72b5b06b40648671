"""What this process runs on: the machine and its libraries, and the memory that mapped files take of it.

A new fact about the machine is a function in `machine.py`; what acts on the process or the system is a file of its own.
"""
