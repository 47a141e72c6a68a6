"""Trains the autoencoder: pictures to 16 latent channels at an eighth of the size, and back.

Run:  python python/demo/train_vae.py --work build/demo-train --minutes 17
Leaves WORK/vae.pt (averaged weights and latent statistics) and WORK/vae_check.png (pictures above their reconstructions).
The learning rate follows the clock, so that a run always ends when it is told to. With --decoder-only it goes on from WORK/vae.pt
and leaves the latents as they are: the decoder can still be sharpened while the transformer trains on them.
"""

import argparse
import copy
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from draw import COLOURS, KINDS, PAPERS, SCENES, Scene, Thing, render
from muon import Muon

CONFIG = dict(
    in_channels=3, out_channels=3, latent_channels=16, sample_size=128, layers_per_block=1, norm_num_groups=8,
    block_out_channels=[24, 48, 64, 64], down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4, use_quant_conv=False, use_post_quant_conv=False, force_upcast=True,
)
KL_WEIGHT = 2e-4


def any_scene(rng):
    """Anything anywhere: the autoencoder should not care what goes with what."""
    things = [Thing(rng.choice(KINDS), rng.choice(list(COLOURS)), rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85),
                    rng.uniform(0.2, 0.75)) for _ in range(rng.choice([1, 2, 2, 3]))]
    plain = rng.random() < 0.55
    paper = rng.choice(PAPERS) if rng.random() < 0.3 else rng.choice(list(COLOURS.values()))
    return Scene(things, "plain" if plain else rng.choice(SCENES), paper, rng.choice(["day", "night", "sunset"]),
                 rng.random() < 0.3, rng.random(), free=True)


def to_tensor(pictures):
    """uint8 (n, h, w, 3) to float (n, 3, h, w) from -1 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(data, count, size, rng):
    out = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        y, x = rng.randrange(129 - size), rng.randrange(129 - size)
        out[i] = data[rng.randrange(len(data)), y:y + size, x:x + size]
    return to_tensor(out).to(memory_format=torch.channels_last)


def loss_of(vae, x, frozen):
    with torch.set_grad_enabled(not frozen):
        mean, logvar = vae.encoder(x).chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
    spread = torch.exp(0.5 * logvar)
    if frozen:
        # The transformer's latents are less exact than the encoder's: the decoder should draw clean edges from them all the same.
        spread = spread + 0.3 * torch.rand(len(x), 1, 1, 1)
    z = mean + spread * torch.randn_like(mean)
    r = vae.decoder(z)
    error = (r - x).abs().mean() + 2 * F.mse_loss(r, x)
    # Differences between neighbours: what makes an edge clean.
    for d in (2, 3):
        error = error + 0.4 * (r.diff(dim=d) - x.diff(dim=d)).abs().mean()
    kl = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    return error, kl


def save(model, data, work):
    model.eval()
    with torch.no_grad():
        x = to_tensor(data[:16])
        z = torch.cat([model.encoder(to_tensor(data[i:i + 32]))[:, :16] for i in range(0, 256, 32)])
        shift, scale = z.mean().item(), 1 / z.std().item()
        r = model.decoder(z[:16])
    state = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
    torch.save({"state": state, "config": CONFIG, "shift": shift, "scale": scale}, work / "vae.tmp")
    (work / "vae.tmp").rename(work / "vae.pt")
    from PIL import Image
    rows = [torch.cat(list(t), 2) for t in (x[:8], r[:8], x[8:], r[8:])]
    sheet = torch.cat(rows, 1).clamp(-1, 1).permute(1, 2, 0).add(1).mul(127.5).round().byte().numpy()
    Image.fromarray(sheet).save(work / "vae_check.png")
    per_channel = z.std(dim=(0, 2, 3))
    print(f"  error {(r - x).abs().mean():.4f} shift {shift:.4f} scale {scale:.4f} "
          f"channel std {per_channel.min():.2f}..{per_channel.max():.2f}", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--work", type=Path, default=Path("build/demo-train"))
    ap.add_argument("--minutes", type=float, default=17)
    ap.add_argument("--pictures", type=int, default=6000)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--decoder-only", action="store_true")
    ap.add_argument("--threads", type=int)
    args = ap.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    rng = random.Random(int(args.decoder_only))
    data = np.stack([np.asarray(render(any_scene(rng), 128, 128)) for _ in range(args.pictures)])
    vae = AutoencoderKL(**CONFIG)
    if args.decoder_only:
        vae.load_state_dict(torch.load(args.work / "vae.pt")["state"])
        vae.encoder.requires_grad_(False)
    vae.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(vae).requires_grad_(False)
    opt = Muon(vae.named_parameters(), args.lr, plain=("conv_in", "encoder.conv_out", "decoder.conv_out"))
    start, step, saved, seen = time.time(), 0, 0, [0.0, 0.0]
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        # Small crops first: four times as many steps. The last third sees whole pictures, as the middle attention will.
        x = crops(data[256:], 16, 64, rng) if done < (0.3 if args.decoder_only else 0.7) else crops(data[256:], 8, 128, rng)
        lr = args.lr * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        error, kl = loss_of(vae, x, args.decoder_only)
        opt.zero_grad()
        (error if args.decoder_only else error + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step(lr)
        step += 1
        keep = min(0.998, step / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.parameters()), list(vae.parameters()), 1 - keep)
        seen = [0.98 * s + 0.02 * v.item() for s, v in zip(seen, (error, kl))]
        if step % 100 == 0:
            print(f"{step} {time.time() - start:.0f}s error {seen[0]:.4f} kl {seen[1]:.3f}", flush=True)
        if time.time() - saved > 120:
            save(ema, data, args.work)
            saved = time.time()
    save(ema, data, args.work)


if __name__ == "__main__":
    main()
