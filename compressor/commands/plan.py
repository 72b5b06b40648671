"""`compress plan`: what a run would do, and why."""

from __future__ import annotations

from pathlib import Path

import click

from compressor.commands.options import (
    artifacts_option,
    overrides_option,
    recipe_argument,
    report_errors,
)


@click.command()
@recipe_argument
@overrides_option
@artifacts_option
@report_errors
def plan(recipe: Path, overrides: tuple[str, ...], artifacts: Path) -> None:
    """Show what a run would do, what is cached, and why the rest is not.

    \b
    Example:
      compress plan recipes/mobile_int8.yaml
    """
    from compressor.pipeline import cache_state, session
    from compressor.pipeline import lock as locks
    from compressor.pipeline import plan as plan_module
    from compressor.pipeline.store import Store
    from compressor.recipe import resolve as validation

    resolved = validation.resolve(recipe, overrides)
    session.set_environment(resolved)
    made = plan_module.make(resolved, download=False)
    lock = locks.read(artifacts / resolved.recipe.name / locks.LOCK_FILE)
    store = Store(artifacts / ".store")
    if made.model is None:
        click.echo(f"model {resolved.recipe.model}: not downloaded yet; keys are known when it is")
    width = max(len(step.name) for step in made.steps)
    for step in made.steps:
        state, reasons = cache_state.state(step, store, lock)
        click.echo(f"{step.name:<{width}}  {state:<7}  {step.key}  {'; '.join(reasons)}".rstrip())
