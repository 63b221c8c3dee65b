"""Which data the stages open: no label of a source before task learning, and no target before its evaluation."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from dataset_names import written
from layout_files import image_array, save
from small_runs import distilled
from test_method_notebook import run

from gkd.data.reading import DatasetError
from gkd.params import ROOT, load
from gkd.workspace.inputs import open_training
from gkd.workspace.manifests import write_all

Opened = Callable[[], set[str]]


@pytest.fixture
def opened(checkout: Path) -> Iterator[Opened]:
    """Says which files below data/ this process opened since it was asked last."""
    paths, listening = set[str](), [True]

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and listening:
            paths.add(str(arguments[0]))

    def since() -> set[str]:
        found = {Path(path) for path in paths if path.startswith(f"{checkout}/data/")}
        paths.clear()
        return {path.relative_to(checkout / "data").as_posix() for path in found}

    sys.addaudithook(note)  # for the life of the process
    yield since
    listening.clear()


def stage(name: str, start: str) -> None:
    cells = [cell for cell in nbformat.read(ROOT / f"notebooks/{name}.ipynb", 4).cells if cell.cell_type == "code"]
    run(cells, start=start, train=True, results="results", display=lambda *_: None)


def test_stages_open_what_they_may_see(checkout: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    monkeypatch.setattr("gkd.train.loop.fix_threads", lambda _: None)  # for the whole process
    save(checkout / "data/proxy/train/n01/a.JPEG", image_array(0, (64, 64)))
    pairs = [{f"gtav/{folder}/{number:05}.png" for folder in ("images", "labels")} for number in (1, 2)]
    for number, pair in enumerate(map(sorted, pairs)):
        save(checkout / "data" / pair[0], image_array(number, (64, 64)))
        save(checkout / "data" / pair[1], np.full((64, 64), 7, dtype=np.uint8))
    write_all(load())
    assert len(opened()) == 11  # `check` hashes whatever there is
    stage("task_agnostic", "manifests/weights/f2l.csv")
    assert opened() == {"proxy/train/n01/a.JPEG"}
    stage("domain_agnostic", "results/task_agnostic/tiny/f2l-gkd-0")
    assert opened() == {"gtav/images/00002.png"}  # the first is held out
    stage("task_learning", "results/domain_agnostic/tiny/f2l-gkd-gtav-0")
    assert opened() == set.union(*pairs)


def test_distillation_opens_no_label_of_tiles_and_check_compares_them(checkout: Path, opened: Opened) -> None:
    changes = {"sources": ["potsdam_rgb"], "targets.potsdam_rgb": ["potsdam_irrg"]}
    written(checkout, changes)
    names = [f"top_potsdam_{tile}" for tile in ("2_10_RGB", "3_11_RGB", "2_13_IRRG")]  # trained on, held out, target
    for name in names:
        save(checkout / f"data/potsdam/{name}.tif", image_array(0, (32, 40)))
        label = save(checkout / f"data/potsdam/{name.rpartition('_')[0]}_label.tif", image_array(1, (32, 40)))
    write_all(load())
    opened()
    data = open_training(load(), "potsdam_rgb").unlabelled()
    distilled(photos=data, steps=1)
    assert opened() == {f"potsdam/{names[0]}.tif"}
    save(label, image_array(1, (32, 39)))
    with pytest.raises(DatasetError, match=f"{label}: expected the size of its image .*, 40x32, found 39x32"):
        write_all(load())
