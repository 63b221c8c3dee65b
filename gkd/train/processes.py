"""Several processes for one run, started from where a stage runs: a notebook's kernel."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from accelerate import notebook_launcher
from accelerate.utils.other import get_free_port

from gkd.train.run import Run


def launch(run: Run, function: Callable[..., Any], **arguments: Any) -> None:
    """Call `function(**arguments, run=…)` in `run.processes` new processes; returns when all ended.

    Nothing comes back but the states that they keep (`gkd.train.loop.finished`). Raises ValueError where the run keeps
    none, or this process is itself one of several.
    """
    if run.resume is None:
        raise ValueError(f"processes: {run.processes} need a Run with `resume`, through which their result comes back")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"processes: {run.processes} cannot be started from one of several processes: set it to 1")

    def work() -> None:  # no partial: torch's launcher asks for a name
        function(**arguments, run=replace(run, processes=1))

    notebook_launcher(work, num_processes=run.processes, use_port=str(get_free_port()))
