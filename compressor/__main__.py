"""`python -m compressor` is the `compress` command."""

from compressor.commands.main import main

main()
