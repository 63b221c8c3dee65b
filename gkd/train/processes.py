"""Several processes for one run, started from where a stage runs: a notebook's kernel.

launch(2, slot, distil, student, teacher, objective, data, section, seed, name, slot)
history = finished(slot, [student, objective])      # gkd.train.loop: what they wrote is brought back

Across machines each process is started from outside instead (torchrun, `accelerate launch`), see docs/many_gpus.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from accelerate import notebook_launcher

from gkd.train.resume import Resume, Slot


def launch(processes: int, place: Slot | Resume | None, function: Callable[..., Any], *arguments: Any) -> None:
    """Call `function(*arguments)` in `processes` new processes, which know of each other; returns when all ended.

    Nothing comes back but the files that the function writes to `place`.

    Raises:
        ValueError: there is no such place, or this process is itself one of several.
    """
    if place is None:
        raise ValueError(f"processes: {processes} need a slot or Resume, through which their result comes back")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"processes: {processes} cannot be started from one of several processes: set it to 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    notebook_launcher(function, arguments, num_processes=processes, use_port=str(port))
