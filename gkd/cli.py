"""The `gkd` command: thin wrappers around the module."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# What a user's mistake raises: values, files and folders that are not as they should be (ParamsError, DatasetError,
# CheckpointError and ExportError are ValueErrors). Anything else is a fault of this program and keeps its traceback.
MISTAKES = (ValueError, OSError)


class Commands(TyperGroup):
    """The commands behind one boundary: a mistake is one line on stderr and exit code 1, several are a line each."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # who read our output has gone: `gkd doctor | head`
            raise
        except MISTAKES as error:
            for fault in getattr(error, "faults", [error]):
                _note(f"gkd {ctx.invoked_subcommand}: {' '.join(str(fault).split())}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _note(f"gkd {ctx.invoked_subcommand}: stopped")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands, help="Check and run the GKD workspace.", no_args_is_help=True, pretty_exceptions_enable=False
)


# What a command uses is imported in it, so that `gkd --help` answers at once.


@app.command()
def check(write: bool = typer.Option(False, "--write", help="Also list what stages read, in manifests/.")) -> None:
    """Look at params.yaml, and whether the data and weights that it names are there; every fault at once."""
    from gkd.workspace.manifests import outdated, write_all

    params = _checked()
    if write:
        write_all(params)
    elif text := outdated(params):
        _note(text)
    members = f"{', '.join(params.sources)}, seeds {', '.join(map(str, params.seeds))}"
    print(f"params.yaml is sound: profile {params.profile}, sources {members}")


@app.command()
def notebooks(folder: Annotated[Path, typer.Argument(help="Where the copies go.")]) -> None:
    """Write the copies of notebooks/ that stages run, without outputs and what editors add."""
    from gkd.params import ROOT
    from gkd.workspace.notebooks import write_copies

    print(f"{len(write_copies(ROOT / 'notebooks', folder))} notebooks written to {folder}")


@app.command()
def repro(jobs: int = typer.Option(2, min=1, help="Members that run at the same time.")) -> None:
    """`dvc repro`, after a check, with independent members side by side; it ends with a plain `dvc repro`."""
    from gkd.workspace.profiles import undisturbed

    with undisturbed():
        _reproduce(jobs)


@app.command()
def profile(
    file: Annotated[Path, typer.Argument(help="A parameter file, such as profiles/grid_f2l.yaml.")],
    folder: Annotated[Path, typer.Argument(help="Where its scores, tables and dvc.lock go.")],
    beside: bool = typer.Option(False, "--beside", help="Tables that set the folders beside this one side by side."),
    jobs: int = typer.Option(2, min=1, help="Members that run at the same time."),
) -> None:
    """`gkd repro` with a profile in the place of params.yaml, which is put back afterwards, as is dvc.lock."""
    from gkd.report.build import keep, publish
    from gkd.workspace.profiles import in_place

    with in_place(file):
        params = _reproduce(jobs)
        keep(params, folder)
        for line in publish(folder.parent if beside else folder, params):
            print(line)


@app.command()
def tables(
    folder: Annotated[Path, typer.Argument(help="Holds scores/MEMBER/scores.csv and images.npz; the tables go there.")],
) -> None:
    """Make the tables of a report anew from scores; of a folder of such folders, one that sets them side by side."""
    from gkd.params import load
    from gkd.report.build import publish

    for line in publish(folder, load()):
        print(line)


@app.command()
def doctor(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; all of them by default.")] = None,
    quick: bool = typer.Option(False, "--quick", help="Read up to 20 images of each split."),
    jobs: int = typer.Option(None, min=1, help="Processes; one a core by default."),
) -> None:
    """Look at the files of datasets: what is there, what is missing, what is wrong (then the exit code is 1)."""
    from gkd.data.catalogue import misnamed
    from gkd.datasets import catalogue
    from gkd.doctor import examine
    from gkd.doctor.text import render
    from gkd.params import load

    known, reports = catalogue(load()), []
    for name in names or known.layouts:
        known.root_of(name)  # a misspelt name must not come up after an hour
    for key in misnamed(layout.folder for layout in known.layouts.values()):
        _note(f"{key} in the environment names the root of no dataset")
    for name in names or known.layouts:
        reports.append(examine(name, known, quick, jobs, say=_note))
        print(render(reports[-1]), flush=True)
    # What nobody asked for may be absent.
    number = sum(len(report.problems) + bool(names and not report.present) for report in reports)
    print(f"{number} problem{'s' * (number > 1)} in all" if number else "no problems")
    raise typer.Exit(1 if number else 0)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="results/task_learning/PROFILE/MEMBER/model.safetensors")],
    folder: Annotated[Path, typer.Argument(help="The model folder to write.")],
    member: str = typer.Option(
        None, "--as", help="SETTING/METHOD/SOURCE that a segmentor of others is (docs/weights.md)."
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

    files = None if calibration is None else photos([calibration])
    images = None if files is None else (read_photo(file) for file in files)
    graphs = Graphs(onnx=onnx, int8=int8, photos=images, tolerance=tolerance, fixed_size=fixed_size)
    config = write_folder(checkpoint, folder, graphs, name=name, member=member, force=force)
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
    from gkd.deploy.config import ExportError
    from gkd.deploy.predict import photos, plan_outputs, read_photo, unread, write
    from gkd.train.loop import engine as find_engine

    jobs = plan_outputs(photos(inputs), out, force)
    model = load_folder(folder, engine)
    model.model.to(find_engine().device)
    left = [f"{path}: this kind of picture is not read; convert it" for path in unread(inputs)]
    for job in jobs:
        try:
            photo = read_photo(job.photo)
            label = model.predict(photo)
        except ValueError as error:  # one torn photo does not keep the others from it
            left.append(str(error) if str(error).startswith(str(job.photo)) else f"{job.photo}: {error}")
            continue
        write(job, photo, label, model.config)
        print(f"{job.label} and {job.overlay.name} written", flush=True)
    if left:
        raise ExportError(*left)


def _reproduce(jobs: int) -> Any:
    """Check params.yaml and run its members; returns it, or exits with the code of what failed."""
    from gkd.workspace import jobs as side_by_side
    from gkd.workspace.manifests import outdated

    params = _checked()
    forced = ["check"] if outdated(params) else []
    if code := side_by_side.repro(side_by_side.graph(), jobs, forced):
        raise typer.Exit(code)
    return params


def _checked() -> Any:
    """params.yaml, once it is sound; says so where it is that of a profile which was killed."""
    from gkd.workspace.check import check, remarks
    from gkd.workspace.profiles import left

    params = check()
    for text in filter(None, (left(), *remarks(params))):
        _note(text)
    return params


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
