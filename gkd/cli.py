"""The `gkd` command: thin wrappers around the module."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(help="Plan and run the GKD workspace.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Plan and run the GKD workspace."""


@app.command()
def plan(
    profile: str = typer.Option(None, help="A profile of params.yaml; the active one by default."),
    skip_faulty: bool = typer.Option(False, help="Leave out datasets that are there but incomplete, too."),
) -> None:
    """Write plan.yaml (and `profile:` in params.yaml) for a profile and the datasets that are there."""
    # Imported here, so that `gkd --help` answers at once.
    from gkd.data import subsets
    from gkd.models import check_name
    from gkd.params import ROOT, load
    from gkd.weights import check_file
    from gkd.workspace import availability
    from gkd.workspace.plan import build, write

    try:
        params = load(profile)
        for spec in params.models.encoders:
            check_name(spec.name)
            check_file(spec)
        found = availability.check(params)
        for message in found.messages:
            print(message, file=sys.stderr)
        if found.faults and not skip_faulty:
            raise ValueError(
                f"{', '.join(found.faults)}: there, but not as expected (see above). Nothing was planned: mend the "
                "files, or plan without them by `gkd plan --skip-faulty`"
            )
        members = build(params, found.sources, found.missing, availability.dependency(params))
        subsets.write(params, found.sources, ROOT)
    except ValueError as error:
        print(f"gkd plan: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if not found.sources:
        print("gkd plan: no source has its datasets, so there is nothing to plan", file=sys.stderr)
        raise typer.Exit(1)
    file = ROOT / "params.yaml"
    file.write_text(re.sub(r"^profile: .*$", f"profile: {params.profile}", file.read_text(), flags=re.M))
    changed = write(members)
    stages = {key: len(value) for key, value in members.items() if key not in ("data", "report")}
    listing = ", ".join(f"{count} {stage}" for stage, count in stages.items()) + ", 1 report"
    print(f"plan.yaml {'written' if changed else 'is up to date'}: profile {params.profile}, {listing}")


@app.command()
def repro(jobs: int = typer.Option(2, min=1, help="Members that run at the same time.")) -> None:
    """`dvc repro` of the whole plan, with independent members side by side; it ends with a plain `dvc repro`."""
    import yaml

    from gkd.params import ROOT
    from gkd.workspace.jobs import run
    from gkd.workspace.plan import graph

    members = graph(yaml.safe_load((ROOT / "plan.yaml").read_text()))
    environment = dict(os.environ)
    if jobs > 1:  # members have the cores among them
        environment.setdefault("GKD_WORKERS", "0")

    def start(name: str) -> int:
        command = ["dvc", "--wait-for-lock", "repro", "--single-item", name]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode

    code = run(members, jobs, start)
    raise typer.Exit(code or subprocess.run(["dvc", "repro"], cwd=ROOT, check=False).returncode)


@app.command()
def doctor(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; all of them by default.")] = None,
    quick: bool = typer.Option(False, "--quick", help="Read up to 20 images of each split."),
    jobs: int = typer.Option(None, min=1, help="Processes; one a core by default."),
    hashed: bool = typer.Option(False, "--hash", help="Content hashes in manifests: finds changes of equal size."),
) -> None:
    """Look at the files of datasets: what is there, what is missing, what is wrong (then the exit code is 1).

    Where a root lies outside data/, its files are listed in manifests/ for DVC.
    """
    from gkd.datasets import DATASETS, root_of
    from gkd.doctor import examine, write_manifests
    from gkd.doctor.text import render
    from gkd.params import ROOT, load

    try:
        roots = load().roots
        for name in names or DATASETS:
            root_of(name, roots)  # a misspelt name must not come up after an hour
        reports = []
        for name in names or DATASETS:
            reports.append(examine(name, roots, quick, jobs, say=lambda line: print(line, file=sys.stderr, flush=True)))
            print(render(reports[-1]), flush=True)
    except ValueError as error:
        print(f"gkd doctor: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    for file in write_manifests(reports, hashed):
        print(f"{file.relative_to(ROOT).as_posix()} written")
    number = sum(len(report.problems) for report in reports)
    print(f"{number} problems in all" if number else "no problems")
    raise typer.Exit(1 if number else 0)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="results/task_learning/PROFILE/MEMBER/model.safetensors")],
    folder: Annotated[Path, typer.Argument(help="The model folder to write.")],
    member: str = typer.Option(
        None, "--as", help="PROFILE/SETTING/METHOD/SOURCE that a segmentor of others is (docs/weights.md)."
    ),
    onnx: bool = typer.Option(False, "--onnx", help="Also model.onnx, checked against PyTorch."),
    int8: bool = typer.Option(False, "--int8", help="Also model.int8.onnx, for CPUs."),
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of source photos, for static int8 (convolutional encoders).")
    ] = None,
    name: str = typer.Option(None, help="Name of the model; the member's by default."),
    tolerance: float = typer.Option(1e-4, min=0, help="Largest difference of ONNX and PyTorch, in logits."),
    fixed_size: bool = typer.Option(False, "--fixed-size", help="Graphs of one size, the window: where none is free."),
    force: bool = typer.Option(False, "--force", help="Replace the model folder where it is there."),
) -> None:
    """Write a trained segmentor as a folder that describes itself: config.json, weights, ONNX files if asked."""
    from gkd.deploy import Graphs
    from gkd.deploy import export as write_folder
    from gkd.deploy.predict import photos, read_photo

    try:
        files = None if calibration is None else photos([calibration])
        images = None if files is None else (read_photo(file) for file in files)
        graphs = Graphs(onnx=onnx, int8=int8, photos=images, tolerance=tolerance, fixed_size=fixed_size)
        config = write_folder(checkpoint, folder, graphs, name=name, member=member, force=force)
    except (ValueError, OSError) as error:
        _stop("export", error)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{folder} written: {config.name}, {len(config.classes)} classes, {size:.1f} MB")


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="A model folder of `gkd export`.")],
    inputs: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos or numbered frames.")],
    out: Annotated[Path, typer.Option(help="Folder for the label and overlay PNGs.")],
    engine: str = typer.Option("torch", help="torch, onnx or int8."),
    force: bool = typer.Option(False, "--force", help="Overwrite PNGs that are there."),
) -> None:
    """Segment photos: a label PNG (train ids, palette of the classes) and a colour overlay for each."""
    from gkd.deploy import load_folder
    from gkd.deploy.predict import photos, plan_outputs, read_photo, write

    try:
        jobs = plan_outputs(photos(inputs), out, force)
        model = load_folder(folder, engine)
        for job in jobs:
            photo = read_photo(job.photo)
            try:
                label = model.predict(photo)
            except ValueError as error:
                raise ValueError(f"{job.photo}: {error}") from error
            write(job, photo, label, model.config)
            print(f"{job.label} and {job.overlay.name} written", flush=True)
    except (ValueError, OSError) as error:
        _stop("predict", error)


def _stop(command: str, error: Exception) -> NoReturn:
    """End with exit code 1 and the error in one line."""
    print(f"gkd {command}: {' '.join(str(error).split())}", file=sys.stderr)
    raise typer.Exit(1) from None
