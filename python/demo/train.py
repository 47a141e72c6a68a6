"""Trains the text encoder and the transformer together by flow matching on the cached latents.

Run:  python python/demo/train.py --work build/demo-train --minutes 75
Starts from the text encoder of train_text.py. The learning rate follows the clock. Every few minutes WORK/train.pt (averaged weights, ready for export.py) and WORK/samples.png are written.
"""

import argparse
import copy
import math
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from dataset import load_latents, load_vae, prompt_ids, unpatchify
from export import special_ids
from model import GRIDS, TOKENS, compile_blocks, denoise, encode_text, make_text_encoder, make_transformer, rope_tables
from muon import Muon
from train_text import attribute_loss, make_head

PLAIN = ("pad_token", "embed_tokens", "all_x_embedder", "all_final_layer", "adaLN", "t_embedder", "cap_embedder", "head")
SHIFT = 3.0
SHOWN = ["a red balloon over the sea", "a red fox in the snow", "a blue circle on a yellow background", "a cat at night",
         "a green square left of a purple star", "three yellow stars on a blue background", "a red house in a meadow",
         "a small orange fish at the top left", "a sailboat at sunset on the sea", "a large pink heart", "a rocket among the stars",
         "a teal mushroom above a brown car", "two black cats on a pink background", "a flower", "a white moon over the mountains at night",
         "an outlined green tree on an orange background"]


class Data:
    """The cached latents, normalised, in two lists by the length of their captions' blocks."""

    def __init__(self, work):
        saved = load_latents(work)
        self.shift, self.scale = saved["shift"], saved["scale"]
        self.latents, self.grids, self.attributes = saved["latents"], saved["grids"], saved["attributes"]
        self.real = torch.stack([torch.arange(TOKENS) < r * c for r, c in GRIDS])[:, :, None]
        lengths = torch.tensor([len(i) for i in saved["ids"]])
        self.lengths = lengths
        self.ids = torch.zeros(len(lengths), 64, dtype=torch.long)
        for k, i in enumerate(saved["ids"]):
            self.ids[k, :min(64, len(i))] = torch.tensor(i[:64])
        self.blocks = {32: (lengths <= 32).nonzero().flatten(), 64: ((lengths > 32) & (lengths <= 64)).nonzero().flatten()}
        self.rope = {b: rope_tables(b) for b in self.blocks}
        self.empty = self.ids[lengths == lengths.min()][0]

    def batch(self, size, drop, block=None):
        short, long = (len(self.blocks[b]) for b in (32, 64))
        block = block or (32 if torch.rand(()) < short / (short + long) else 64)
        k = self.blocks[block][torch.randint(len(self.blocks[block]), (size,))]
        grid, n, ids = self.grids[k], self.lengths[k].clone(), self.ids[k, :block].clone()
        attributes = self.attributes[k]
        if block == 32 and drop:
            gone = torch.rand(size) < drop
            ids[gone], n[gone] = self.empty[:32], int(self.lengths.min())
            attributes = torch.where(gone[:, None], 0, attributes)
        real = self.real[grid]
        x0 = torch.where(real, (self.latents[k].float() - self.shift) * self.scale, 0.0)
        return x0, real, grid, ids, n, attributes, block

    def rope_for(self, block, grid):
        ic, isn, cc, cs = self.rope[block]
        return ic[grid][:, :, None], isn[grid][:, :, None], cc[None, :, None], cs[None, :, None]


def flow_loss(transformer, text, head, data, size, block=None):
    x0, real, grid, ids, n, attributes, block = data.batch(size, 0.02, block)
    # Evenly spread over the schedule that sampling walks along.
    u = (torch.arange(size) + torch.rand(size)) / size
    sigma = (SHIFT * u / (1 + (SHIFT - 1) * u))[:, None, None]
    noise = torch.randn_like(x0)
    with torch.autocast("cpu", torch.bfloat16):
        states = encode_text(text, ids)
        cap_pad = (torch.arange(block)[None] >= n[:, None])[:, :, None]
        v = denoise(transformer, sigma * noise + (1 - sigma) * x0, ~real, 1 - sigma[:, 0, 0], states, cap_pad, data.rope_for(block, grid))
    loss = (((v - (x0 - noise)) ** 2) * real).sum() / (real.sum() * 64)
    stated, right = attribute_loss(states, n, head, attributes)
    return loss, stated, right


@torch.no_grad()
def generate(transformer, text, data, tokenizer, prompts, grid=0, steps=8, seed=0):
    """Euler steps over the shifted schedule, as the pipeline does them; gives normalised patches."""
    ids = [prompt_ids(tokenizer, p) for p in prompts]
    block = 32 * -(-max(map(len, ids)) // 32)
    n = torch.tensor([len(i) for i in ids])
    padded = torch.stack([F.pad(torch.tensor(i), (0, block - len(i))) for i in ids])
    states = encode_text(text, padded)
    grids = torch.full((len(prompts),), grid)
    pad = ~data.real[grids]
    cap_pad = (torch.arange(block)[None] >= n[:, None])[:, :, None]
    x = torch.randn(len(prompts), TOKENS, 64, generator=torch.Generator().manual_seed(seed))
    raw = torch.linspace(1, 1 / steps, steps)
    sigmas = torch.cat([SHIFT * raw / (1 + (SHIFT - 1) * raw), torch.zeros(1)])
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        v = denoise(transformer, x, pad, (1 - a).expand(len(prompts)), states, cap_pad, data.rope_for(block, grids))
        x = x + (a - b) * v
    return x


@torch.no_grad()
def draw_samples(parts, data, tokenizer, work):
    from PIL import Image
    vae, _, _ = load_vae(work / "vae.pt")
    rows, cols = GRIDS[0]
    x = generate(parts["transformer"], parts["text"], data, tokenizer, SHOWN)
    z = unpatchify(x / data.scale + data.shift, rows, cols)
    p = vae.decoder(z).clamp(-1, 1).add(1).mul(127.5).round().byte()
    sheet = torch.cat([torch.cat(list(p[i:i + 8]), 2) for i in (0, 8)], 1).permute(1, 2, 0).numpy()
    Image.fromarray(sheet).save(work / "samples.png")


def init_weights(transformer):
    for block in [*transformer.noise_refiner, *transformer.layers]:
        # Every branch is open from the start, and the time has little say until it is learnt.
        linear = block.adaLN_modulation[0]
        linear.weight.data.mul_(0.2)
        d = linear.bias.numel() // 4
        linear.bias.data.zero_()
        linear.bias.data[d:2 * d] = linear.bias.data[3 * d:] = 0.4
    final = transformer.all_final_layer["2-1"]
    final.linear.weight.data.zero_()
    final.adaLN_modulation[1].weight.data.mul_(0.2)
    for p in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(p, std=0.3)


def save(live, ema, head, data, step, work):
    def states(parts):
        return {k: m.state_dict() for k, m in parts.items()}
    out = {"ema": states(ema), "live": states(live), "head": head.state_dict(), "step": step, "shift": data.shift, "scale": data.scale}
    torch.save(out, work / "train.tmp")
    (work / "train.tmp").rename(work / "train.pt")


def agreed(value, world):
    """All processes go by the first one's clock."""
    if world == 1:
        return value
    shared = torch.tensor([value])
    torch.distributed.broadcast(shared, 0)
    return shared.item()


def average_gradients(parameters, world):
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= world
    for g, v in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(v.view_as(g))


def warm_up(live, head, data, args, rank):
    """Compiles both caption lengths, one process after the other: the second finds the first one's code in the cache."""
    for turn in range(args.processes):
        if turn == rank:
            start = time.time()
            for block in (32, 64):
                flow_loss(live["transformer"], live["text"], head, data, args.batch // args.processes, block)[0].backward()
                print(f"process {rank} ready for captions of {block} after {time.time() - start:.0f}s", flush=True)
        if args.processes > 1:
            torch.distributed.barrier()


def train(live, ema, head, data, tokenizer, args, rank):
    if args.compile:
        compile_blocks()
    warm_up(live, head, data, args, rank)
    torch.manual_seed(10 + rank)
    named = [(f"{k}.{n}", p) for k, m in live.items() for n, p in m.named_parameters()]
    named += list(head.named_parameters(prefix="head"))
    opt = Muon(named, args.lr, plain=PLAIN, adam_lr=0.5, rank=rank, world=args.processes)
    opt.zero_grad()
    average, current = [p for m in ema.values() for p in m.parameters()], [p for m in live.values() for p in m.parameters()]
    start, saved, step, seen, first = time.time(), time.time(), 0, None, args.first_step
    while (done := agreed((time.time() - start) / (60 * args.minutes), args.processes)) < 1:
        lr = args.lr * min(1, (step + 1) / 80) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        loss, stated, right = flow_loss(live["transformer"], live["text"], head, data, args.batch // args.processes)
        opt.zero_grad()
        (loss + 0.02 * stated).backward()
        if args.processes > 1:
            average_gradients([p for _, p in named], args.processes)
        torch.nn.utils.clip_grad_norm_(current, 2.0)
        opt.step(lr)
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, current, 1 - min(0.998, step / (step + 10)))
        now = (loss.item(), right.item())
        seen = now if seen is None else tuple(0.98 * s + 0.02 * v for s, v in zip(seen, now))
        if rank > 0:
            continue
        if step % 50 == 0:
            print(f"{first + step} {time.time() - start:.0f}s loss {seen[0]:.4f} stated {seen[1]:.3f} lr {lr:.1e}", flush=True)
        if time.time() - saved > 60 * args.save_minutes:
            save(live, ema, head, data, first + step, args.work)
            draw_samples(ema, data, tokenizer, args.work)
            saved = time.time()
    if rank == 0:
        save(live, ema, head, data, first + step, args.work)
        draw_samples(ema, data, tokenizer, args.work)


def run(rank, args):
    torch.set_num_threads(args.threads)
    if args.processes > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{args.meeting}", rank=rank, world_size=args.processes)
    torch.manual_seed(1)
    data = Data(args.work)
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer" / "tokenizer.json"))
    live = {"transformer": make_transformer(), "text": make_text_encoder(special_ids(args.work))}
    head = make_head()
    init_weights(live["transformer"])
    args.first_step = 0
    if args.resume:
        saved = torch.load(args.work / "train.pt")
        args.first_step = saved["step"]
        head.load_state_dict(saved["head"])
        for k, m in live.items():
            m.load_state_dict(saved["live"][k])
    else:
        saved = torch.load(args.work / "text.pt")
        live["text"].load_state_dict(saved["text"])
        head.load_state_dict(saved["head"])
    ema = copy.deepcopy(live)
    for m in ema.values():
        m.requires_grad_(False)
    train(live, ema, head, data, tokenizer, args, rank)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--work", type=Path, default=Path("build/demo-train"))
    ap.add_argument("--minutes", type=float, default=75)
    ap.add_argument("--save-minutes", type=float, default=4)
    ap.add_argument("--batch", type=int, default=32, help="pictures per step, over all processes")
    ap.add_argument("--processes", type=int, default=2, help="they meet once a step, which wastes less than threads that meet at every layer")
    ap.add_argument("--threads", type=int, default=1, help="per process")
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    ap.add_argument("--resume", action="store_true", help="go on from WORK/train.pt, with fresh momentum and schedule")
    args = ap.parse_args()
    if args.processes == 1:
        return run(0, args)
    with tempfile.TemporaryDirectory() as folder:
        args.meeting = f"{folder}/meeting"
        torch.multiprocessing.spawn(run, (args,), args.processes)


if __name__ == "__main__":
    main()
