"""A GGUF file as the `gguf` package of llama.cpp writes it, and what is in it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

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


def stored(values: np.ndarray, kind: str) -> np.ndarray:
    return quantize(values, GGMLQuantizationType[kind])
