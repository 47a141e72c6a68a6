"""Compares the `zimage` binary with diffusers on a model of the real width.

The tiny goldens cannot show errors that grow with width: 3840 features, 30 heads of 128, 10240 in the feed-forward,
512 channels of 32 groups in the VAE. This makes such a model with random weights and few layers, lets diffusers and
the binary make a small picture from the same seed, and prints how far the latents and the pixels are apart.

    python check_full_width.py --binary ../target/release/zimage
    python check_full_width.py --binary ../target/release/zimage --device cuda --compute bf16 --tolerance 0.05

Needs about 6 GB of memory and 3 GB of disk. Exit code 1: farther apart than `--tolerance`.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "goldens"))

import golden  # noqa: F401  (keeps the libraries offline)
import models
import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3Model
from weights import fill

SEED = 3
STORAGE = {"f32": torch.float32, "bf16": torch.bfloat16}


def main() -> int:
    arguments = parse_arguments()
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.dir or Path(scratch)
        model = folder / "model"
        if not (model / "model_index.json").exists():
            timed("made the model", lambda: make(model, arguments))
        timed("diffusers", lambda: run_diffusers(model, folder, arguments))
        gc.collect()
        if arguments.binary is None:
            print("no --binary: only the diffusers half ran")
            return 0
        timed("zimage", lambda: run_binary(model, folder, arguments))
        return compare(folder, arguments.tolerance)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="the zimage program; without it only diffusers runs")
    parser.add_argument("--dir", type=Path, help="keep model and results here; a model that is there is used again")
    parser.add_argument("--storage", choices=STORAGE, default="bf16", help="how weights are stored (computed in f32)")
    parser.add_argument("--device", default="cpu", help="where zimage computes; diffusers takes a GPU for cuda if it can")
    parser.add_argument("--compute", default="exact", help="arithmetic of zimage; diffusers computes in float32")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--refiner-layers", type=int, default=1)
    parser.add_argument("--text-layers", type=int, default=3, help="one more than are computed")
    parser.add_argument("--prompt", default="a photo of a cat sitting on a wooden table")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--guidance", type=float, default=0.0)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the latents, relative to their largest value")
    return parser.parse_args()


def timed(label: str, action) -> None:
    start = time.monotonic()
    action()
    print(f"{label}: {time.monotonic() - start:.1f} s", flush=True)


def make(folder: Path, arguments: argparse.Namespace) -> None:
    """Writes the model, one component at a time in float32, kept in the storage format."""
    storage = STORAGE[arguments.storage]
    # The published sizes; the vocabulary is the small tokenizer's, which only shortens the embedding table.
    text_config = Qwen3Config(
        vocab_size=448, hidden_size=2560, intermediate_size=9728, num_hidden_layers=arguments.text_layers,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=True,
        attention_bias=False, bos_token_id=400, eos_token_id=402,
    )
    components = {
        "transformer": lambda: ZImageTransformer2DModel(
            n_layers=arguments.layers, n_refiner_layers=arguments.refiner_layers, axes_lens=[1536, 512, 512]
        ),
        "vae": lambda: AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16, norm_num_groups=32,
            sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        "text_encoder": lambda: Qwen3Model(text_config),
    }
    made = {}
    for name, component in components.items():
        with torch.device("meta"):  # the classes' own random values would take longer than everything else
            module = component()
        module.to_empty(device="cpu")
        fill(module, SEED)
        made[name] = module.to(storage)
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=False),
        tokenizer=models.make_tokenizer(),
        **made,
    )
    pipeline.save_pretrained(folder, max_shard_size="1GB")


def run_diffusers(model: Path, folder: Path, arguments: argparse.Namespace) -> None:
    device = "cuda" if arguments.device.startswith("cuda") and torch.cuda.is_available() else "cpu"
    pipeline = ZImagePipeline.from_pretrained(model, dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    kept = {}

    def after_step(_pipeline, _index, _timestep, given):
        kept["latents"] = given["latents"].float().cpu()
        return given

    picture = pipeline(
        prompt=[arguments.prompt],
        width=arguments.width,
        height=arguments.height,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        generator=torch.Generator("cpu").manual_seed(arguments.seed),
        callback_on_step_end=after_step,
    ).images[0]
    save_file(kept, folder / "diffusers.safetensors")
    picture.save(folder / "diffusers.png")


def run_binary(model: Path, folder: Path, arguments: argparse.Namespace) -> None:
    for name in ("zimage.png", "zimage.safetensors"):
        (folder / name).unlink(missing_ok=True)
    command = [
        str(arguments.binary.resolve()), "generate", arguments.prompt, "--model", str(model),
        "--width", str(arguments.width), "--height", str(arguments.height), "--steps", str(arguments.steps),
        "--seed", str(arguments.seed), "--guidance", str(arguments.guidance),
        "--device", arguments.device, "--compute", arguments.compute,
        "--save-latents", str(folder / "zimage.safetensors"), "-o", str(folder / "zimage.png"), "-q",
    ]
    subprocess.run(command, check=True)


def compare(folder: Path, tolerance: float) -> int:
    expected = load_file(folder / "diffusers.safetensors")["latents"].double()
    found = load_file(folder / "zimage.safetensors")["latents"].double()
    if expected.shape != found.shape:
        print(f"latents: expected {tuple(expected.shape)}, found {tuple(found.shape)}")
        return 1
    difference = (expected - found).abs()
    relative = (difference.max() / expected.abs().max()).item()
    cosine = torch.nn.functional.cosine_similarity(expected.flatten(), found.flatten(), dim=0).item()
    pixels = np.abs(pixels_of(folder / "diffusers.png") - pixels_of(folder / "zimage.png"))
    report = {
        "latents_max_abs": difference.max().item(),
        "latents_max_rel": relative,
        "latents_rms_rel": (difference.square().mean().sqrt() / expected.square().mean().sqrt()).item(),
        "latents_cosine": cosine,
        "pixels_max": int(pixels.max()),
        "pixels_differing": float((pixels > 0).mean()),
    }
    print(json.dumps(report, indent=2))
    return 0 if relative <= tolerance else 1


def pixels_of(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB")).astype(np.int32)


if __name__ == "__main__":
    sys.exit(main())
