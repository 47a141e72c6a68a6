"""Runs the models of diffusers and transformers on a GPU, in a process that stays; `compare_gpu.py` starts it and asks.

Each line on stdin is a JSON object, `{"prepare": NAME}` or `{"run": NAME}`, and each is answered by one on stdout. What is
prepared has run before, so that it is compiled, tuned and in memory. NAMEs are those of `CONFIGURATIONS`, which run the loop of
diffusers' pipeline, and of `STAGES`. Every configuration has modules of its own around the same weights.

Weights are random, which takes the same time. They are made on the device.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
from gpu_configurations import CONFIGURATIONS, STAGES, Configuration
from torch import nn
from transformers import Qwen3Config, Qwen3Model

CAPTION_TOKENS = 60
# What the pipeline pads a prompt to.
PROMPT_TOKENS = 512
F8_LARGEST = 448.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=int, default=1024, help="width and height")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--limit", type=int, default=300, help="seconds that preparing one configuration may take")
    parser.add_argument("--tiny", action="store_true", help="few features and layers, to try this")
    arguments = parser.parse_args()
    # Answers alone go to stdout: libraries print too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    # Configurations share the code of a block, and each compiles it anew.
    torch._dynamo.config.cache_size_limit = 64
    peer = Peer(arguments)
    answer(answers, peer.describe())
    for line in sys.stdin:
        answer(answers, peer.ask(json.loads(line)))


def answer(file, value: dict) -> None:
    file.write(json.dumps(value) + "\n")
    file.flush()


class Peer:
    """The weights, and everything that was prepared."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        self.transformer = self.made(lambda: ZImageTransformer2DModel(**transformer_config(arguments.tiny)))
        self.prepared: dict[str, Callable[[], torch.Tensor]] = {}

    def describe(self) -> dict:
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "diffusers": diffusers.__version__,
                    "transformers": transformers.__version__, "cuda": torch.version.cuda}
        is_gpu = self.device.type == "cuda"
        return {"versions": versions, "device": torch.cuda.get_device_name(self.device) if is_gpu else "cpu"}

    def ask(self, wish: dict) -> dict:
        """What cannot be done is an answer, with its reason."""
        try:
            if "prepare" in wish:
                return self.prepare(wish["prepare"])
            return {"seconds": self.seconds(self.prepared[wish["run"]])}
        except Exception as error:
            traceback.print_exc()
            return {"missing": f"{type(error).__name__}: {first_line(error)}"}

    def prepare(self, name: str) -> dict:
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(self.arguments.limit)
        try:
            run = self.stage(name) if name in STAGES else self.loop(CONFIGURATIONS[name])
            first = self.seconds(run)
            # Compilers may need a second run to settle.
            self.seconds(run)
        finally:
            signal.alarm(0)
        self.prepared[name] = run
        return {"first_seconds": first}

    def seconds(self, run: Callable[[], torch.Tensor]) -> float:
        self.wait()
        start = time.perf_counter()
        result = run()
        self.wait()
        seconds = time.perf_counter() - start
        if not torch.isfinite(result).all():
            raise ArithmeticError("the result is not finite")
        return seconds

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def made(self, make: Callable[[], nn.Module]) -> nn.Module:
        """A module with random weights in bf16."""
        with torch.device("meta"):
            module = make()
        module = module.to(torch.bfloat16).to_empty(device=self.device).eval()
        for name, parameter in module.named_parameters():
            is_norm = "norm" in name and parameter.dim() == 1 and name.endswith("weight")
            parameter.fill_(1.0) if is_norm else parameter.normal_(std=0.02)
        return module

    def loop(self, configuration: Configuration) -> Callable[[], torch.Tensor]:
        """The steps of a picture, as the pipeline of diffusers runs them."""
        model = self.configured(configuration)
        side = self.arguments.size // 8
        noise = torch.randn(1, 16, side, side, device=self.device)
        caption = torch.randn(CAPTION_TOKENS, model.config.cap_feat_dim, device=self.device, dtype=torch.bfloat16)
        forward = torch.compile(model, mode=configuration.mode) if configuration.whole else model
        if configuration.mode is not None and not configuration.whole:
            model.compile_repeated_blocks(mode=configuration.mode)

        def run() -> torch.Tensor:
            scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
            scheduler.set_timesteps(self.arguments.steps, device=self.device)
            scheduler.set_begin_index(0)
            latents = noise
            for t in scheduler.timesteps:
                torch.compiler.cudagraph_mark_step_begin()
                given = [latents.to(torch.bfloat16)[0].unsqueeze(1)]
                time_left = (1000 - t.expand(1)) / 1000
                found = forward(given, time_left, [caption], return_dict=False)[0]
                velocity = -torch.stack([one.float() for one in found]).squeeze(2)
                latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
            return latents

        return run

    def configured(self, configuration: Configuration) -> nn.Module:
        with torch.device("meta"):
            model = ZImageTransformer2DModel(**transformer_config(self.arguments.tiny)).eval()
        model.load_state_dict(self.transformer.state_dict(), assign=True)
        model.set_attention_backend(configuration.attention)
        if configuration.fp8:
            for block in [*model.noise_refiner, *model.context_refiner, *model.layers]:
                for part in (block.attention, block.feed_forward):
                    replace_linears(part)
        return model

    def stage(self, name: str) -> Callable[[], torch.Tensor]:
        if name == "vae_decode":
            vae = self.made(lambda: AutoencoderKL(**vae_config(self.arguments.tiny)))
            side = self.arguments.size // 8
            latents = torch.randn(1, 16, side, side, device=self.device, dtype=torch.bfloat16)
            return lambda: vae.decode(latents, return_dict=False)[0]
        encoder = self.made(lambda: Qwen3Model(Qwen3Config(**text_config(self.arguments.tiny))))
        # The angles of the rotation are no parameters.
        encoder.rotary_emb = type(encoder.rotary_emb)(encoder.config).to(self.device)
        ids = torch.randint(encoder.config.vocab_size, (1, PROMPT_TOKENS), device=self.device)
        mask = torch.arange(PROMPT_TOKENS, device=self.device)[None] < CAPTION_TOKENS
        return lambda: encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-2][mask]


def transformer_config(tiny: bool) -> dict:
    if not tiny:
        return {"axes_lens": [1536, 512, 512]}
    return {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "n_refiner_layers": 1, "cap_feat_dim": 128,
            "axes_lens": [1536, 512, 512]}


def vae_config(tiny: bool) -> dict:
    channels = (32, 32) if tiny else (128, 256, 512, 512)
    return {
        "down_block_types": ("DownEncoderBlock2D",) * len(channels), "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "block_out_channels": channels, "layers_per_block": 2, "latent_channels": 16, "norm_num_groups": 32,
        "sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False,
        "use_post_quant_conv": False,
    }


def text_config(tiny: bool) -> dict:
    sizes = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
             "num_key_value_heads": 8, "vocab_size": 151936}
    if tiny:
        sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "num_key_value_heads": 1, "vocab_size": 448}
    return sizes | {
        "head_dim": 128, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "attention_bias": False,
    }


def replace_linears(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Fp8Linear(child))
        else:
            replace_linears(child)


class Fp8Linear(nn.Module):
    """A Linear layer in 8-bit floats, with a scale per row of both factors."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = in_8_bits(linear.weight.data)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, scale = in_8_bits(x.flatten(0, -2))
        y = torch._scaled_mm(rows, self.weight.t(), scale_a=scale, scale_b=self.scale.t(), bias=self.bias, out_dtype=x.dtype)
        return y.unflatten(0, x.shape[:-1])


def in_8_bits(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = (rows.abs().amax(dim=1, keepdim=True).float() / F8_LARGEST).clamp(min=1e-12)
    return (rows.float() / scale).to(torch.float8_e4m3fn), scale


def give_up(_signal, _frame) -> None:
    raise TimeoutError("it took too long to prepare")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


if __name__ == "__main__":
    main()
