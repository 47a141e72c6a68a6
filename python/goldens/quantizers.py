"""Weights as the real libraries quantize and store them, and what those make of them again.

Every function takes a float32 matrix and returns the tensors by the ends of their names, `weight` among them, and the
dequantized float32 matrix. Where a library dequantizes to the type of its scales, the scales are widened first, so that
the arithmetic is float32: that is what the program computes with.
"""

from __future__ import annotations

import ctypes
import json
from importlib.util import find_spec
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import torch
from comfy_kitchen.tensor.convrot_w4a4 import TensorCoreConvRotW4A4Layout
from comfy_kitchen.tensor.fp8 import TensorCoreFP8Layout
from comfy_kitchen.tensor.int8 import TensorWiseINT8Layout
from comfy_kitchen.tensor.mxfp8 import TensorCoreMXFP8Layout
from comfy_kitchen.tensor.nvfp4 import TensorCoreNVFP4Layout

Stored = dict[str, torch.Tensor]

# The other modes of `mx.quantize`: bits and group.
MLX_MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}


def from_mlx(array: mx.array) -> torch.Tensor:
    if array.dtype == mx.bfloat16:
        return torch.from_numpy(np.array(array.view(mx.uint16)).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def mlx_affine(weight: torch.Tensor, bits: int, group: int, dtype: mx.Dtype) -> tuple[Stored, torch.Tensor]:
    words, scales, biases = mx.quantize(mx.array(weight.numpy()).astype(dtype), group_size=group, bits=bits)
    wide = (scales.astype(mx.float32), biases.astype(mx.float32))
    back = mx.dequantize(words, *wide, group_size=group, bits=bits)
    return {"weight": from_mlx(words), "scales": from_mlx(scales), "biases": from_mlx(biases)}, from_mlx(back)


def mlx_float(weight: torch.Tensor, mode: str) -> tuple[Stored, torch.Tensor]:
    bits, group = MLX_MODES[mode]
    options = dict(group_size=group, bits=bits, mode=mode)
    words, scales = mx.quantize(mx.array(weight.numpy()).astype(mx.bfloat16), **options)
    back = mx.dequantize(words, scales, dtype=mx.float32, **options)
    return {"weight": from_mlx(words), "scales": from_mlx(scales)}, from_mlx(back)


def cast_fp8(weight: torch.Tensor, dtype: torch.dtype) -> tuple[Stored, torch.Tensor]:
    """Plain 8-bit floats, without scales."""
    stored = weight.to(dtype)
    return {"weight": stored}, stored.float()


def scaled_fp8(weight: torch.Tensor, dtype: torch.dtype) -> tuple[Stored, torch.Tensor]:
    """ComfyUI's older convention: `scale_weight` and `scale_input`. A tensor `scaled_fp8` marks the file."""
    stored, back = comfy(weight, TensorCoreFP8Layout, "", dtype=dtype)
    return {"weight": stored["weight"], "scale_weight": stored["weight_scale"], "scale_input": torch.tensor(0.5)}, back


def comfy(weight: torch.Tensor, layout: type, name: str, note: dict | None = None, **options) -> tuple[Stored, torch.Tensor]:
    """A layout of comfy-kitchen, with the note that ComfyUI stores beside it."""
    values, params = layout.quantize(weight, **options)
    stored = {f"weight{end}": tensor for end, tensor in layout.state_dict_tensors(values, params).items()}
    if name:
        stored["comfy_quant"] = note_tensor({"format": name, **(note or {})})
    return stored, layout.dequantize(values, params).float()


def note_tensor(note: dict) -> torch.Tensor:
    return torch.tensor(list(json.dumps(note).encode()), dtype=torch.uint8)


def comfy_fp8(weight: torch.Tensor, dtype: torch.dtype) -> tuple[Stored, torch.Tensor]:
    name = {torch.float8_e4m3fn: "float8_e4m3fn", torch.float8_e5m2: "float8_e5m2"}[dtype]
    stored, back = comfy(weight, TensorCoreFP8Layout, name, {"full_precision_matrix_mult": False}, dtype=dtype)
    return {**stored, "input_scale": torch.tensor(0.25)}, back


def comfy_fp8_bytes(weight: torch.Tensor, dtype: torch.dtype) -> tuple[Stored, torch.Tensor]:
    """The same with the bytes of the weight as unsigned numbers."""
    stored, back = comfy_fp8(weight, dtype)
    return {**stored, "weight": stored["weight"].view(torch.uint8)}, back


def comfy_mxfp8(weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    stored, back = comfy(weight, TensorCoreMXFP8Layout, "mxfp8")
    return stored, back


def comfy_mxfp8_bytes(weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    """ComfyUI itself stores the scales as unsigned numbers."""
    stored, back = comfy_mxfp8(weight)
    return {**stored, "weight_scale": stored["weight_scale"].view(torch.uint8)}, back


def comfy_nvfp4(weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    return comfy(weight, TensorCoreNVFP4Layout, "nvfp4")


def comfy_nvfp4_nested(weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    """The scales as unsigned numbers, and everything but the format below `params`."""
    stored, back = comfy(weight, TensorCoreNVFP4Layout, "nvfp4", {"params": {"full_precision_matrix_mult": True}})
    return {**stored, "weight_scale": stored["weight_scale"].view(torch.uint8)}, back


def comfy_int8(weight: torch.Tensor, **options) -> tuple[Stored, torch.Tensor]:
    rotated = {"convrot": True, "convrot_groupsize": 256} if options.get("convrot") else {}
    return comfy(weight, TensorWiseINT8Layout, "int8_tensorwise", rotated, **options)


def comfy_w4a4(weight: torch.Tensor) -> tuple[Stored, torch.Tensor]:
    return comfy(weight, TensorCoreConvRotW4A4Layout, "convrot_w4a4", {"convrot_groupsize": 256})


def ggml_library() -> ctypes.CDLL:
    """ggml itself, as the package pywhispercpp brings it: the package `gguf` cannot encode all formats."""
    package = Path(find_spec("_pywhispercpp").origin).parent
    library = ctypes.CDLL(str(package / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]
    return library


def ggml(weight: torch.Tensor, name: str) -> tuple[np.ndarray, torch.Tensor]:
    """The bytes of a GGUF tensor. The formats of whole numbers come from ggml, the floats from the package `gguf`."""
    kind = gguf.GGMLQuantizationType[name]
    values = np.ascontiguousarray(weight.numpy(), dtype=np.float32)
    if name in ("F32", "F16", "BF16"):
        data = gguf.quants.quantize(values, kind)
    else:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = values.shape
        data = np.zeros((rows, columns // block * size), dtype=np.uint8)
        written = ggml_library().ggml_quantize_chunk(
            int(kind), values.ctypes.data, data.ctypes.data, 0, rows, columns, None
        )
        if written != data.nbytes:
            raise ValueError(f"ggml wrote {written} bytes of {name}, expected {data.nbytes}")
    return data, torch.from_numpy(np.ascontiguousarray(gguf.quants.dequantize(data, kind), dtype=np.float32))


def fits(columns: int, name: str) -> bool:
    """Whether rows of so many values are whole blocks."""
    return columns % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][0] == 0
