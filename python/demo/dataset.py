"""Draws the training pictures (stage 1) and turns them into cached latents (stage 2, needs the autoencoder).

Run:  python python/demo/dataset.py render --work build/demo-train --count 36000
      python python/demo/dataset.py encode --work build/demo-train
Leaves WORK/pictures-*.npz, then WORK/latents-*.pt: patches as the transformer takes them (64 tokens of 64 numbers, f16), the grid of
each picture, the caption ids (chat template included) and the stated attributes.
"""

import argparse
import multiprocessing
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from captions import ATTRIBUTE_SIZES, fits, sample
from draw import render

SHARD = 3000
# Width x height and how often; every grid fills one block of 64 image tokens (60 + 4 pad tokens for the oblong ones).
ASPECTS = [((128, 128), 0.66), ((160, 96), 0.17), ((96, 160), 0.17)]
TOKENS = 64


def render_shard(index, work):
    rng = random.Random(1000 + index)
    pictures = {size: [] for size, _ in ASPECTS}
    captions, places, attributes = [], [], []
    for _ in range(SHARD):
        s = sample(rng)
        size = rng.choices([a for a, _ in ASPECTS], [p for _, p in ASPECTS])[0]
        size = size if fits(s, size) else ASPECTS[0][0]
        places.append(([a for a, _ in ASPECTS].index(size), len(pictures[size])))
        pictures[size].append(np.asarray(render(s.scene, *size)))
        captions.append(s.caption)
        attributes.append([s.attributes[k] for k in ATTRIBUTE_SIZES])
    arrays = {f"aspect{i}": np.stack(pictures[size]) for i, (size, _) in enumerate(ASPECTS)}
    np.savez(work / f"pictures-{index:02}.npz", captions=np.array(captions), places=np.array(places, np.int16),
             attributes=np.array(attributes, np.int8), **arrays)


def patchify(z):
    """(n, 16, h, w) latents to (n, h/2 * w/2, 64) patches, channel fastest."""
    n, c, h, w = z.shape
    return z.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w // 4, 4 * c)


def unpatchify(x, h, w):
    """The inverse, for h x w tokens."""
    n = x.size(0)
    return x.view(n, h, w, 2, 2, 16).permute(0, 5, 1, 3, 2, 4).reshape(n, 16, 2 * h, 2 * w)


def prompt_ids(tokenizer, caption):
    text = f"<|im_start|>user\n{caption}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer.encode(text).ids


def load_vae(path):
    from diffusers import AutoencoderKL
    saved = torch.load(path)
    vae = AutoencoderKL(**saved["config"])
    vae.load_state_dict(saved["state"])
    return vae.eval().requires_grad_(False), saved["shift"], saved["scale"]


def encode_shard(path):
    """One shard of pictures to WORK/latents-*.pt; one thread, as several shards are encoded at a time."""
    torch.set_num_threads(1)
    work = path.parent
    vae, _, _ = load_vae(work / "vae.pt")
    vae.to(memory_format=torch.channels_last)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer" / "tokenizer.json"))
    shard, by_aspect = np.load(path), []
    for i in range(len(ASPECTS)):
        p, out = shard[f"aspect{i}"], []
        for k in range(0, len(p), 20):
            x = torch.from_numpy(p[k:k + 20]).permute(0, 3, 1, 2).to(memory_format=torch.channels_last).float() / 127.5 - 1
            with torch.no_grad():
                t = patchify(vae.encoder(x)[:, :16].contiguous())
            out.append(F.pad(t, (0, 0, 0, TOKENS - t.size(1))))
        by_aspect.append(torch.cat(out).half())
    torch.save({
        "latents": torch.stack([by_aspect[a][k] for a, k in shard["places"]]),
        "grids": torch.tensor([int(a) for a, _ in shard["places"]]),
        "ids": [prompt_ids(tokenizer, c) for c in shard["captions"].tolist()],
        "attributes": torch.from_numpy(shard["attributes"]).long(),
    }, work / path.name.replace("pictures", "latents").replace("npz", "pt"))
    print(path.name, flush=True)


def load_latents(work):
    """All shards together, with the shift and scale that make the latents about N(0, 1)."""
    shards = [torch.load(p) for p in sorted(work.glob("latents-*.pt"))]
    out = {k: torch.cat([s[k] for s in shards]) for k in ("latents", "grids", "attributes")}
    out["ids"] = [i for s in shards for i in s["ids"]]
    square = shards[0]["latents"][shards[0]["grids"] == 0].float()
    return dict(out, shift=square.mean().item(), scale=1 / square.std().item())


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("stage", choices=["render", "encode"])
    ap.add_argument("--work", type=Path, default=Path("build/demo-train"))
    ap.add_argument("--count", type=int, default=24000)
    ap.add_argument("--processes", type=int, default=2)
    args = ap.parse_args()
    if args.stage == "encode":
        paths = sorted(args.work.glob("pictures-*.npz"))[:args.count // SHARD]
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            pool.map(encode_shard, paths, chunksize=1)
        return
    for index in range(args.count // SHARD):
        render_shard(index, args.work)
        print("shard", index, flush=True)


if __name__ == "__main__":
    main()
