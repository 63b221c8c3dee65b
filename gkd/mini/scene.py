"""What every drawing function needs, in one tuple."""

import random
from typing import NamedTuple

from gkd.mini.camera import Camera
from gkd.mini.canvas import Canvas
from gkd.mini.style import Style


class Scene(NamedTuple):
    """A street scene in the making."""

    canvas: Canvas
    camera: Camera
    dice: random.Random  # decides about variants; ten times faster than numpy's generator for single numbers
    style: Style
