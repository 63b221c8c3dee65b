"""Where QSD attends: a small app to click through the maps of `gkd.qsd.attention_maps`."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from gkd.models import Encoder
from gkd.qsd import Objective, attention_maps
from gkd.report.figures import attention_figure


class AttentionExplorer(widgets.VBox):
    """Choose an image and a patch of the teacher's grid by `image`, `row` and `column`; `picture` shows the maps there.

    `images` maps titles to (3, H, W), un-normalised floats of sizes that both encoders take; the maps of one are
    computed when it is chosen. The picture is a PNG, which stays visible in a notebook saved with its widget state.
    """

    def __init__(self, images: Mapping[str, Tensor], student: Encoder, teacher: Encoder, objective: Objective) -> None:
        if not images:
            raise ValueError("the explorer needs one image or more")
        self._images, self._teacher = images, teacher
        self._maps = lru_cache(maxsize=1)(lambda name: attention_maps(student, teacher, objective, images[name]))
        rows, columns = teacher.grid(next(iter(images.values())).shape[-2:])
        self.image = widgets.Dropdown(options=list(images), description="image")
        self.row = widgets.IntSlider(rows // 2, max=rows - 1, description="row")
        self.column = widgets.IntSlider(columns // 2, max=columns - 1, description="column")
        self.picture = widgets.Image(format="png")
        self._draw()
        for chooser in (self.image, self.row, self.column):
            chooser.observe(self._draw, names="value")
        super().__init__([self.image, widgets.HBox([self.row, self.column]), self.picture])

    def _draw(self, _change: object = None) -> None:
        image = self._images[self.image.value]
        rows, columns = grid = self._teacher.grid(image.shape[-2:])
        self.row.max, self.column.max = rows - 1, columns - 1  # moves what lies outside the grid to its edge
        query = self.row.value * columns + self.column.value
        figure, buffer = attention_figure(image.cpu(), query, grid, self._maps(self.image.value)), BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        self.picture.value = buffer.getvalue()


def crops(domains: Mapping[str, Any], size: Sequence[int]) -> dict[str, Tensor]:
    """The middle of the first image of each dataset, cut to `size` = (rows, columns): {name: (3, rows, columns)}."""
    photos = {name: torch.from_numpy(data[0][0]).permute(2, 0, 1) for name, data in domains.items()}
    return {name: center_crop(photo.float() / 255, list(size)) for name, photo in photos.items()}
