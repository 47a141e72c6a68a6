"""What `gpu_peers.py` can run. Apart from it, because `compare_gpu.py` may run where its libraries are not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """How a transformer runs: diffusers' name of the attention, torch.compile's mode if it is compiled, and whether the blocks
    or all of it is. `fp8` multiplies the layers of blocks in 8 bits, with a scale per token and per channel."""

    attention: str = "native"
    mode: str | None = None
    whole: bool = False
    fp8: bool = False


TUNED = "max-autotune-no-cudagraphs"
CONFIGURATIONS = {
    "eager, SDPA": Configuration(),
    "eager, SDPA by cuDNN": Configuration("_native_cudnn"),
    "eager, SDPA's flash": Configuration("_native_flash"),
    "eager, flash-attn 2": Configuration("flash"),
    "eager, flash-attn 2 of the hub": Configuration("flash_hub"),
    "eager, flash-attn 3": Configuration("_flash_3"),
    "eager, flash-attn 3 of the hub": Configuration("_flash_3_hub"),
    "compiled blocks, tuned, SDPA": Configuration(mode=TUNED),
    "compiled blocks, tuned, SDPA by cuDNN": Configuration("_native_cudnn", TUNED),
    "compiled blocks, tuned, flash-attn 3": Configuration("_flash_3", TUNED),
    "compiled whole, CUDA graphs, SDPA": Configuration(mode="reduce-overhead", whole=True),
    "compiled whole, CUDA graphs, SDPA by cuDNN": Configuration("_native_cudnn", "reduce-overhead", whole=True),
    "compiled blocks, tuned, SDPA, fp8": Configuration(mode=TUNED, fp8=True),
}
STAGES = ("text_encoder", "vae_decode")
