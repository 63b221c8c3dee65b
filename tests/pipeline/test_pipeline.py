"""What README and docs say of DVC, in a copy of the repository with the profile tiny: `make test-pipeline`.

The tests go on from each other's state in one copy, in the order of the file, since a run costs a minute. Its suite has
few scenes: the whole is drawn and scored by tests/test_end_to_end.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from gkd.mini.suite import Sizes, write_suite
from gkd.params import ROOT

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("pipeline")]
FIRST = "gtav"
TARGETS = dict.fromkeys(("cityscapes_val", "bdd100k", "mapillary", "potsdam_val", "vaihingen_val"), 18)
SUITE = Sizes(gtav=60, cityscapes_train=12, acdc=3, potsdam_train=48, dev=3, proxy=60, **TARGETS)


class Copy:
    """A clone of the repository as it stands, with a small suite in data/ and the profile tiny."""

    def __init__(self, folder):
        self.folder = folder
        self("git", "init", "--quiet")
        listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        for name in sorted(listed):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        shutil.rmtree(folder / "results", ignore_errors=True)
        (folder / "dvc.lock").unlink(missing_ok=True)
        shutil.copy(folder / "profiles" / "tiny.yaml", folder / "params.yaml")
        write_suite(folder / "data", sizes=SUITE)
        self("dvc", "commit", "--quiet", "--force", "data.dvc")
        self.commit()

    def __call__(self, *command, code=0):
        """Run a command in the copy; returns what it printed."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        who = {f"GIT_{role}_{key}": "test@test" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        environment = {**os.environ, **who, "PATH": path}
        environment.pop("PYTHONPATH", None)  # gkd is that of the folder a stage runs in, as DVC's --temp has its own
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def commit(self):
        self("git", "add", "--all")
        self("git", "commit", "--quiet", "--allow-empty", "--message", "state")

    def ran(self, *command):
        """The members that a command runs, without their notebooks' stage."""
        return set(re.findall(r"Running stage '(?:dvc.yaml:)?([^']+)'", self(*command)))

    def put(self, *changes):
        """Mappings put into params.yaml; returns what it was."""
        file, yaml = self.folder / "params.yaml", YAML(typ="safe")
        before = file.read_text()
        content = yaml.load(before)
        for change in changes:
            content = merged(content, change)
        with file.open("w") as stream:
            yaml.dump(content, stream)
        return before

    def experiment(self, *changes):
        """What `dvc exp run -S ...` runs; its state stays in the workspace and becomes the next one's start."""
        found = self.ran("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)))
        self.commit()
        return found

    def metrics(self):
        return json.loads((self.folder / "results/report/tiny/metrics.json").read_text())


def _git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout


def chain(method, source=FIRST, seed=0, *, stage="task_learning"):
    """What follows for a row from its task learning on."""
    return {f"{stage}@f2l-{method}-{source}-{seed}", f"evaluate@f2l-{method}-{source}-{seed}"}


def distilled(method="gkd", source=FIRST, seed=0):
    return {f"domain_agnostic@f2l-{method}-{source}-{seed}"} | chain(method, source, seed)


def plain(source=FIRST, seed=0):
    """The members of the rows teacher and none."""
    teacher = {f"teacher@{source}-{seed}", f"evaluate_teacher@{source}-{seed}"}
    return teacher | chain("none", source, seed, stage="undistilled")


def every():
    """All members of tiny, for its source and seed."""
    return plain() | distilled() | chain("kd", stage="guided")


ALWAYS = {"check", "report"}


def alone(**group):
    """The lists with one row: `alone(distilled="cwd")`."""
    ((name, method),) = group.items()
    return {"distilled": [], "guided": [], "undistilled": [], name: [method], "rows": [method], "headline": method}


def merged(content, more):
    for key, value in more.items():
        nested = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = merged(content[key], value) if nested else value
    return content


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("pipeline"))


def test_repro_runs_everything_once(copy):
    first = copy.ran("dvc", "repro")
    assert first == ALWAYS | {"notebooks", "task_agnostic@f2l-gkd-0"} | every()
    assert "up to date" in copy("dvc", "repro")
    assert {"f2l/Teacher", "f2l/No KD", "f2l/Vanilla KD", "f2l/GKD"} <= set(copy.metrics())
    copy.commit()


def test_a_saved_notebook_reruns_nothing_else(copy):
    file = copy.folder / "notebooks" / "evaluate.ipynb"
    content = json.loads(file.read_text())
    content["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    content["metadata"]["kernelspec"]["display_name"] = "mine"
    file.write_text(json.dumps(content))
    assert copy.ran("dvc", "repro") == {"notebooks"}
    copy("git", "checkout", "notebooks")


def test_the_report_needs_results_alone(copy):
    for name in ("data", "manifests"):
        (copy.folder / name).rename(copy.folder / f"{name}.away")
    assert copy.ran("dvc", "repro", "--single-item", "--force", "report") == {"report"}
    for name in ("data", "manifests"):
        (copy.folder / f"{name}.away").rename(copy.folder / name)


def test_steps_of_the_first_stage_and_none_of_the_second(copy):
    assert (
        copy.experiment("task_agnostic.steps=7", "domain_agnostic.steps=0")
        == ALWAYS | {"task_agnostic@f2l-gkd-0"} | distilled()
    )
    assert "task_agnostic.steps" in copy("dvc", "params", "diff", "HEAD~1")


def test_a_seed_or_a_source_more_and_less(copy):
    tiny = copy.put(alone(undistilled="none"))
    assert copy.experiment("seeds=[0,1]") == ALWAYS | plain(seed=1)
    assert copy.experiment("seeds=[0]") <= ALWAYS  # from the run cache, where nothing of the other seed is read
    assert copy.experiment("sources=[gtav,potsdam_rgb]") == ALWAYS | plain("potsdam_rgb")
    assert copy.experiment("sources=[gtav]") <= ALWAYS
    (copy.folder / "params.yaml").write_text(tiny)


def test_a_row_that_learns_longer_runs_alone(copy):
    tiny = copy.put(alone(undistilled="none"))
    lists = ("rows=[none,none_long]", "undistilled=[none,none_long]")
    new = ALWAYS | chain("none_long", stage="undistilled")
    copy("dvc", "repro")
    assert copy.experiment(*lists, "+heads.none_long={task_steps: 9}") == new
    assert copy.experiment("heads.none_long.task_steps=11") == new
    history = copy.folder / f"results/task_learning/tiny/f2l-none_long-{FIRST}-0/history/task_learning.csv"
    assert len(history.read_text().splitlines()) == 1 + 11
    (copy.folder / "params.yaml").write_text(tiny)


def test_a_small_rate_and_a_width(copy):
    found = copy.experiment("task_agnostic.min_lr=1.0e-6", "models.decoder_width=32")
    assert found == ALWAYS | {"task_agnostic@f2l-gkd-0"} | every()


def test_experiments_of_the_queue_and_aside(copy):
    for change in ("task_agnostic.steps=5", "evaluate.pictures=2"):
        copy("dvc", "exp", "run", "--queue", "-S", change)
    copy("dvc", "exp", "run", "--run-all")
    assert copy("dvc", "queue", "status").count("Success") == 2
    assert len(copy("dvc", "exp", "show", "--csv", "--only-changed").splitlines()[0].split(",")) < 20
    copy("dvc", "exp", "run", "--temp", "-S", "rows=[gkd]", "-S", "undistilled=[]", "-S", "guided=[]")
    table = json.loads(copy("dvc", "exp", "show", "--json"))
    assert sum(len(rev["experiments"] or []) for rev in table) >= 3


def blocks(language):
    """The examples of docs/adding.md."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/adding.md").read_text(), re.S)


def write_pairs(data):
    """Scenes of gtav as the dataset that the page declares, and as the one that it writes a layout for."""
    for number, file in enumerate(sorted((data / "gtav/images").glob("*.png"))[:24]):
        photo = Image.open(file).convert("RGB")
        label = np.minimum(np.array(Image.open(data / "gtav/labels" / file.name)), 3)
        split = ("train", "val", "night")[number % 3]
        for folder, image in {
            f"harbour/images/{split}/{number}.jpg": photo,
            f"harbour/labels/{split}/{number}.png": Image.fromarray(label),
            f"kitti/training/image_2/{number}.png": photo,
            f"kitti/training/semantic/{number}.png": Image.open(data / "gtav/labels" / file.name),
        }.items():
            (data / folder).parent.mkdir(parents=True, exist_ok=True)
            image.save(data / folder)


def test_what_is_added_runs_alone(copy):
    """A method, a layout, a target, then a declared dataset as source and an encoder, as docs/adding.md has them."""
    (method, layout), (own_table,) = blocks("python"), blocks("csv")
    more, dataset, target, encoder = (YAML(typ="safe").load(text) for text in blocks("yaml"))
    (copy.folder / "gkd/methods/cwd.py").write_text(method)
    (copy.folder / "gkd/datasets/kitti.py").write_text(layout)
    (copy.folder / "tables/harbour.csv").write_text(own_table)
    write_pairs(copy.folder / "data")
    before = copy.put(more, target)
    rows = {f"evaluate@f2l-{method}-gtav-0" for method in ("none", "kd", "gkd")}
    new = {"task_agnostic@f2l-cwd-0"} | distilled("cwd")
    assert copy.ran("dvc", "repro") == ALWAYS | new | rows | {"evaluate_teacher@gtav-0"}  # each on the new target
    students = [{"models": {"students": {"f2f": one}}} for one in (None, encoder["models"]["students"]["f2l"])]
    copy.put(*students, dataset, {**alone(distilled="cwd"), "settings": ["f2f"], "sources": ["harbour"]})
    new = {f"{stage}@f2f-cwd-harbour-0" for stage in ("domain_agnostic", "task_learning", "evaluate")}
    new |= {"task_agnostic@f2f-cwd-0", "teacher@harbour-0", "evaluate_teacher@harbour-0"}
    assert copy.ran("dvc", "repro") == ALWAYS | new
    assert set(copy("git", "status", "--short", "--untracked-files=all", "gkd", "params.yaml").split()) == {
        "M", "??", "gkd/datasets/kitti.py", "gkd/methods/cwd.py", "params.yaml"
    }  # fmt: skip
    (copy.folder / "params.yaml").write_text(before)


def test_another_profile_and_back_trains_nothing(copy):
    tiny = copy.put({"profile": "other", **alone(undistilled="none")})
    assert copy.ran("dvc", "repro") == ALWAYS | plain()
    (copy.folder / "params.yaml").write_text(tiny)
    assert copy.ran("dvc", "repro") <= ALWAYS


def test_a_folder_of_ones_own_under_data_survives(copy):
    own = copy.folder / "data" / "mine" / "photo.txt"
    own.parent.mkdir()
    own.write_text("x")
    copy("python", "-m", "gkd", "repro", "--jobs", "2")
    assert own.read_text() == "x"
