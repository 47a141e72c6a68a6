"""How goldens are written: where they came from is stored inside each file, and the bytes are reproducible.

Tensors go to `.safetensors` files, whose header metadata has one key, `provenance`, with a JSON text. (One key,
because the order of several is not fixed by the writer.) Ids, bit patterns and parameters go to `.json` files with
a `provenance` object. Pictures go to `.png` files beside a `.json` that describes them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from safetensors.torch import save_file

LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "numpy", "pillow")


def make_deterministic() -> None:
    """One thread and deterministic algorithms: the order of every sum is then fixed."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)


def provenance(seed: int | None) -> dict[str, Any]:
    """What made a golden. `seed` is that of the random inputs, None where nothing is random."""
    return {
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "seed": seed,
    }


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], seed: int | None, **more: Any) -> None:
    """Writes tensors under their names, sorted; `more` is added to the provenance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensors[name].detach().clone().contiguous() for name in sorted(tensors)}
    save_file(plain, path, metadata={"provenance": json.dumps({**provenance(seed), **more}, sort_keys=True)})
    path.chmod(0o644)  # the writer makes it private


def write_json(path: Path, content: dict[str, Any], seed: int | None) -> None:
    """Writes JSON: one entry of a top-level list a line, so that differences are readable and the file is small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for key, value in {"provenance": provenance(seed), **content}.items():
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            entries = ",\n".join("    " + compact(entry) for entry in value)
            lines.append(f"  {json.dumps(key)}: [\n{entries}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {compact(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def compact(value: Any) -> str:
    # ASCII only: combining characters and joiners must survive every editor.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def hex_f32(values: torch.Tensor | np.ndarray) -> list[str]:
    """The bit patterns of f32 values, 8 hexadecimal digits each, most significant first."""
    array = np.ascontiguousarray(np.asarray(values)).reshape(-1)
    if array.dtype != np.float32:
        raise TypeError(f"expected float32 values, found {array.dtype}")
    return [f"{bits:08x}" for bits in array.view(np.uint32).tolist()]


def normal(name: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal f32 values from NumPy's PCG64, its own stream for every name.

    NumPy rather than torch, so that weights and inputs do not depend on the vector instructions of the machine.
    """
    stream = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return torch.from_numpy(stream.standard_normal(shape, dtype=np.float32))
