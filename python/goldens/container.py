"""GGUF files as the `gguf` package of llama.cpp writes them, and what is in them."""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, SpecialVocab, TokenType
from gguf.quants import quantize
from transformers import AutoTokenizer

from golden import normal, write_json

SEED = 32
# Name, shape (outermost first) and type.
TENSORS = (
    ("x_embedder.weight", (6, 64), "F32"),
    ("x_pad_token", (1, 64), "BF16"),
    ("layers.0.attention.qkv.weight", (9, 64), "Q8_0"),
    ("layers.0.attention.out.weight", (3, 32), "Q4_0"),
    ("layers.0.attention_norm1.weight", (37,), "F16"),
    ("layers.0.feed_forward.w1.weight", (2, 3, 32), "Q5_1"),
)


def build(out: Path) -> None:
    folder = out / "container"
    folder.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(folder / "sample.gguf", arch="lumina2")
    writer.add_quantization_version(2)
    writer.add_array("comfy.gguf.orig_shape.x_pad_token", [64])
    for name, value in {"u8": 200, "u16": 60000, "u32": 4_000_000_000, "u64": 2**63 + 1}.items():
        getattr(writer, {"u8": "add_uint8", "u16": "add_uint16", "u32": "add_uint32", "u64": "add_uint64"}[name])(
            f"sample.{name}", value
        )
    for name, value in {"i8": -100, "i16": -30000, "i32": -2_000_000_000, "i64": -(2**62)}.items():
        getattr(writer, f"add_int{name[1:]}")(f"sample.{name}", value)
    writer.add_float32("sample.f32", 0.5)
    writer.add_float64("sample.f64", -0.1)
    writer.add_bool("sample.yes", True)
    writer.add_string("sample.text", "Gr\u00fc\u00dfe, \u4f60\u597d")
    writer.add_array("sample.words", ["a", "", "\u00e9t\u00e9"])
    writer.add_array("sample.floats", [0.25, -1.0])
    described = []
    for name, shape, kind in TENSORS:
        data = stored(normal(name, SEED, shape).numpy(), kind)
        writer.add_tensor(name, data, raw_dtype=None if kind in ("F32", "F16") else GGMLQuantizationType[kind])
        described.append({"name": name, "shape": shape, "dtype": kind, "bytes": data.tobytes().hex()})
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_json(folder / "sample.json", {"gguf": version("gguf"), "tensors": described}, SEED)
    write_qwen3(folder / "qwen3.gguf", out / "models" / "tiny-a")


def stored(values: np.ndarray, kind: str) -> np.ndarray:
    return quantize(values, GGMLQuantizationType[kind])


def write_qwen3(path: Path, model: Path) -> None:
    """The keys of a text encoder, without its weights, as `convert_hf_to_gguf.py` of llama.cpp writes them."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        shutil.copytree(model / "tokenizer", directory, dirs_exist_ok=True)
        shutil.copy(model / "text_encoder" / "config.json", directory)
        config = json.loads((directory / "config.json").read_text())
        writer = GGUFWriter(path, arch="qwen3")
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        tokens, types = vocabulary(AutoTokenizer.from_pretrained(directory), config["vocab_size"])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        SpecialVocab(directory, load_merges=True).add_to_gguf(writer, quiet=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def vocabulary(tokenizer, size: int) -> tuple[list[str], list[int]]:
    """`get_vocab_base` of that script."""
    reverse = {number: token for token, number in tokenizer.vocab.items()}
    added = tokenizer.get_added_vocab()
    tokens, types = [], []
    for number in range(size):
        token = reverse.get(number)
        if token is None:
            token, kind = f"[PAD{number}]", TokenType.UNUSED
        elif token not in added:
            kind = TokenType.NORMAL
        elif tokenizer.added_tokens_decoder[number].special or token.startswith("<|") and token.endswith("|>"):
            kind = TokenType.CONTROL
        else:
            kind = TokenType.USER_DEFINED
        tokens.append(token)
        types.append(kind)
    return tokens, types
