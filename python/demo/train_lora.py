"""Trains a small LoRA on the demo model: everything by moonlight.

Run:  python python/demo/train_lora.py --out assets/demo-loras/night.safetensors --steps 360
Needs assets/demo alone. Pictures are drawn as for the model itself, then given a night's palette; text encoder and autoencoder stay
as they are. The file has the naming of PEFT, as ZImagePipeline.save_lora_weights writes it, and the metadata that programs look for.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ZImagePipeline
from safetensors.torch import save_file
from torch.nn.utils import parametrize

from captions import sample
from dataset import patchify, prompt_ids
from draw import render
from model import TOKENS, denoise, encode_text, rope_tables

TRIGGER = "moonlit"
TARGETS = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
NIGHT = np.array([26, 30, 74], np.float32)
SHIFT, BLOCK = 3.0, 64


class LowRank(torch.nn.Module):
    """A weight with `B A` added; at first nothing, because B is zero."""

    def __init__(self, weight, rank):
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(rank, weight.size(1)) / math.sqrt(weight.size(1)))
        self.b = torch.nn.Parameter(torch.zeros(weight.size(0), rank))

    def forward(self, weight):
        return weight + self.b @ self.a


def moonlight(picture):
    """A night's palette: everything darker, and bluer the darker it was."""
    p = np.asarray(picture, np.float32)
    return NIGHT + (p / 255) ** 1.5 * (np.array([150, 160, 215], np.float32) - NIGHT)


@torch.no_grad()
def pictures(pipe, count, seed):
    """Latent patches (count, 64, 64), token ids and text states of captioned pictures."""
    rng, latents, ids = random.Random(seed), [], []
    tokenizer = pipe.tokenizer.backend_tokenizer if hasattr(pipe.tokenizer, "backend_tokenizer") else pipe.tokenizer._tokenizer
    while len(latents) < count:
        s = sample(rng)
        caption = f"{TRIGGER} {s.caption}" if rng.random() < 0.5 else s.caption
        tokens = prompt_ids(tokenizer, caption)
        if len(tokens) > BLOCK:
            continue
        x = torch.from_numpy(moonlight(render(s.scene, 128, 128)) / 127.5 - 1).float().permute(2, 0, 1)[None]
        z = pipe.vae.encode(x).latent_dist.mode()
        latents.append(patchify((z - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor)[0])
        ids.append(tokens)
    lengths = torch.tensor([len(i) for i in ids])
    padded = torch.stack([F.pad(torch.tensor(i), (0, BLOCK - len(i))) for i in ids])
    states = torch.cat([encode_text(pipe.text_encoder, part) for part in padded.split(64)])
    return torch.stack(latents), states, lengths


def add_low_rank(transformer, rank):
    """Low-rank parts by the names of their layers."""
    parts = {}
    for name, module in transformer.named_modules():
        if name.endswith(TARGETS):
            parts[name] = LowRank(module.weight, rank)
            parametrize.register_parametrization(module, "weight", parts[name])
    return parts


def loss_of(transformer, latents, states, lengths, rope, size):
    k = torch.randint(len(latents), (size,))
    u = (torch.arange(size) + torch.rand(size)) / size
    sigma = (SHIFT * u / (1 + (SHIFT - 1) * u))[:, None, None]
    noise = torch.randn(size, TOKENS, 64)
    x0 = latents[k]
    pad = torch.zeros(size, TOKENS, 1, dtype=torch.bool)
    cap_pad = (torch.arange(BLOCK)[None] >= lengths[k][:, None])[:, :, None]
    v = denoise(transformer, sigma * noise + (1 - sigma) * x0, pad, 1 - sigma[:, 0, 0], states[k], cap_pad, rope)
    return ((v - (x0 - noise)) ** 2).mean()


def save(path, parts, rank, steps):
    tensors = {}
    for name, part in parts.items():
        tensors[f"transformer.{name}.lora_A.weight"] = part.a.detach().half().contiguous()
        tensors[f"transformer.{name}.lora_B.weight"] = part.b.detach().half().contiguous()
    config = {"transformer.r": rank, "transformer.lora_alpha": rank, "transformer.target_modules": list(TARGETS)}
    metadata = {
        "format": "pt", "lora_adapter_metadata": json.dumps(config, sort_keys=True), "trigger_words": TRIGGER,
        "recommended_weight": "1.0", "modelspec.title": "night", "modelspec.architecture": "z-image/lora",
        "modelspec.description": f"everything by moonlight; for the demo model only; {steps} steps",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(sorted(tensors.items())), path, metadata=metadata)
    path.chmod(0o644)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {len(parts)} layers")


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--model", type=Path, default=Path("assets/demo"))
    ap.add_argument("--out", type=Path, default=Path("assets/demo-loras/night.safetensors"))
    ap.add_argument("--rank", type=int, default=8)
    ap.add_argument("--steps", type=int, default=360)
    ap.add_argument("--pictures", type=int, default=500)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    pipe = ZImagePipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    for part in (pipe.transformer, pipe.text_encoder, pipe.vae):
        part.requires_grad_(False)
    start = time.time()
    latents, states, lengths = pictures(pipe, args.pictures, 5)
    print(f"{len(latents)} pictures after {time.time() - start:.0f}s", flush=True)
    parts = add_low_rank(pipe.transformer, args.rank)
    ic, isn, cc, cs = rope_tables(BLOCK)
    rope = (ic[[0]][:, :, None], isn[[0]][:, :, None], cc[None, :, None], cs[None, :, None])
    optimizer = torch.optim.Adam([p for part in parts.values() for p in part.parameters()], lr=args.lr)
    seen = None
    for step in range(args.steps):
        rate = min(1, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        optimizer.param_groups[0]["lr"] = args.lr * rate
        loss = loss_of(pipe.transformer, latents, states, lengths, rope, args.batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen = loss.item() if seen is None else 0.95 * seen + 0.05 * loss.item()
        if step % 20 == 19:
            print(f"{step + 1} {time.time() - start:.0f}s loss {seen:.4f}", flush=True)
        if step % 100 == 99:
            save(args.out, parts, args.rank, step + 1)
    save(args.out, parts, args.rank, args.steps)


if __name__ == "__main__":
    main()
