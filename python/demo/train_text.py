"""Teaches the text encoder to tell what a caption states, before it trains together with the transformer.

Run:  python python/demo/train_text.py --work build/demo-train --minutes 3
Leaves WORK/text.pt. Without this head start the transformer spends its first thousand steps on states that say little.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from captions import ATTRIBUTE_SIZES, sample
from dataset import prompt_ids
from export import special_ids
from model import TEXT, encode_text, make_text_encoder
from muon import Muon


def make_head():
    return torch.nn.Linear(TEXT["hidden_size"], sum(ATTRIBUTE_SIZES.values()))


def attribute_loss(states, n, head, attributes):
    """How well the last token, which has seen the whole caption, tells what the caption states."""
    last = states[torch.arange(len(n)), n - 1]
    logits = head(F.rms_norm(last, (last.size(-1),))).split(list(ATTRIBUTE_SIZES.values()), 1)
    losses = [F.cross_entropy(p, attributes[:, i]) for i, p in enumerate(logits)]
    right = torch.stack([p.argmax(1) == attributes[:, i] for i, p in enumerate(logits)]).float().mean()
    return torch.stack(losses).mean(), right


def caption_batch(rng, tokenizer, size):
    samples = [s for s in (sample(rng) for _ in range(size))]
    ids = [prompt_ids(tokenizer, s.caption)[:64] for s in samples]
    n = torch.tensor([len(i) for i in ids])
    padded = torch.stack([F.pad(torch.tensor(i), (0, int(n.max()) - len(i))) for i in ids])
    return padded, n, torch.tensor([[s.attributes[k] for k in ATTRIBUTE_SIZES] for s in samples])


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--work", type=Path, default=Path("build/demo-train"))
    ap.add_argument("--minutes", type=float, default=3)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--threads", type=int)
    args = ap.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(2)
    rng = random.Random(77)
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer" / "tokenizer.json"))
    text, head = make_text_encoder(special_ids(args.work)), make_head()
    opt = Muon([*text.named_parameters(), *head.named_parameters(prefix="head")], args.lr, plain=("embed_tokens", "head"))
    start, step = time.time(), 0
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        ids, n, attributes = caption_batch(rng, tokenizer, 64)
        loss, right = attribute_loss(encode_text(text, ids), n, head, attributes)
        opt.zero_grad()
        loss.backward()
        opt.step(args.lr * min(1, (step + 1) / 30) * (0.05 + 0.95 * (1 - done)))
        step += 1
        if step % 50 == 0:
            print(f"{step} {time.time() - start:.0f}s loss {loss.item():.4f} right {right.item():.4f}", flush=True)
    torch.save({"text": text.state_dict(), "head": head.state_dict()}, args.work / "text.pt")


if __name__ == "__main__":
    main()
