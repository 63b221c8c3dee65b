"""The package as a whole: imports run one way, without cycles and without effects, and files are short."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from gkd.params import ROOT

# In the order of reading from below: a room imports from itself and from those before it. `mini` stands apart: it
# draws the suite, and only its own command and pretraining know it.
ROOMS = "files values params data datasets models weights train qsd methods distillation segmentation workspace"
ROOMS = (*ROOMS.split(), "report", "doctor", "deploy", "cli", "__main__", "mini")
LEVEL = {room: level for level, room in enumerate(ROOMS)}
# What planning, drawing and the command line need before any work starts.
LIGHT = (
    "params data.labels datasets mini.suite data.domains methods workspace.members workspace.folders workspace.check "
)
LIGHT += "workspace.manifests workspace.inputs workspace.notebooks workspace.jobs doctor report.tables report.summary "
LIGHT += "report.published report.build report.statistics cli"


def module_name(file: Path) -> str:
    """The dotted name of a file of the package."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted((ROOT / "gkd").rglob("*.py"))}


def imported(code: str) -> set[str]:
    """Modules of gkd that code imports, at any depth. `from gkd.a import b` means gkd.a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"imports are absolute here: {ast.unparse(node)}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in names}
    return found & set(FILES)


IMPORTS = {name: imported(file.read_text()) for name, file in FILES.items()}


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def room(module: str) -> str:
    """The part of the house that a module belongs to: gkd.mini.styles -> mini."""
    return module.split(".")[1]


def test_every_room_has_its_place_and_arrows_run_one_way() -> None:
    assert {room(name) for name in FILES if name != "gkd"} == set(ROOMS)
    pairs = [(module, other) for module in FILES for other in IMPORTS[module] if "gkd" not in (module, other)]
    wrong = [f"{module} imports {other}" for module, other in pairs if LEVEL[room(other)] > LEVEL[room(module)]]
    assert not wrong, f"rooms come in this order: {' < '.join(ROOMS)}"


def test_no_import_cycles() -> None:
    left = {name: set(others) for name, others in IMPORTS.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"modules that import each other in a circle, or lead to one: {sorted(left)}"


def test_light_modules_do_without_torch(tmp_path: Path) -> None:
    names = ", ".join(f"gkd.{name}" for name in LIGHT.split())
    done = python(f"import sys, {names}; print(sorted({{'torch', 'timm'}} & set(sys.modules)))", tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    modules = [name for name in FILES if not name.endswith("__main__")]
    code = f"""
import importlib, json, os, random, sys
import matplotlib, numpy, torch
state = lambda: (os.getcwd(), random.getstate(), numpy.random.get_state()[1].tolist(), torch.initial_seed(),
                 torch.get_num_threads(), torch.get_default_dtype(), matplotlib.rcParams.copy())
before = state()
for name in {modules}:
    importlib.import_module(name)
print(json.dumps(before == state()))
"""
    done = python(code, tmp_path)
    assert (json.loads(done.stdout), done.stderr) == (True, "")
    assert not list(tmp_path.iterdir())


def test_exit_searches_no_modules_for_garbage(tmp_path: Path) -> None:
    """It takes seconds after torch was imported; what is registered first runs last."""
    done = python(
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); import gkd.workspace",
        tmp_path,
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")
