"""One ZImageTransformerBlock with and one without modulation, with weights of the tiny models."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ZImageTransformer2DModel

import models
from golden import normal, write_tensors

SEED = 12
TOKENS = 37


def build(out: Path) -> None:
    for name in models.SEEDS:
        transformer = models.load(out, name).transformer
        folder = out / "block" / name
        write_tensors(folder / "modulated.safetensors", run(transformer, "layers.0"), SEED, block="layers.0")
        write_tensors(
            folder / "plain.safetensors", run(transformer, "context_refiner.0"), SEED, block="context_refiner.0"
        )


def run(transformer: ZImageTransformer2DModel, name: str) -> dict[str, torch.Tensor]:
    dim = transformer.config.dim
    block = transformer.get_submodule(name)
    x = normal(f"{name}.x", SEED, (1, TOKENS, dim))
    position_ids = positions()
    freqs = transformer.rope_embedder(position_ids)
    tensors = {"x": x, "position_ids": position_ids, "cos": freqs.real, "sin": freqs.imag}
    arguments = {}
    if block.modulation:
        arguments["adaln_input"] = tensors["adaln_input"] = normal(f"{name}.adaln", SEED, (1, min(dim, 256)))
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        block.get_submodule(part).register_forward_hook(lambda _m, _i, result, key=key: kept.update({key: result}))
        for part, key in (("attention_norm1", "normed"), ("attention", "attention"), ("feed_forward", "feed_forward"))
    ]
    output = block(x, None, freqs.unsqueeze(0), **arguments)
    for hook in hooks:
        hook.remove()
    return {**tensors, **kept, "output": output}


def positions() -> torch.Tensor:
    """All kinds: image tokens of a 5 x 5 grid, two image pads, ten caption tokens."""
    grid = [(33, row, column) for row in range(5) for column in range(5)]
    return torch.tensor(grid + [(0, 0, 0)] * 2 + [(1 + i, 0, 0) for i in range(10)], dtype=torch.int32)
