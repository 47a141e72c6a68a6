"""What diffusers' image processors do with pictures and masks before the VAE sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import ZImageInpaintPipeline
from PIL import Image

import models
import picture
from golden import write_tensors

# name -> input width, height, output width, height; None: the processor's own choice, multiples of 16 rounded down.
RESIZES = {
    "down": ((70, 50), (48, 32)),
    "down_far": ((97, 61), (16, 16)),
    "up": ((21, 13), (48, 32)),
    "up_and_down": ((24, 80), (64, 32)),
    "width_only": ((50, 32), (32, 32)),
    "rounded_down": ((60, 47), (None, None)),
    "same": ((32, 16), (32, 16)),
}
MASKS = {
    "same": ("L", (64, 48), (64, 48)),
    "down": ("L", (90, 70), (64, 48)),
    "up": ("L", (20, 24), (64, 48)),
    "colour": ("RGB", (80, 64), (64, 48)),
}


def build(out: Path) -> None:
    pipeline = models.load(out, "tiny-a", ZImageInpaintPipeline)
    tensors: dict[str, torch.Tensor] = {}
    for name, (size, target) in RESIZES.items():
        tensors |= {f"{name}.{key}": value for key, value in resize(pipeline, size, *target).items()}
    write_tensors(out / "image" / "resize.safetensors", tensors, seed=None)
    tensors = {}
    for name, (mode, size, target) in MASKS.items():
        tensors |= {f"{name}.{key}": value for key, value in mask(pipeline, mode, size, *target).items()}
    write_tensors(out / "image" / "mask.safetensors", tensors, seed=None)
    write_tensors(out / "image" / "to_u8.safetensors", to_u8(pipeline), seed=None)


def bytes_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def resize(pipeline, size: tuple[int, int], width: int | None, height: int | None) -> dict[str, torch.Tensor]:
    image = picture.colours(*size)
    prepared = pipeline.image_processor.preprocess(image, height=height, width=width)
    rows, columns = prepared.shape[-2:]
    resized = pipeline.image_processor.resize(image, rows, columns)
    tensors = {"input": bytes_of(image), "resized": bytes_of(resized)}
    # The floats follow from the bytes; one case shows how.
    return {**tensors, "prepared": prepared} if size == (32, 16) else tensors


def mask(pipeline, mode: str, size: tuple[int, int], width: int, height: int) -> dict[str, torch.Tensor]:
    image = picture.soft_disk(*size) if mode == "L" else picture.colours(*size)
    pixels = pipeline.mask_processor.preprocess(image, height=height, width=width)
    blank = torch.zeros(1, 3, height, width)
    latent, _ = pipeline.prepare_mask_latents(
        pixels, blank, 1, height, width, torch.float32, "cpu", torch.Generator("cpu").manual_seed(0)
    )
    return {"input": bytes_of(image), "pixels": pixels.to(torch.uint8), "latent": latent.to(torch.uint8)}


def to_u8(pipeline) -> dict[str, torch.Tensor]:
    """Decoder output to bytes, with values on and around the ties between two bytes."""
    ties = (torch.arange(256, dtype=torch.float32) + 0.5) / 255 * 2 - 1
    values = torch.cat([ties, torch.nextafter(ties, torch.tensor(2.0)), torch.nextafter(ties, torch.tensor(-2.0))])
    values = torch.cat([values, torch.tensor([-5.0, -1.0, 0.0, 1.0, 5.0, 0.00392156885936856])])
    decoded = values.repeat_interleave(3).reshape(1, 1, -1, 3).permute(0, 3, 1, 2)
    shown = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    return {"values": values, "bytes": bytes_of(shown)[0, :, 0]}
