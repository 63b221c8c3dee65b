"""Peak memory of evaluating one 20-megapixel photo: bands of rows against scores held whole.

Every figure is the peak of a process of its own, above what it held with the model loaded. `--check` exits with 1 where
the bands take 2 GB or more.
"""

import argparse
import sys
from collections.abc import Iterable

from table import alone, arguments, finish, peak_memory, show

WIDTH, HEIGHT, CLASSES, LIMIT = 5000, 4000, 19, 2.0
SIZES = {"protocol (1024x512)": (1024, 512), "native (5000x4000)": None}
WAYS = ("bands", "whole")


def peak(size: str, way: str, encoder_name: str) -> float:
    """GB above the loaded model; runs in a process of its own, since a peak never falls."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    from gkd.models import Encoder
    from gkd.segmentation import windows as inference
    from gkd.segmentation.decoders import ConvDecoder, Segmentor

    torch.manual_seed(0)
    torch.set_num_threads(2)
    encoder = Encoder.create(encoder_name, img_size=512, dynamic_img_size=True)
    model = Segmentor(encoder, ConvDecoder(encoder.dim, CLASSES, 128), frozen=True).eval()
    if way == "whole":

        def whole(bands: Iterable[torch.Tensor], shape: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
            scores = torch.cat(list(bands), dim=1)
            return F.interpolate(scores[None], target, mode="bilinear", align_corners=False)[0].argmax(dim=0)

        inference.argmax_of_bands = whole
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    how = inference.Inference(512, 341, bound=SIZES[size], multiple=16, batch_size=2)
    before = peak_memory()
    inference.predict(model, photo, (HEIGHT, WIDTH), how)
    return (peak_memory() - before) / 1e9


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=float, default=LIMIT, help="GB that --check allows")
    parser.add_argument("--encoder", default="vit_small_patch16_224", help="a ViT of timm")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(peak(*options.one, options.encoder))
        return 0
    print(f"{WIDTH}x{HEIGHT} photo, {CLASSES} classes, {options.encoder}: peak GB above the loaded model")
    table: dict[str, float | None] = {}

    def rows() -> Iterable[list[str]]:
        for size in SIZES:
            found = [table.setdefault(f"{size}, {way}", alone(__file__, "--one", size, way)) for way in WAYS]
            yield [size, *("failed" if value is None else f"{value:.2f}" for value in found)]

    show(["evaluated at", *WAYS], rows())
    bands = {name: value for name, value in table.items() if name.endswith("bands")}
    over = [f"{name}: {value} GB" for name, value in bands.items() if value is None or value >= options.limit]
    return finish(options, table, over)


if __name__ == "__main__":
    sys.exit(main())
