"""`python -m gkd.mini --out data` writes the miniature suite."""

import argparse
import sys
from pathlib import Path

from gkd.data.workers import cores
from gkd.mini.suite import WRITERS, write_suite


def main(arguments: list[str] | None = None) -> None:
    """Write the suite, print one line per dataset; exit with a message if a dataset folder is there."""
    parser = argparse.ArgumentParser(prog="python -m gkd.mini", description="Write the miniature suite to disk.")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder per dataset")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole suite (default: 0)")
    parser.add_argument(
        "--processes", type=int, default=cores(), help=f"that draw; no byte depends on it (default: {cores()})"
    )
    options = parser.parse_args(arguments)
    try:
        write_suite(options.out, options.seed, processes=options.processes)
    except FileExistsError as error:
        sys.exit(f"error: {error}")
    for name in WRITERS:
        files = [path for path in (options.out / name).rglob("*") if path.is_file()]
        print(f"{name}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
