"""Files of tensors: safetensors written and read whole, .pth and .pt read without running what they hold, digests."""

import argparse
import errno
import hashlib
import pickle
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gkd.files import write_whole

# Where the weights lie in a file that holds more, best first: the paper's authors store an unused `model_ema` as well,
# and timm takes the average that its training script stores.
WRAPPERS = ("model", "state_dict_ema", "state_dict", "model_state_dict", "teacher", "module", "model_ema")


class CheckpointError(ValueError):
    """A checkpoint that is absent, torn, unsafe, damaged, or of another model."""


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, whatever their order: 1.3 GB a second on one core."""
    found = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values."""
    # A sum passes either on and is quick; one that is not finite may only have grown too large, so a look decides.
    suspects = (key for key, value in state.items() if not value.float().sum().isfinite())
    return [key for key in suspects if not state[key].isfinite().all()]


def some(keys: Sequence[str], count: int = 3) -> str:
    """The first `count` of `keys` in words, and how many there are beyond."""
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: str) -> Path:
    """Write a safetensors file whole, with `text` as its metadata; equal content gives equal bytes."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        # One metadata key: safetensors writes several in random order.
        return write_whole(path, lambda aside: save_file(plain, aside, metadata={"gkd": text}))
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise
        size = sum(value.numel() * value.element_size() for value in plain.values()) / 1e6
        raise CheckpointError(
            f"no disk space to write {path} ({size:.0f} MB). Free some and repeat the stage; what earlier stages wrote "
            "is untouched"
        ) from error


def read_tensors(path: Path, parts: Iterable[str] | None = None) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a safetensors file, of `parts` those below these names alone, and what `write_tensors` wrote there."""
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is missing: run the stage that writes it (`dvc repro`)")
    try:
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if parts is None or key.split(".")[0] in parts]  # noqa: SIM118
            return {key: file.get_tensor(key) for key in keys}, (file.metadata() or {}).get("gkd")
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); delete it, and run what "
            "wrote it or fetch it again (of a file of git-lfs: git lfs pull)"
        ) from error


def read_pickle(path: Path) -> Any:
    """Content of a .pth or .pt file: tensors, plain values and argparse.Namespace; nothing that could run code.

    Raises CheckpointError where the file is absent or torn, or its pickle asks for other objects.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is missing")

    def torn(why: str) -> CheckpointError:
        return CheckpointError(f"{path} is not a whole file of torch.save ({why}); fetch or write it again")

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if (name := re.search(r"GLOBAL ([\w.]+)", str(error))) is None:
            raise torn("it cannot be read as one") from error
        held = name[1].rstrip(".")
        package = held.partition(".")[0]
        needs = "" if package in sys.stdlib_module_names else f" and {package} is installed"
        raise CheckpointError(
            f"{path} was refused: besides weights it holds {held}, and a pickle with objects can run "
            "code as soon as it is read. Get a file with weights alone; or, if you trust its maker, write one where "
            f"such code may run{needs}:\n"
            f"  python -c \"import torch; c = torch.load('{path.name}', map_location='cpu', weights_only=False); "
            "c = c if isinstance(c, dict) else {'model': c}; "
            "torch.save({k: v.state_dict() if hasattr(v, 'state_dict') else v for k, v in c.items() "
            f"if k in {WRAPPERS}}}, 'weights_only.pth')\""
        ) from error
    except PermissionError:
        raise
    except (RuntimeError, EOFError, OSError) as error:
        # Seeking beyond the end of a torn zip is an OSError without any more to say.
        raise torn(str(error).split(". ")[0] if isinstance(error, RuntimeError) else "it ends early") from error
