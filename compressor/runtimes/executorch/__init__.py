"""ExecuTorch: .pte files that XNNPACK runs, for apps on phones. An extra; imported when it is used.

`runtime` chooses what a checkpoint's file holds and runs it, `program` writes it, `modules` and `graph` bring a model
into the form that XNNPACK takes whole.

To add a precision: `program.write` rounds to it, and `runtime.precision` says when.
"""
