"""torch's CPU generator: what a seed gives, as bit patterns.

`torch.randn` computes with the machine's vector instructions where there are at least 16 values, so the last bit of
`randn` depends on `provenance.cpu_capability`; the raw outputs do not.
"""

from __future__ import annotations

from pathlib import Path

import torch

from golden import hex_f32, write_json

SEEDS = (0, 42, 2**32 - 1, 2**32 + 5, 5)
SIZES = (1, 7, 15, 16, 17, 37, 1024)
RAW_COUNT = 1300  # more than two states of 624 words


def build(out: Path) -> None:
    write_json(
        out / "noise" / "noise.json",
        {
            "raw": [{"seed": seed, "outputs": raw(seed, RAW_COUNT if seed == 42 else 8)} for seed in SEEDS],
            "randn": [{"seed": seed, "size": n, "values": hex_f32(randn(seed, n))} for seed in SEEDS for n in SIZES],
            "latents": [{"seed": 42, "shape": [1, 16, 8, 8], "values": hex_f32(randn(42, 1, 16, 8, 8))}],
            "successive": [successive(sizes) for sizes in ((3, 4), (7, 7, 2), (5, 32, 3), (37, 16), (64, 64), (1, 17, 1))],
        },
        seed=None,
    )


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float32)


def raw(seed: int, count: int) -> list[int]:
    # Over the full range of int64 one value is two 32-bit outputs as they come, the first one above the second.
    values = torch.empty(count // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator(seed))
    return [half for value in values.tolist() for half in ((value >> 32) & 0xFFFFFFFF, value & 0xFFFFFFFF)]


def successive(sizes: tuple[int, ...]) -> dict:
    """Several draws from one generator: fewer than 16 values leave a cached half of a pair behind."""
    source = generator(42)
    draws = [hex_f32(torch.randn(size, generator=source)) for size in sizes]
    return {"seed": 42, "sizes": list(sizes), "draws": draws}
