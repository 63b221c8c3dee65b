"""Where QSD attends: a small app to click through the maps of `gkd.qsd.attention_maps`.

AttentionExplorer({"street": image}, student, teacher, objective)
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from gkd.models import Encoder
from gkd.qsd import Objective, attention_maps
from gkd.report import figures as viz


class AttentionExplorer(widgets.VBox):
    """Choose an image and a patch, see `viz.attention_figure` for it.

    Args:
        images: title to image (3, H, W), un-normalised floats of sizes that both encoders take.
        student, teacher, objective: as for `attention_maps`, which runs once per chosen image.

    The patch grid is the teacher's. `image`, `row` and `column` are the widgets that choose; `picture` shows
    the PNG, which stays visible in a notebook saved with its widget state.
    """

    def __init__(self, images: Mapping[str, Tensor], student: Encoder, teacher: Encoder, objective: Objective) -> None:
        if not images:
            raise ValueError("the explorer needs one image or more")
        self._images = images
        self._models = student, teacher, objective
        self.image = widgets.Dropdown(options=list(images), description="image")
        self.row = widgets.IntSlider(description="row", max=0)
        self.column = widgets.IntSlider(description="column", max=0)
        self.picture = widgets.Image(format="png")
        self._load()
        self.row.value, self.column.value = self._grid[0] // 2, self._grid[1] // 2
        self._draw()
        self.image.observe(self._on_image, names="value")
        self.row.observe(self._on_patch, names="value")
        self.column.observe(self._on_patch, names="value")
        super().__init__([self.image, widgets.HBox([self.row, self.column]), self.picture])

    def _on_image(self, _change: dict) -> None:
        self._load()
        self._draw()

    def _on_patch(self, _change: dict) -> None:
        self._draw()

    def _load(self) -> None:
        """Maps and grid of the chosen image; sliders that lie outside its grid move to the edge."""
        image = self._images[self.image.value]
        maps = attention_maps(*self._models, image)
        self._grid, self._maps = self._models[1].grid(image.shape[-2:]), maps
        with self.hold_trait_notifications():
            self.row.max, self.column.max = self._grid[0] - 1, self._grid[1] - 1

    def _draw(self) -> None:
        query = self.row.value * self._grid[1] + self.column.value
        figure = viz.attention_figure(self._images[self.image.value].cpu(), query, self._grid, self._maps)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        self.picture.value = buffer.getvalue()


def crops(domains: Mapping[str, Any], size: Sequence[int]) -> dict[str, Tensor]:
    """The middle of the first image of each dataset, cut to `size` = (rows, columns): {name: (3, rows, columns)}."""
    images = {}
    for name, data in domains.items():
        photo = torch.from_numpy(data[0][0]).permute(2, 0, 1).float() / 255  # (3, H, W)
        images[name] = center_crop(photo, list(size))
    return images
