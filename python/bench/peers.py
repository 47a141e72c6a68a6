"""Measures one peer on the shapes of Z-Image and prints a JSON object; `compare.py` runs it, each peer in a process of its own.

    python peers.py torch-f32 --stages step text_encoder vae_decode --sizes 256 512 [--threads 1] [--blocks 2]

A `step` is one forward of diffusers' `ZImageTransformer2DModel` of the real width with a caption of 60 tokens; a `text_encoder`
is transformers' `Qwen3Model` on 60 tokens, without the padding to 512 that the pipeline of diffusers adds and without the last
layer, which Z-Image does not need; a `vae_decode` is diffusers' `AutoencoderKL`, whole.

30 blocks in float32 are 21 GB. So the model has its four refiner blocks and `--blocks` of the 30 main ones, each with weights
of its own: a block has 0.7 GB (0.2 GB in 8 bits), so that no cache keeps it from one block to the next. The whole forward runs;
the main blocks are timed one by one, and their mean counts 30 times (35 times for the layers of the text encoder).
Weights are random, which takes the same time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from torch import nn
from transformers import Qwen3Config, Qwen3Model

CAPTION_TOKENS = 60
MAIN_BLOCKS = 30
TEXT_LAYERS = 35
PROGRAMS = ("torch-f32", "torch-bf16", "torch-int8", "torch-dynamic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="width and height")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=2, help="main blocks that the model has")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    found = {"program": arguments.program, "versions": {"torch": torch.__version__}, "stages": []}
    for stage in arguments.stages:
        found["stages"] += STAGES[stage](arguments)
    found["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


def measure_step(arguments: argparse.Namespace) -> list[dict]:
    model = ZImageTransformer2DModel(n_layers=arguments.blocks, axes_lens=[1536, 512, 512]).eval()
    for token in (model.x_pad_token, model.cap_pad_token):
        token.data.normal_()
    error = convert(model, [*model.noise_refiner, *model.context_refiner, *model.layers], arguments.program)
    caption, timestep = torch.randn(CAPTION_TOKENS, 2560).to(model.dtype), torch.tensor([0.5])

    def step(size: int) -> float:
        latents = torch.randn(16, 1, size // 8, size // 8).to(model.dtype)
        return scaled_seconds(model.layers, MAIN_BLOCKS, lambda: model([latents], timestep, [caption]))

    step(min(arguments.sizes))  # oneDNN compiles its kernels in the first call
    return [{"name": "step", "size": size, "cpu_s": step(size), "error": error} for size in arguments.sizes]


def measure_text_encoder(arguments: argparse.Namespace) -> list[dict]:
    # The published sizes but for the vocabulary: the embedding is a look-up of 60 rows.
    config = Qwen3Config(
        vocab_size=448, hidden_size=2560, intermediate_size=9728, num_hidden_layers=arguments.blocks,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=True, attention_bias=False,
    )
    model = Qwen3Model(config).eval()
    error = convert(model, list(model.layers), arguments.program)
    ids = torch.randint(config.vocab_size, (1, CAPTION_TOKENS))

    def encode() -> float:
        return scaled_seconds(model.layers, TEXT_LAYERS, lambda: model(input_ids=ids, use_cache=False))

    encode()
    seconds = sorted(encode() for _ in range(5))[2]
    return [{"name": "text_encoder", "size": None, "cpu_s": seconds, "error": error}]


def measure_vae_decode(arguments: argparse.Namespace) -> list[dict]:
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16, norm_num_groups=32,
        sample_size=1024, use_quant_conv=False, use_post_quant_conv=False,
    ).eval()
    if arguments.program == "torch-bf16":
        model.bfloat16()

    def decode(size: int) -> float:
        latents = torch.randn(1, 16, size // 8, size // 8).to(model.dtype)
        start = time.process_time()
        model.decode(latents)
        return time.process_time() - start

    decode(64)
    return [{"name": "vae_decode", "size": size, "cpu_s": decode(size), "error": 0.0} for size in arguments.sizes]


STAGES = {"step": measure_step, "text_encoder": measure_text_encoder, "vae_decode": measure_vae_decode}


def scaled_seconds(layers: nn.ModuleList, count: int, forward: Callable[[], object]) -> float:
    """CPU-seconds of `forward` if there were `count` of `layers`."""
    in_layers, started = 0.0, 0.0

    def enter(*_) -> None:
        nonlocal started
        started = time.process_time()

    def leave(*_) -> None:
        nonlocal in_layers
        in_layers += time.process_time() - started

    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    start = time.process_time()
    forward()
    total = time.process_time() - start
    for hook in hooks:
        hook.remove()
    return total - in_layers + in_layers * count / len(layers)


def convert(model: nn.Module, blocks: list[nn.Module], program: str) -> float:
    """Gives `model` the number format of `program`, 8 bits in the Linear layers of `blocks` alone.

    Returns the relative error that one of these layers then has.
    """
    linears = [name for name, module in blocks[0].named_modules() if type(module) is nn.Linear]
    # The layer from the model's width to the wide one of the feed-forward, whichever name the model gives it.
    probed = max(linears, key=lambda name: blocks[0].get_submodule(name).out_features)
    given = torch.randn(CAPTION_TOKENS, blocks[0].get_submodule(probed).in_features)
    expected = blocks[0].get_submodule(probed)(given)
    if program == "torch-int8":
        for block in blocks:
            replace_linears(block)
    elif program == "torch-dynamic":
        for block in blocks:
            torch.ao.quantization.quantize_dynamic(block, {nn.Linear}, torch.qint8, inplace=True)
    elif program == "torch-bf16":
        model.bfloat16()
    found = blocks[0].get_submodule(probed)(given.to(model.dtype)).float()
    return ((found - expected).norm() / expected.norm()).item()


def replace_linears(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, OneDnnLinear(child))
        else:
            replace_linears(child)


class OneDnnLinear(nn.Module):
    """A Linear layer in 8 bits: signed weights with a scale per output, unsigned activations with one scale per call."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = None if linear.bias is None else linear.bias.data
        self.scales = linear.weight.abs().amax(dim=1) / 127
        codes = (linear.weight / self.scales[:, None]).round().to(torch.int8)
        self.zeros = torch.zeros(linear.out_features, dtype=torch.int64)
        # oneDNN lays the weight out for a number of rows; this one is within 3 % of the best for 60 to 1088.
        self.packed = torch.ops.onednn.qlinear_prepack(codes, [1024, linear.in_features])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high = (value.item() for value in torch.aminmax(x))
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / 255, 1e-12)
        zero = min(max(round(-low / scale), 0), 255)
        codes = torch.quantize_per_tensor(x, scale, zero, torch.quint8).int_repr()
        return torch.ops.onednn.qlinear_pointwise(
            codes, scale, zero, self.packed, self.scales, self.zeros, self.bias, 1.0, 0, torch.float32, "none", [], "",
        )


if __name__ == "__main__":
    main()
