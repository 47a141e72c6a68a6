"""AutoencoderKL: decode, encode, and both by tiles."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

import models
from golden import normal, write_json, write_tensors

SEED = 11
SAMPLE_SEED = 42
# Latents of 4 rows are a picture of 32 rows; the factor is diffusers' default.
TILING = {"tile_latent_min_size": 4, "tile_sample_min_size": 32, "tile_overlap_factor": 0.25}


def build(out: Path) -> None:
    for name in models.SEEDS:
        vae = models.load(out, name).vae
        folder = out / "vae" / name
        write_tensors(folder / "decode.safetensors", decode(vae), SEED)
        write_tensors(folder / "encode.safetensors", encode(vae), SEED, sample_seed=SAMPLE_SEED)
        write_tensors(folder / "tiled.safetensors", tiled(vae), SEED, **TILING)
    defaults = AutoencoderKL(block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
                             up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, sample_size=1024)
    write_json(
        out / "vae" / "tiling.json",
        {
            "golden": TILING,
            "default_at_sample_size_1024": {key: getattr(defaults, key) for key in TILING},
        },
        seed=None,
    )


def picture(name: str, height: int, width: int) -> torch.Tensor:
    return (0.5 * normal(name, SEED, (1, 3, height, width))).clamp(-1.0, 1.0)


def decode(vae: AutoencoderKL) -> dict[str, torch.Tensor]:
    z = 1.5 * normal("vae.z", SEED, (1, 16, 6, 10))
    kept: dict[str, torch.Tensor] = {}
    decoder = vae.decoder
    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: kept.update({name: output}))
        for name, module in (
            ("conv_in", decoder.conv_in),
            ("mid_resnet_0", decoder.mid_block.resnets[0]),
            ("mid_attention", decoder.mid_block.attentions[0]),
            ("mid_block", decoder.mid_block),
            ("up_block_0", decoder.up_blocks[0]),
        )
    ]
    image = vae.decode(z, return_dict=False)[0]
    for hook in hooks:
        hook.remove()
    return {"z": z, "image": image, **kept}


def encode(vae: AutoencoderKL) -> dict[str, torch.Tensor]:
    image = picture("vae.image", 48, 80)
    kept: dict[str, torch.Tensor] = {}
    hook = vae.encoder.down_blocks[0].register_forward_hook(lambda _m, _i, output: kept.update({"down_block_0": output}))
    posterior = vae.encode(image).latent_dist
    hook.remove()
    sample = posterior.sample(torch.Generator("cpu").manual_seed(SAMPLE_SEED))
    return {
        "image": image,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "sample": sample,
        "latents": (sample - vae.config.shift_factor) * vae.config.scaling_factor,
        **kept,
    }


def tiled(vae: AutoencoderKL) -> dict[str, torch.Tensor]:
    vae.enable_tiling()
    for key, setting in TILING.items():
        setattr(vae, key, setting)
    z = 1.5 * normal("vae.tiled.z", SEED, (1, 16, 7, 9))
    image = picture("vae.tiled.image", 56, 72)
    moments = vae.encode(image).latent_dist
    return {
        "z": z,
        "decoded": vae.decode(z, return_dict=False)[0],
        "image": image,
        "mean": moments.mean,
        "logvar": moments.logvar,
    }
