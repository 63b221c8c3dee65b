"""Files that matter: written whole or not at all, and their hash.

write_whole(path, "text")
write_whole(path, lambda aside: save_file(tensors, aside))     # for libraries that write to a path
"""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> Path:
    """Write `content` aside, bring it to the disk and put it in the place of `path`; folders are made.

    `content` is text (UTF-8, line ends as they are), bytes, or a function that writes to the path that it is given. A
    kill or a full disk at any moment leaves the old file or the new one. The mode follows the umask, whatever a library
    sets (safetensors 0.8 writes 0600). Raises OSError where it cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0o077)  # the system tells it by setting another one
        os.umask(mask)
        aside.chmod(0o666 & ~mask)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
