import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dataset_names import touch, written
from torch import nn

from gkd.data.domains import Domain
from gkd.data.reading import DatasetError
from gkd.datasets import official
from gkd.files import write_whole
from gkd.params import load
from gkd.workspace.folders import NotThere, Workspace
from gkd.workspace.inputs import open_domain, open_labelled, open_training

WHO = {"setting": "f2l", "method": "gkd", "source": "gtav", "seed": 0}
UPSTREAM = "results/task_agnostic/tiny/f2l-gkd-0"


def space(stage: str = "domain_agnostic", member: str = "f2l-gkd-gtav-0", **options) -> Workspace:
    return Workspace(stage, member, load(), **{"train": True, "results": "results", **options})


def test_a_members_folder_is_the_stage_the_profile_and_its_name(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert space().folder == checkout / "results/domain_agnostic/tiny/f2l-gkd-gtav-0" and space().folder.is_dir()
    assert space("report", "").folder == checkout / "results/report/tiny"
    assert Workspace("report", "", load(), train=True).folder == checkout / ".scratch/results/report/tiny"
    assert space().file("history/a.csv").parent.is_dir()
    monkeypatch.setenv("RANK", "1")  # of torchrun
    assert space("report", "").folder == checkout / ".scratch/ranks/1/results/report/tiny"


def test_a_stage_in_dvcs_copy_needs_the_gkd_of_that_copy(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` with PYTHONPATH on the checkout; DVC_ROOT is the checkout in any case (dvc 3.67.1)."""
    monkeypatch.setenv("DVC_STAGE", "undistilled@f2l-none-gtav-0")
    monkeypatch.chdir(checkout)
    assert space().folder.is_dir()
    (checkout / "copy").mkdir()
    monkeypatch.chdir(checkout / "copy")
    with pytest.raises(ValueError, match=f"^this stage runs in {checkout}/copy, but gkd is that of {checkout}: unset"):
        space()
    assert Workspace("report", "", load(), train=True).folder.is_dir()  # by hand


def test_what_dvc_made_goes_before_what_was_made_by_hand_which_serves_by_hand_alone(checkout: Path) -> None:
    by_hand, made = checkout / ".scratch" / UPSTREAM, checkout / UPSTREAM
    looking = {"stage": "task_agnostic", "member": "f2l-gkd-0", "train": False}
    with pytest.raises(NotThere, match=f"^{UPSTREAM} is not there: `dvc repro` makes it, or .*`train = True`"):
        space(**looking)
    (by_hand / "history").mkdir(parents=True)
    with pytest.raises(NotThere):  # what a stage that failed leaves
        space(**looking, results=".scratch/results")
    (by_hand / "encoder.safetensors").touch()
    with pytest.raises(NotThere):
        space(**looking)
    assert (
        space(**looking, results=".scratch/results").folder
        == space(results=".scratch/results").need(UPSTREAM)
        == by_hand
    )
    made.mkdir(parents=True)
    (made / "encoder.safetensors").touch()
    assert space(**looking, results=".scratch/results").folder == space().need(UPSTREAM) == made
    with pytest.raises(NotThere, match="weights/a.pth is not there: `git checkout weights/a.pth` may bring it"):
        space().need("weights/a.pth")  # which no stage makes


def test_a_notebook_shows_what_is_not_there_in_one_line() -> None:
    code = "from gkd.workspace.folders import NotThere\nraise NotThere('results/a is not there: run it')"
    run = [
        sys.executable,
        "-c",
        f"from IPython import get_ipython, start_ipython; start_ipython(['--quick', '-c', {code!r}])",
    ]
    done = subprocess.run(run, capture_output=True, text=True)
    assert (done.stdout + done.stderr).strip() == "results/a is not there: run it"


def test_a_member_starts_from_weights_or_from_what_a_stage_left(checkout: Path) -> None:
    params = load()
    assert space().start("manifests/weights/teacher.csv", "f2l") == (params.models.teacher, None)
    assert space().start("manifests/weights/f2f.csv", "f2f") == (params.models.students["f2f"], None)
    with pytest.raises(NotThere, match=UPSTREAM):
        space().start(UPSTREAM, "f2l")
    (checkout / UPSTREAM).mkdir(parents=True)
    file = checkout / UPSTREAM / "encoder.safetensors"
    file.touch()
    assert space().start(UPSTREAM, "f2l") == (params.models.students["f2l"], file)


def test_what_is_said_of_a_model_is_handed_on_without_its_weights_and_metrics(checkout: Path) -> None:
    names = "attention.npz", "history/task_agnostic.csv", "a.txt", "encoder.safetensors", "metrics.json"
    for name in names:
        write_whole(checkout / UPSTREAM / name, name)
    space().hand_on(checkout / UPSTREAM)
    folder = space().folder
    found = {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert found == {name: name for name in names[:3]}


def test_metrics_are_sorted_and_keep_every_digit(checkout: Path) -> None:
    report = space("report", "")
    values, text = {"b": 1 / 3, "a": 2, "c": 31.2515}, '{\n  "a": 2,\n  "b": 0.3333333333333333,\n  "c": 31.2515\n}\n'
    assert report.metrics(values) == values and report.file("metrics.json").read_text() == text


def test_equal_arrays_give_equal_bytes_at_any_time(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"photo/0": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "grid": (4, 8), "query": 5}
    first = space().arrays("first.npz", values).read_bytes()
    later = time.time() + 10**6
    monkeypatch.setattr(time, "time", lambda: later)
    assert space().arrays("second.npz", values).read_bytes() == first
    with np.load(space().file("first.npz")) as read:
        assert {key: read[key].tolist() for key in read} == {k: np.asarray(v).tolist() for k, v in values.items()}
        assert read["photo/0"].dtype == np.uint8


def test_states_are_kept_for_equal_parameters_code_data_and_weights_alone(checkout: Path, monkeypatch) -> None:
    """Of what dvc.yaml names for the member: each change below is of another of its dependencies."""
    names = (
        "gkd/qsd.py",
        "gkd/methods/gkd.py",
        "results/notebooks/domain_agnostic.ipynb",
        f"{UPSTREAM}/encoder.safetensors",
    )
    files = [write_whole(checkout / name, "1") for name in (*names, "manifests/train/gtav/train.csv")]
    module = nn.Linear(2, 2)

    def key(**changes: object) -> str:
        written(checkout, changes)
        return space().resume(WHO, module).key

    first = space().resume(WHO, module)
    assert first.folder == checkout / ".scratch/resume/results/domain_agnostic/tiny/f2l-gkd-gtav-0"
    assert first.seconds == 60
    first.slot("a").save({"step": 1})
    with monkeypatch.context() as process:
        process.setenv("RANK", "1")  # another process of the run, whose results go elsewhere
        other = space().resume(WHO, module)
        other.clear()
    assert other.slot("a").load() == {"step": 1} and space().folder.is_relative_to(checkout / "results")
    others = {"machine.resume_seconds": 0.0, "task_learning.steps": 9, "models.students.f2f.name": "x", "rows": ["gkd"]}
    write_whole(checkout / "gkd/methods/mse.py", "another's")
    assert key(**others) == key() == first.key
    keys = [first.key, key(**{"distillation.mask_ratio": 0.1}), key(**{"heads.gkd.num_heads": 2})]
    for file in files:
        file.write_text("2")
        keys.append(key())
    nn.init.zeros_(module.bias)
    keys.append(key())
    assert len(set(keys)) == 9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"distillation.mask_ratio": 0.1}, True),
        ({"rows": ["gkd"]}, False),  # not of this member
        ("gkd/qsd.py", True),
        (f"{UPSTREAM}/encoder.safetensors", True),
        ("gkd/.ipynb_checkpoints/qsd-checkpoint.py", False),  # which DVC ignores
        (f"{UPSTREAM}/.DS_Store", False),
        (None, False),
    ],
)
def test_what_changed_while_a_stage_ran_ends_it_before_dvc_takes_it_for_what_it_read(
    checkout: Path, change: dict | str | None, told: bool
) -> None:
    """DVC 3.67 writes the parameters and hashes of the end into dvc.lock (`Stage.save`)."""
    for name in ("gkd/qsd.py", f"{UPSTREAM}/encoder.safetensors"):
        write_whole(checkout / name, "1")
    written(checkout, {})
    stage, by_hand = space(), space(results=".scratch/results")
    for one in (stage, by_hand):
        one.resume(WHO)
    if isinstance(change, dict):
        written(checkout, change)
    elif change is not None:
        write_whole(checkout / change, "2")
    assert by_hand.metrics({"a": 1}) == {"a": 1}  # which DVC does not see
    if not told:
        assert stage.metrics({"a": 1}) == {"a": 1}
        return
    with pytest.raises(ValueError, match="changed while this stage ran.*put the change back and run again"):
        stage.metrics({"a": 1})
    assert not stage.file("metrics.json").exists()


def test_parameters_that_changed_before_the_states_were_asked_for_are_told(checkout: Path) -> None:
    stage = space()
    written(checkout, {"distillation.mask_ratio": 0.1})
    with pytest.raises(ValueError, match="params.yaml changed since this stage began: run it again"):
        stage.resume(WHO)


def test_training_images_are_those_of_all_datasets_of_a_source(checkout: Path) -> None:
    touch(checkout / "data", "synthia")
    params = load()
    with pytest.raises(DatasetError, match=f"(?s){checkout}/data/camvid"):
        open_domain(params, official().sources["camvid"].validation)
    assert len(open_domain(params, Domain("gtav_val", "gtav", "val"))) == 1
    assert len(open_training(params, "gtav")) == 1
    names = ["gtav/images/00002.png", "synthia/RGB/0000000.png"]
    assert [sample.name for sample in open_training(params, "gtav_synthia").samples] == names
    (checkout / "data/synthia/RGB/0000000.png").unlink()
    with pytest.raises(DatasetError, match="synthia/GT/LABELS/0000000.png: expected the image of this label"):
        open_training(params, "gtav_synthia")


def test_each_dataset_of_a_joined_source_gives_its_share_of_labels(checkout: Path) -> None:
    for name in ("gtav/images/{:05}", "gtav/labels/{:05}", "synthia/RGB/{:07}", "synthia/GT/LABELS/{:07}"):
        for i in range(12):
            write_whole(checkout / "data" / f"{name.format(i)}.png", "")
    written(checkout, {"hold_out": False, "label_divisor": 4})

    def names(source: str, seed: int) -> list[str]:
        return [sample.name for sample in open_labelled(load(), source, seed).samples]

    joined, alone = names("gtav_synthia", 0), names("gtav", 0)
    assert [name.split("/")[0] for name in joined] == 3 * ["gtav"] + 3 * ["synthia"]
    assert [Path(name).name for name in joined[:3]] == [Path(name).name for name in alone]
    assert names("gtav", 1) != alone and len(open_training(load(), "gtav_synthia")) == 24
    for folder in ("RGB", "GT/LABELS"):
        for i in range(3, 12):
            (checkout / f"data/synthia/{folder}/{i:07}.png").unlink()
    with pytest.raises(ValueError, match="1/4 of 3 labelled images is none: use a smaller label_divisor"):
        names("gtav_synthia", 0)
