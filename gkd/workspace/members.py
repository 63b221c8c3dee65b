"""Members of the pipeline: their names, what they start from, and what dvc.yaml says that they depend on."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from gkd.methods import TEACHER
from gkd.params import GROUPS, ROOT, Params


def member(*parts: object) -> str:
    """Name of a member: its fields joined by dashes, such as f2l-gkd_diag-gtav-0."""
    return "-".join(str(part) for part in parts)


def trained(params: Params, setting: str, method: str, source: str, seed: int) -> str:
    """Folder, relative to the root, of a trained segmentor. The teacher's is the same in all settings."""
    if method == TEACHER:
        return f"results/teacher/{params.profile}/{member(source, seed)}"
    return f"results/task_learning/{params.profile}/{member(setting, method, source, seed)}"


def evaluated(setting: str, method: str, source: str, seed: int) -> str:
    """The member of the evaluation of a segmentor. The teacher's scores are those of all settings."""
    return member(TEACHER, source, seed) if method == TEACHER else member(setting, method, source, seed)


def start_of(params: Params, setting: str, method: str, source: str, seed: int) -> str:
    """What task learning starts from: the folder of a distilled encoder, or a list of weights."""
    if method in params.distilled:
        return f"results/domain_agnostic/{params.profile}/{member(setting, method, source, seed)}"
    return f"manifests/weights/{'teacher' if method == TEACHER else setting}.csv"


def stage_of(params: Params, notebook: str, method: str) -> str:
    """The stage of dvc.yaml that runs a notebook for a method: task_learning and evaluate serve several."""
    if method == TEACHER:
        return {"task_learning": "teacher", "evaluate": "evaluate_teacher"}.get(notebook, notebook)
    group = next((group for group in GROUPS if method in getattr(params, group)), "distilled")
    return group if notebook == "task_learning" and group != "distilled" else notebook


def dependencies(params: Params, stage: str, item: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """Parameters by key, and files and folders, on which a member depends by dvc.yaml."""
    content = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
    written = YAML(typ="safe").load(ROOT / "params.yaml")
    names = {f"item.{key}": str(value) for key, value in item.items()}
    names |= {"profile": params.profile, "key": member(*(item[key] for key in content.get("matrix", ())))}

    def filled(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda found: names[found[1]], text)

    values = {}
    for key in map(filled, content["params"]):
        values[key] = written
        for part in key.split("."):
            values[key] = (values[key] or {}).get(part)
    return values, [ROOT / filled(path) for path in content["deps"]]
