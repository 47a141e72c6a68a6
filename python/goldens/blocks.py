"""Quantized weights of GGUF files, by the `gguf` package of llama.cpp: what blocks decode to, and what values become.

The package decodes every format here and encodes those of `ENCODED`, with the same bits as ggml's reference quantizers.
"""

from __future__ import annotations

import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from golden import normal, write_tensors

SEED = 31
# Where the f16 numbers of a block lie: scale, and minimum where there is one.
HALVES = {
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "IQ4_NL": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
ENCODED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


def build(out: Path) -> None:
    for name in HALVES:
        kind = GGMLQuantizationType[name]
        blocks = random_blocks(name)
        tensors = {"blocks": torch.from_numpy(blocks), "values": torch.from_numpy(dequantize(blocks, kind))}
        if name in ENCODED:
            source = difficult_rows()
            tensors["source"] = torch.from_numpy(source)
            tensors["encoded"] = torch.from_numpy(quantize(source, kind))
        path = out / "blocks" / f"{name.lower()}.safetensors"
        write_tensors(path, tensors, SEED, gguf=version("gguf"), format=name)


def random_blocks(name: str) -> np.ndarray:
    """Blocks of random bits, one per row. The f16 numbers are finite; some are negative, some subnormal, some zero."""
    block_len, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = 48 if block_len == 32 else 18
    stream = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())]))
    blocks = stream.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for offset in HALVES[name]:
        numbers = (stream.standard_normal(count) * 2.0 ** stream.integers(-14, 6, count)).astype(np.float16)
        numbers[:4] = [0.0, -0.0, 6e-8, -65504.0 / 8192]
        blocks[:, offset : offset + 2] = numbers.view(np.uint8).reshape(count, 2)
    return blocks


def difficult_rows() -> np.ndarray:
    """Rows of 64 values, two blocks each: of all sizes, equal, with one large value, with halves between two steps."""
    rows = [normal(f"row {i}", SEED, (64,)).numpy() * np.float32(2.0 ** (i - 8)) for i in range(18)]
    ramp = np.arange(64, dtype=np.float32)
    spike = np.where(ramp == 40, np.float32(-9.0), np.float32(0.001) * ramp)
    halves = (ramp % 32 - 15) / 2 * 8 / 7.5
    rows += [0 * ramp, 0 * ramp + np.float32(0.3), 0 * ramp - 2, ramp, -ramp, spike, -spike, halves, ramp % 3 - 1]
    rows += [np.where(ramp < 32, 127, 63.5).astype(np.float32) - ramp, (ramp - 32) * np.float32(1e-6)]
    return np.stack(rows).astype(np.float32)
