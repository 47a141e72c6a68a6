"""Pictures for inputs, from integer arithmetic only."""

from __future__ import annotations

import numpy as np
from PIL import Image


def colours(width: int, height: int) -> Image.Image:
    """Two gradients, a fine checkerboard and a disk with a hard edge: something for every frequency."""
    y, x = np.mgrid[0:height, 0:width]
    red = x * 255 // max(width - 1, 1)
    green = y * 255 // max(height - 1, 1)
    blue = (x // 3 + y // 2) % 2 * 180 + 30
    inside = (2 * x - width) ** 2 + (2 * y - height) ** 2 < (min(width, height) * 3 // 4) ** 2
    pixels = np.stack([np.where(inside, 250 - red, red), green, np.where(inside, 255, blue)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8), "RGB")


def soft_disk(width: int, height: int) -> Image.Image:
    """A grey-scale mask: white in the middle, falling to black through every grey."""
    y, x = np.mgrid[0:height, 0:width]
    distance = (2 * x - width) ** 2 + (2 * y - height) ** 2
    levels = 340 - distance * 300 // (min(width, height) ** 2)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8), "L")
