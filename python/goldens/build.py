"""Writes the goldens: `python build.py [--only NAME ...] [--out DIR] [--qwen-tokenizer FILE]`."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

import golden

# `models` first: the others load what it writes.
SUBJECTS = (
    "models", "noise", "schedule", "vae", "block", "transformer", "text_encoder", "tokenizer", "image", "pipeline",
    "step_cache", "blocks", "quantized", "container", "lora", "formats",
)


def main() -> None:
    repository = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="write this subject only; may be repeated")
    parser.add_argument("--out", type=Path, default=repository / "goldens")
    parser.add_argument(
        "--qwen-tokenizer", type=Path, help="Qwen3's tokenizer.json; without it tokenizer/qwen.json is left as it is"
    )
    arguments = parser.parse_args()
    golden.make_deterministic()
    for subject in arguments.only or SUBJECTS:
        start = time.monotonic()
        module = importlib.import_module(subject)
        if subject == "tokenizer":
            module.build(arguments.out, arguments.qwen_tokenizer)
        else:
            module.build(arguments.out)
        print(f"{subject}: {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
