"""Qwen3Model's hidden_states[-2], for ids directly and through the pipeline's encode_prompt."""

from __future__ import annotations

from pathlib import Path

import torch

import models
from golden import normal, write_tensors

SEED = 14
MAX_TOKENS = 512

# The id lists are shown as they go in; `long` is cut at MAX_TOKENS by the tokenizer.
PROMPTS = {
    "empty": "",
    "short": "a cat",
    "accents": "caf\u00e9 \u4e00\u53ea\u732b 12345",
    "long": "a red circle and a blue square on a white background, " * 40,
}


def build(out: Path) -> None:
    for name in models.SEEDS:
        pipeline = models.load(out, name)
        tensors = {}
        for case, prompt in PROMPTS.items():
            tensors |= {f"{case}.{key}": value for key, value in encode(pipeline, prompt).items()}
        tensors |= {f"random.{key}": value for key, value in random_ids(pipeline).items()}
        write_tensors(out / "text_encoder" / f"{name}.safetensors", tensors, SEED, prompts=PROMPTS)


def encode(pipeline, prompt: str) -> dict[str, torch.Tensor]:
    # A fresh list each time: encode_prompt overwrites the entries of the list that it is given.
    embeds = pipeline.encode_prompt([prompt], do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS)[0][0]
    text = pipeline.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    ids = pipeline.tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").input_ids[0]
    if embeds.shape[0] != ids.shape[0]:
        raise ValueError(f"{embeds.shape[0]} embeddings for {ids.shape[0]} ids")
    if embeds.shape[0] < MAX_TOKENS:
        return {"ids": ids, "hidden": embeds}
    # All 512 rows would be most of the file; attention reaches from the last rows to the first ones anyway.
    return {"ids": ids, "hidden_first_8": embeds[:8], "hidden_last_24": embeds[-24:]}


def random_ids(pipeline) -> dict[str, torch.Tensor]:
    """Ids over the whole table, and every hidden state, for looking at one layer at a time."""
    rows = pipeline.text_encoder.config.vocab_size
    ids = (normal("text_encoder.ids", SEED, (19,)).abs() * 1e6).to(torch.int64) % rows
    states = pipeline.text_encoder(input_ids=ids[None], output_hidden_states=True).hidden_states
    return {"ids": ids, "hidden": states[-2][0], **{f"state_{i}": state[0] for i, state in enumerate(states)}}
