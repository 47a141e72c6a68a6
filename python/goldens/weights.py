"""Random weights under which every parameter matters.

The classes' own initial values hide mistakes: norms of exactly 1, biases and pad tokens of exactly 0. So every
parameter is set here, each from a stream of its own name, with a scale that keeps activations near 1.
"""

from __future__ import annotations

import math

import torch

from golden import normal


def fill(module: torch.nn.Module, seed: int) -> None:
    """Sets all parameters of `module`; `seed` selects the set."""
    for name, parameter in module.named_parameters():
        parameter.data.copy_(value(name, seed, tuple(parameter.shape)))


def value(name: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    noise = normal(name, seed, shape)
    if is_norm(name, shape):
        return 1.0 + 0.2 * noise.clamp(-2.0, 2.0)
    if name.endswith("pad_token"):
        return 0.7 * noise
    if name.endswith("embed_tokens.weight"):
        return noise
    if name.endswith("bias"):
        return (0.5 if "adaLN" in name else 0.1) * noise
    fan_in = math.prod(shape[1:])
    return noise * (gain(name) / math.sqrt(fan_in))


def is_norm(name: str, shape: tuple[int, ...]) -> bool:
    if len(shape) != 1 or not name.endswith("weight"):
        return False
    return "norm" in name or name == "cap_embedder.0.weight"


def gain(name: str) -> float:
    if "adaLN" in name:
        return 0.7
    if name == "decoder.conv_out.weight":
        return 0.5  # most pixels inside -1..1, some outside, so that clamping is exercised
    return 1.0
