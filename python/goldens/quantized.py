"""Quantizers and formats with scales apart: what ggml, MLX, torch and ComfyUI's own package write and read.

`encoded`: rows that ggml's C library quantizes. `mlx_*`: what `mx.quantize` writes and `mx.dequantize` reads on a CPU.
`float8`: every code of torch's two types. `comfyui`: what `comfy-kitchen`, the package that ComfyUI computes with,
writes and reads, by its plain torch versions.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import comfy_kitchen.backends.eager.convrot_w4a4 as w4a4
import comfy_kitchen.backends.eager.quantization as comfy
import mlx.core as mx
import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from ggml import Ggml
from golden import normal, write_tensors

SEED = 37
WITH_SEARCH = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL")
WITHOUT_SEARCH = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
MLX_TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
# Rows of a swizzled weight whose values are kept: around the borders of its 32-row and 128-row parts.
KEPT_ROWS = (0, 1, 5, 31, 32, 33, 63, 64, 95, 96, 127, 128, 129, 143)


def build(out: Path) -> None:
    folder = out / "blocks"
    library = Ggml()
    write_tensors(folder / "encoded.safetensors", encoded(library), SEED, ggml=library.version(), gguf=version("gguf"))
    mx.set_default_device(mx.cpu)
    write_tensors(folder / "mlx_affine.safetensors", mlx_affine(), SEED, mlx=version("mlx"))
    write_tensors(folder / "mlx_floats.safetensors", mlx_floats(), SEED, mlx=version("mlx"))
    write_tensors(folder / "float8.safetensors", float8(), None)
    kitchen = version("comfy-kitchen")
    write_tensors(folder / "comfyui.safetensors", comfyui(), SEED, **{"comfy-kitchen": kitchen})


def difficult_rows(columns: int, count: int, sigma: float) -> np.ndarray:
    """Rows of many sizes and shapes; `count` of them are normal with very different scales."""
    rows = [normal(f"row {columns} {i}", SEED, (columns,)).numpy() for i in range(count + 6)]
    plain = [row * np.float32(sigma * 2.0 ** (i % 9 - 4)) for i, row in enumerate(rows[:count])]
    a, b, c, d, e, f = rows[count:]
    ramp = np.arange(columns, dtype=np.float32)
    outlier = np.float32(0.01) * a
    outlier[columns // 3] = -7.5
    one_group = np.where((ramp >= 32) & (ramp < 64), b, 0)
    extra = [
        0 * ramp, -0.0 * ramp, 0 * ramp + np.float32(0.3), 0 * ramp - 2, c * np.float32(1e-9), c * np.float32(1e-36),
        d * np.float32(2000), outlier, -outlier, one_group, -np.abs(e), np.abs(e), -np.abs(e) - 3, np.abs(f) + 5,
        ramp - 100, (100 - ramp) * np.float32(1e-3), ramp % 3 - 1, ramp % 32 / 2 - np.float32(7.75),
        np.where(ramp % 2 == 0, f, np.float32(1e-3)), a**3, np.round(b * 4) / 4,
    ]  # fmt: skip
    return np.stack(plain + extra).astype(np.float32)


def encoded(library: Ggml) -> dict[str, torch.Tensor]:
    source = difficult_rows(256, 27, 0.05)
    tensors = {"source": torch.from_numpy(source)}
    for name in WITH_SEARCH + WITHOUT_SEARCH:
        kind = GGMLQuantizationType[name]
        found = library.quantize(source, kind)
        # Of zeros the signs differ.
        rows = source.any(axis=1)
        if name in WITHOUT_SEARCH and not np.array_equal(found[rows], quantize(source[rows], kind)):
            raise ValueError(f"{name}: the C library and the Python package differ")
        tensors[name.lower()] = torch.from_numpy(found)
    return tensors


def mlx_affine() -> dict[str, torch.Tensor]:
    """`<type>.<bits>.<group>.{values, scales, biases}`; what they are read as, for groups of 64 alone."""
    source = difficult_rows(128, 4, 0.05)
    tensors = {"source": torch.from_numpy(source)}
    for name, dtype in MLX_TYPES.items():
        weight = mx.array(source).astype(dtype)
        for bits in (2, 3, 4, 5, 6, 8):
            for group in (32, 64, 128):
                parts = mx.quantize(weight, group_size=group, bits=bits)
                key = f"{name}.{bits}.{group}"
                for part, array in zip(("values", "scales", "biases"), parts, strict=True):
                    tensors[f"{key}.{part}"] = as_bytes(array)
                if group == 64:
                    read = mx.dequantize(*parts, group_size=group, bits=bits)
                    tensors[f"{key}.decoded"] = as_bytes(read)
    return tensors


def mlx_floats() -> dict[str, torch.Tensor]:
    source = difficult_rows(128, 4, 0.05)
    tensors = {"source": torch.from_numpy(source)}
    for mode in ("mxfp4", "mxfp8", "nvfp4"):
        values, scales = mx.quantize(mx.array(source), mode=mode)
        tensors[f"{mode}.values"], tensors[f"{mode}.scales"] = as_bytes(values), as_bytes(scales)
        read = mx.dequantize(values, scales, mode=mode, dtype=mx.float32)
        tensors[f"{mode}.decoded"] = torch.from_numpy(np.array(read))
    # Every scale there is; 255 of the first and 127 and 255 of the second mode are no numbers.
    scales = np.arange(256, dtype=np.uint8)[None]
    for mode, group, words in (("mxfp4", 32, 4), ("nvfp4", 16, 2)):
        # Codes 8 to 15, the first one in the lowest bits: the negative numbers.
        values = np.full((1, 256 * words), 0xFEDCBA98, dtype=np.uint32)
        read = mx.dequantize(mx.array(values), mx.array(scales), mode=mode, dtype=mx.float32)
        tensors[f"{mode}.all_scales.values"] = as_bytes(mx.array(values))
        tensors[f"{mode}.all_scales.decoded"] = torch.from_numpy(np.array(read).reshape(256, group)[:, :8].copy())
    return tensors


def as_bytes(array: mx.array) -> torch.Tensor:
    """The bytes of each row."""
    return torch.from_numpy(np.array(array.view(mx.uint8)).copy())


def float8() -> dict[str, torch.Tensor]:
    codes = torch.arange(256, dtype=torch.uint8)
    return {
        "e4m3": codes.view(torch.float8_e4m3fn).to(torch.float32),
        "e5m2": codes.view(torch.float8_e5m2).to(torch.float32),
    }


def comfyui() -> dict[str, torch.Tensor]:
    tensors = {}
    rows = torch.tensor(KEPT_ROWS)
    tensors["rows"] = rows
    weight = normal("nvfp4", SEED, (144, 80)) * torch.exp(normal("nvfp4 rows", SEED, (144, 1)))
    factor = weight.abs().amax() / (448 * 6)
    values, scales = comfy.quantize_nvfp4(weight, factor)
    tensors |= {"nvfp4.values": values, "nvfp4.scales": scales.view(torch.uint8), "nvfp4.factor": factor.reshape(1)}
    tensors["nvfp4.decoded"] = comfy.dequantize_nvfp4(values, factor, scales, torch.float32)[rows]

    weight = normal("mxfp8", SEED, (144, 160)) * torch.exp(3 * normal("mxfp8 rows", SEED, (144, 1)))
    values, scales = comfy.quantize_mxfp8(weight)
    tensors |= {"mxfp8.values": values.view(torch.uint8), "mxfp8.scales": scales.view(torch.uint8)}
    tensors["mxfp8.decoded"] = comfy.dequantize_mxfp8(values, scales, torch.float32)[rows]

    weight = normal("int8", SEED, (6, 512)) * torch.exp(normal("int8 rows", SEED, (6, 1)))
    values, scale = comfy.quantize_int8_tensorwise(weight)
    tensors |= {"int8.values": values, "int8.factor": scale.reshape(1)}
    tensors["int8.decoded"] = comfy.dequantize_int8_simple(values, scale)
    values, scales = comfy.quantize_int8_rowwise(weight)
    tensors |= {"int8_rows.values": values, "int8_rows.scales": scales}
    tensors["int8_rows.decoded"] = comfy.dequantize_int8_simple(values, scales)
    values, scales = comfy.quantize_int8_convrot_weight(weight, 256)
    tensors |= {"int8_rotated.values": values, "int8_rotated.scales": scales}
    tensors["int8_rotated.decoded"] = comfy.dequantize_int8_convrot_weight(values, scales, 256)
    values, scales = w4a4.quantize_convrot_w4a4_weight(weight, 256)
    tensors |= {"int4_rotated.values": values, "int4_rotated.scales": scales}
    tensors["int4_rotated.decoded"] = w4a4.dequantize_convrot_w4a4_weight(values, scales, 256)
    for name, kind in (("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)):
        scale = weight.abs().amax() / torch.finfo(kind).max
        values = comfy.quantize_per_tensor_fp8(weight, scale, kind)
        tensors |= {f"{name}.values": values.view(torch.uint8), f"{name}.factor": scale.reshape(1)}
        tensors[f"{name}.decoded"] = comfy.dequantize_per_tensor_fp8(values, scale, torch.float32)
    return tensors
