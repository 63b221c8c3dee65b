"""Several processes for one run, started from where a stage runs: a notebook's kernel.

launch(run, distil, student=student, teacher=teacher, objective=objective, data=data, section=section)
history = finished(run.slot, [student, objective])      # gkd.train.loop: what they wrote is brought back

Across machines each process is started from outside instead (torchrun, `accelerate launch`), see docs/many_gpus.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from accelerate import notebook_launcher

from gkd.train.run import Run


def launch(run: Run, function: Callable[..., Any], **arguments: Any) -> None:
    """Call `function(**arguments, run=run.alone())` in `run.processes` new processes, which know of each other.

    Returns when all ended. Nothing comes back but the files that the function writes to `run.resume`.

    Raises:
        ValueError: there is no such place, or this process is itself one of several.
    """
    processes = run.processes
    if run.resume is None:
        raise ValueError(f"processes: {processes} need `resume`, through which their result comes back")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"processes: {processes} cannot be started from one of several processes: set it to 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    notebook_launcher(_call, (function, arguments, run.alone()), num_processes=processes, use_port=str(port))


def _call(function: Callable[..., Any], arguments: dict[str, Any], run: Run) -> None:
    """A function of a name, which torch asks for, that takes no keywords, which accelerate does not pass."""
    function(**arguments, run=run)
