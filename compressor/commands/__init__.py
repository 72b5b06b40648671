"""The commands of `compress`, one file each: arguments in, exit codes out.

To add a command: a file with a click command of the file's name, and a line in `COMMANDS`. The function imports what it
needs when it is called: `compress --help` imports only click.
"""

from __future__ import annotations

from compressor.commands.bench import bench
from compressor.commands.compare import compare
from compressor.commands.doctor import doctor
from compressor.commands.inspect import inspect
from compressor.commands.plan import plan
from compressor.commands.report import report
from compressor.commands.run import run
from compressor.commands.schema import schema
from compressor.commands.validate import validate
from compressor.commands.verify import verify

COMMANDS = (run, validate, plan, schema, bench, verify, inspect, report, compare, doctor)
