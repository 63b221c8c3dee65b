"""What these scripts share: `--json FILE` and `--check`, Markdown tables, the verdict, processes that measure alone.

parser = arguments(__doc__)
show(["step", "s"], rows)
return finish(options, found, missed)
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gkd.files import write_whole


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options of all scripts; the help shows the first line of `description`."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a figure is missed")
    return parser


def show(titles: Sequence[str], rows: Iterable[Iterable[object]] = ()) -> None:
    """Print a Markdown table; a row appears as soon as it is there."""
    line(titles)
    line(["---"] * len(titles))
    for row in rows:
        line(row)


def line(cells: Iterable[object]) -> None:
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def finish(options: argparse.Namespace, found: Any, missed: Iterable[str]) -> int:
    """Write `found` where `--json` says; the exit code, 1 where `--check` is given and `missed` names anything."""
    if options.json:
        write_whole(options.json, json.dumps(found, indent=2) + "\n")
    missed = list(missed) if options.check else []
    for what in missed:
        print(f"missed: {what}", file=sys.stderr)
    return int(bool(missed))


def alone(script: str, *words: object, threads: int = 2) -> Any:
    """The JSON that `script`, with the options given here and `words`, prints last, from a process of its own.

    None where it failed, after its error was shown.
    """
    command = [sys.executable, script, *sys.argv[1:], *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def turns(parts: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each part; parts take turns, so that a slow minute meets all of them, and the first warms up."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats + 1):
        for name, work in parts.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in times.items()}


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each part."""
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory() -> int:
    """Most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
