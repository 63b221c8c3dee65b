"""The scripts' common options: what was measured is kept, and a missed figure is an error where it is asked for."""

import importlib
import json
from pathlib import Path

import pytest
from table import arguments, finish, show

from gkd.params import ROOT

SCRIPTS = sorted(file.stem for file in (ROOT / "perf").glob("*.py") if "def main(" in file.read_text())


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--check"], 1)])
def test_results_are_written_and_missed_figures_named(words, code, tmp_path: Path, capsys) -> None:
    options = arguments("What it does.\n\nMore.").parse_args(["--json", str(tmp_path / "a" / "found.json"), *words])
    show(["what", "s"], [["step", 1.5]])
    assert finish(options, {"step": 1.5}, ["step: too slow"]) == code
    assert json.loads((tmp_path / "a" / "found.json").read_text()) == {"step": 1.5}
    out, err = capsys.readouterr()
    assert out == "| what | s |\n| --- | --- |\n| step | 1.5 |\n"
    assert err == ("missed: step: too slow\n" if code else "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_both_options(script: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(script).main()
    assert {"--json", "--check"} <= set(capsys.readouterr().out.split())
