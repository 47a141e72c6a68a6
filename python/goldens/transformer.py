"""ZImageTransformer2DModel: caption lengths around the padding multiple, pads and no pads, several times."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ZImageTransformer2DModel

import models
from golden import normal, write_json, write_tensors

SEED = 13

# name -> caption tokens, latent height, latent width, t
CASES = {
    "caption5-10x14": (5, 10, 14, 0.3),
    "caption31-10x14": (31, 10, 14, 0.3),
    "caption32-10x14": (32, 10, 14, 0.3),
    "caption33-10x14": (33, 10, 14, 0.3),
    "caption33-8x16": (33, 8, 16, 0.7),
    "caption5-8x16-t0": (5, 8, 16, 0.0),
    "caption5-14x10-t1": (5, 14, 10, 1.0),
    "caption64-2x2": (64, 2, 2, 0.7),
}
TRACED = "caption33-10x14"


def build(out: Path) -> None:
    for name in models.SEEDS:
        transformer = models.load(out, name).transformer
        folder = out / "transformer" / name
        for case in CASES:
            write_tensors(folder / f"{case}.safetensors", run(transformer, case), SEED)
        write_tensors(folder / "trace.safetensors", trace(transformer), SEED, case=TRACED)
    listed = [
        {"name": case, "caption_tokens": n, "height": h, "width": w, "t": t} for case, (n, h, w, t) in CASES.items()
    ]
    write_json(out / "transformer" / "cases.json", {"cases": listed, "traced": TRACED}, SEED)


def inputs(transformer: ZImageTransformer2DModel, case: str) -> dict[str, torch.Tensor]:
    tokens, height, width, t = CASES[case]
    return {
        "latents": normal(f"{case}.latents", SEED, (16, 1, height, width)),
        "caption": normal(f"{case}.caption", SEED, (tokens, transformer.config.cap_feat_dim)),
        "t": torch.tensor([t], dtype=torch.float32),
    }


def run(transformer: ZImageTransformer2DModel, case: str) -> dict[str, torch.Tensor]:
    given = inputs(transformer, case)
    output = transformer([given["latents"]], given["t"], [given["caption"]], return_dict=False)[0][0]
    return {**given, "output": output}


def trace(transformer: ZImageTransformer2DModel) -> dict[str, torch.Tensor]:
    """What the stages hand on in one case; rows are tokens."""
    kept: dict[str, torch.Tensor] = {}
    stages = {
        "t_embedder": transformer.t_embedder,
        "x_embedder": transformer.all_x_embedder["2-1"],
        "noise_refiner": transformer.noise_refiner[-1],
        "cap_embedder": transformer.cap_embedder,
        "context_refiner": transformer.context_refiner[-1],
        "layer_0": transformer.layers[0],
        "layers": transformer.layers[-1],
        "final_layer": transformer.all_final_layer["2-1"],
    }
    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: kept.update({name: output}))
        for name, module in stages.items()
    ]
    run(transformer, TRACED)
    for hook in hooks:
        hook.remove()
    return kept
