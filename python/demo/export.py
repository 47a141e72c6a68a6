"""Writes the trained parts as an ordinary diffusers directory (bf16), as the binary carries it.

Run:  python python/demo/export.py --work build/demo-train --out assets/demo
Takes the averaged weights of WORK/train.pt at whatever step it stands; with --untrained, random ones (to test loading).
"""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from model import make_text_encoder, make_transformer


def special_ids(work):
    t = Tokenizer.from_file(str(work / "tokenizer" / "tokenizer.json"))
    return {"eos": t.token_to_id("<|im_end|>"), "pad": t.token_to_id("<|endoftext|>")}


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--work", type=Path, default=Path("build/demo-train"))
    ap.add_argument("--out", type=Path, default=Path("assets/demo"))
    ap.add_argument("--untrained", action="store_true")
    args = ap.parse_args()
    transformer, text = make_transformer(), make_text_encoder(special_ids(args.work))
    saved = torch.load(args.work / "vae.pt")
    vae_state, shift, scale = saved["state"], saved["shift"], saved["scale"]
    if not args.untrained:
        trained = torch.load(args.work / "train.pt")
        transformer.load_state_dict(trained["ema"]["transformer"])
        text.load_state_dict(trained["ema"]["text"])
        shift, scale = trained["shift"], trained["scale"]
        print("step", trained["step"])
    vae = AutoencoderKL(**dict(saved["config"], scaling_factor=round(scale, 6), shift_factor=round(shift, 6)))
    vae.load_state_dict(vae_state)
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False),
        vae=vae, text_encoder=text, tokenizer=AutoTokenizer.from_pretrained(args.work / "tokenizer"), transformer=transformer)
    pipe.to(torch.bfloat16)
    for part in ("transformer", "text_encoder", "tokenizer", "vae", "scheduler"):
        shutil.rmtree(args.out / part, ignore_errors=True)
    pipe.save_pretrained(args.out)
    # The tokenizer files as they were made, not as this version of transformers would rewrite them.
    shutil.rmtree(args.out / "tokenizer")
    shutil.copytree(args.work / "tokenizer", args.out / "tokenizer")
    for path in args.out.rglob("config.json"):
        # save_pretrained notes where the parts came from: no business of the reader's.
        lines = [line for line in path.read_text().splitlines() if "_name_or_path" not in line]
        path.write_text("\n".join(lines) + "\n")
    for path in args.out.rglob("*.safetensors"):
        path.chmod(0o644)
    files = [p for p in args.out.rglob("*") if p.is_file()]
    print(f"{sum(p.stat().st_size for p in files) / 1e6:.2f} MB in {len(files)} files under {args.out}")


if __name__ == "__main__":
    main()
