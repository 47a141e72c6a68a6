"""The quantizers of ggml itself: its C library, as the wheel of `pywhispercpp` carries it.

The wheel's library is compiled for plain x86-64, without fused multiply-adds, so that its bytes are those of the
source's order of operations.
"""

from __future__ import annotations

import ctypes
from importlib.metadata import distribution

import numpy as np
from gguf import GGMLQuantizationType


class Ggml:
    def __init__(self) -> None:
        files = distribution("pywhispercpp").files or []
        found = [file for file in files if "libggml-base" in file.name and "pywhispercpp.libs" in file.parts]
        if len(found) != 1:
            raise FileNotFoundError(f"expected one libggml-base in pywhispercpp, found {found}")
        self.library = ctypes.CDLL(str(found[0].locate()))
        self.library.ggml_version.restype = ctypes.c_char_p
        self.library.ggml_row_size.restype = ctypes.c_size_t
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t

    def version(self) -> str:
        return self.library.ggml_version().decode()

    def quantize(self, source: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
        """The rows of `source` (rows, columns) float32 as the bytes of their blocks, without an importance matrix."""
        rows, columns = source.shape
        source = np.ascontiguousarray(source, dtype=np.float32)
        row_size = self.library.ggml_row_size(ctypes.c_int(int(kind)), ctypes.c_int64(columns))
        target = np.zeros((rows, row_size), dtype=np.uint8)
        written = self.library.ggml_quantize_chunk(
            ctypes.c_int(int(kind)),
            source.ctypes.data_as(ctypes.c_void_p),
            target.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(0),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            None,
        )
        if written != target.size:
            raise ValueError(f"{kind.name}: {written} bytes written, expected {target.size}")
        return target
