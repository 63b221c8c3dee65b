"""Teacher tokens of a fixed pool of views an image: made when a view is first seen, read from the disk later.

cache = TeacherCache(folder, section, seed, len(data), teach, teachers, device)     # says how much disk it may take
sample = (image, *cache.read(key, image))                                           # in a worker of the loader
targets, errors = cache.targets(images, *records)                                   # in the step

The first pass over the pool fills the cache, without a pass of its own: a run that stops early has paid for nothing,
and later runs with the same teacher (other methods, other heads) find what is there. What the student follows is
always what the disk would give back, rounding included, so a run does not depend on what it found.

Considered for finding a wrong cache: a key made of all that tokens follow from (code, versions, files of the data),
which throws terabytes away for a changed comment. Here the key holds the teachers by their weights and by what they say
of a fixed image, and each record the checksum of the image that it was made from: other photos, another augmentation or
another Pillow are found view by view.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gkd.data.loading import Key, place_in_pool
from gkd.params import Distillation
from gkd.qsd import Targets
from gkd.records import Records, State
from gkd.token_store import TokenStore, flat
from gkd.train.resume import fingerprint

VIEW = {"image_size", "scale", "rand_augment", "erase_probability", "repeats"}  # of a section: what a view follows from
BAD = {State.TORN: "torn", State.OTHER: "of another image"}


class TeacherCache:
    """The teacher tokens of one dataset under one transform and seed.

    Args:
        folder: of the caches of this dataset; each lies below it under its key.
        section: of the stage; its `teacher_cache` stores something.
        seed: of the augmentation.
        images: number of images of the dataset.
        teach: images (B, 3, H, W) -> what the teachers say of them.
        teachers: their weights are part of the key.
        device: where `teach` computes.

    Raises:
        OSError: the disk has too little space for what this run may write.
    """

    def __init__(
        self,
        folder: Path,
        section: Distillation,
        seed: int,
        images: int,
        teach: Callable[[Tensor], Targets],
        teachers: Sequence[nn.Module],
        device: torch.device,
    ) -> None:
        self.teach, self.images, self.repeats = teach, images, section.repeats
        pool = section.teacher_cache
        generator = torch.Generator().manual_seed(0)
        probe = teach(torch.rand(1, 3, *section.image_size, generator=generator).to(device))
        self.store = TokenStore(pool.store, probe)
        about = {
            "views": pool.views,
            "images": images,
            "seed": seed,
            "transform": section.model_dump(include=VIEW),
            "layout": self.store.layout,
            # Sees what the weights do not show: pixel statistics, number of heads, number format, versions.
            "said": hashlib.sha256(b"".join(t.float().cpu().numpy().tobytes() for t in flat(probe))).hexdigest(),
        }
        self.records = Records(folder / fingerprint(json.dumps(about, sort_keys=True), *teachers), self.store.size)
        self.records.folder.mkdir(parents=True, exist_ok=True)
        (self.records.folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")  # for people
        self.counts = dict.fromkeys(State, 0)
        self._foretell(min(images * pool.views, section.steps * section.batch_size), pool.store)

    def read(self, key: Key, image: Tensor) -> tuple[int, int, int, Tensor]:
        """What a sample (epoch, view, index) carries beside its image: slot, checksum of the image, state, record."""
        slot = place_in_pool(key, self.repeats) * self.images + key[2]
        stamp = zlib.crc32(np.ascontiguousarray(image.numpy()))
        state, record = self.records.read(slot, stamp)
        return slot, stamp, int(state), torch.from_numpy(record)

    def targets(
        self, images: Tensor, slots: Tensor, stamps: Tensor, states: Tensor, records: Tensor
    ) -> tuple[Targets, dict[str, Tensor]]:
        """What the teachers say of a batch, and the relative RMS error that storing it made (none in fp32).

        Where a record is missing the teachers are asked about the whole batch, so that they see batches of one size
        alone: a matrix product may round otherwise for another.
        """
        missing = [row for row, state in enumerate(states.tolist()) if self._count(State(state))]
        if missing:
            fresh = self.store.encode(self.teach(images))
            for row, payload in zip(missing, fresh[missing].cpu().numpy(), strict=True):
                self.records.write(int(slots[row]), int(stamps[row]), payload)
            records = torch.where((states != State.GOOD)[:, None], fresh, records)
        return self.store.decode(records)

    def summary(self) -> str:
        """What this process read and made, in words."""
        read, made = self.counts[State.GOOD], sum(self.counts.values()) - self.counts[State.GOOD]
        wrong = ", ".join(f"{self.counts[state]} {what}" for state, what in BAD.items())
        return f"teacher cache: {read} views read, {made} made ({wrong})"

    def _count(self, state: State) -> bool:
        """Notes what was found, tells of the first of a kind that should not be; returns whether it is missing."""
        if state in BAD and not self.counts[state]:
            print(f"teacher cache: a record is {BAD[state]} and is made again ({self.records.folder})", flush=True)
        self.counts[state] += 1
        return state != State.GOOD

    def _foretell(self, records: int, kind: str) -> None:
        """Print what this run may fill; raises where the disk has no room for it."""
        folder, need = self.records.folder, records * self.records.step
        there, free = self.records.on_disk(), shutil.disk_usage(folder).free
        print(
            f"teacher cache: at most {records:,} views x {self.records.step / 1e6:.3f} MB ({kind}) = "
            f"{need / 1e9:.3f} GB in {folder}; {there / 1e9:.3f} GB are there, {free / 1e9:.1f} GB are free",
            flush=True,
        )
        if need - there > free:
            raise OSError(
                f"the teacher cache needs {(need - there) / 1e9:.1f} GB more in {folder}, and {free / 1e9:.1f} GB are "
                "free: lower teacher_cache.views, choose store bf16 or int8, or link .scratch/cache to a larger disk"
            )
