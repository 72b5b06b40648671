"""The commands of `compress`, one file each: arguments in, exit codes out.

To add a command: a file with a click command of the file's name, and a line in `COMMANDS`. The function imports what it
needs when it is called: `compress --help` imports only click.
"""

from __future__ import annotations

COMMANDS = (
    "init",
    "run",
    "validate",
    "plan",
    "schema",
    "bench",
    "verify",
    "serve",
    "inspect",
    "report",
    "compare",
    "doctor",
    "gc",
)
"""The names of the commands, which are those of their modules and functions."""
