"""Quantizes the demo model in every format with the real libraries, and compares the pictures with those of bf16.

    python check_formats.py --binary ../target/release/zimage [--only NAME ...] [--keep DIRECTORY]

Prints, per format, the size of the transformer and how close the pictures are: the correlation and the PSNR over all of
them. Everything is written to a temporary directory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "goldens"))

import gguf
import mlx.core as mx
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import quantizers as q
from formats import native

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo"
PROMPTS = (
    "a red circle", "a small blue house on a meadow", "a yellow star at night", "a green tree and a purple boat",
    "a big orange fish in the sea", "a pink heart on a white background",
)
# Correlation of the pictures with those of bf16. A packing that is read wrongly gives noise, which is near 0.
LEAST = {"8": 0.99, "other": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--only", action="append", help="check this format only; may be repeated")
    parser.add_argument("--keep", type=Path, help="leave the models here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        reference = pictures(arguments.binary, [], folder / "bf16-pictures")
        worst = check(arguments, folder, reference)
    sys.exit(1 if worst else 0)


def check(arguments: argparse.Namespace, folder: Path, reference: np.ndarray) -> list[str]:
    failed = []
    print(f"{'format':<22} {'MB':>6} {'correlation':>12} {'PSNR dB':>8}")
    for name, write in writers().items():
        if arguments.only and name not in arguments.only:
            continue
        model = folder / name
        model.mkdir(parents=True, exist_ok=True)
        flags, weights = write(model)
        found = pictures(arguments.binary, flags, folder / f"{name}-pictures")
        correlation = np.corrcoef(reference.ravel(), found.ravel())[0, 1]
        error = np.mean((reference - found) ** 2)
        noise = 10 * np.log10(255**2 / error) if error else float("inf")
        size = weights.stat().st_size / 1e6
        print(f"{name:<22} {size:>6.2f} {correlation:>12.5f} {noise:>8.2f}", flush=True)
        if correlation < LEAST["8" if "8" in name else "other"]:
            failed.append(name)
    if failed:
        print("too far from bf16: " + ", ".join(failed))
    return failed


def pictures(binary: Path, flags: list[str], folder: Path) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS) + "\n")
    command = [str(binary), "generate", "--prompt-file", str(prompts), "--seed", "7", "--json", "--device", "cpu", "--width", "128", "--height", "128"]
    command += ["-o", str(folder / "{index}.png"), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    files = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(file).convert("RGB"), dtype=np.float64) for file in files])


def writers():
    """By the name of a format: writes a model into a directory, and returns the flags that open it and its weights."""
    every = {}
    for bits in (8, 6, 5, 4, 3, 2):
        every[f"mlx-affine-{bits}"] = partial(
            mlx_directory, quantizer=partial(q.mlx_affine, bits=bits, group=64, dtype=mx.float16)
        )
    for mode in q.MLX_MODES:
        every[f"mlx-{mode}"] = partial(mlx_directory, quantizer=partial(q.mlx_float, mode=mode))
    for kind in ("Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "Q3_K", "Q2_K"):
        every[f"gguf-{kind.lower()}"] = partial(gguf_file, kind=kind)
    e4m3 = torch.float8_e4m3fn
    comfy = {
        "cast-fp8": partial(q.cast_fp8, dtype=e4m3),
        "scaled-fp8": partial(q.scaled_fp8, dtype=e4m3),
        "fp8": partial(q.comfy_fp8, dtype=e4m3),
        "mxfp8": q.comfy_mxfp8,
        "int8": q.comfy_int8,
        "int8-rows": partial(q.comfy_int8, per_channel=True),
        "int8-convrot": partial(q.comfy_int8, per_channel=True, convrot=True),
        "nvfp4": q.comfy_nvfp4,
        "convrot-w4a4": q.comfy_w4a4,
    }
    for name, quantizer in comfy.items():
        every[f"comfyui-{name}"] = partial(comfy_file, quantizer=quantizer, rotated="convrot" in name)
    return every


def part(name: str, file: str) -> dict[str, torch.Tensor]:
    return load_file(DEMO / name / file)


def transformer() -> dict[str, torch.Tensor]:
    return part("transformer", "diffusion_pytorch_model.safetensors")


def borrowed() -> list[str]:
    """The other parts come from the demo model."""
    return ["--text-encoder", str(DEMO), "--vae", str(DEMO), "--tokenizer", str(DEMO)]


def mlx_directory(folder: Path, quantizer) -> tuple[list[str], Path]:
    """The original application's directory: every matrix whose rows are whole groups, the text encoder's as well."""
    tensors = {mlx_name(name): tensor for name, tensor in transformer().items() if not name.endswith("pad_token")}
    save_file(quantized(tensors, quantizer, 64), folder / "weights.safetensors")
    text = {name.removeprefix("model."): tensor for name, tensor in part("text_encoder", "model.safetensors").items()}
    save_file(quantized(text, quantizer, 64), folder / "text_encoder.safetensors")
    vae = part("vae", "diffusion_pytorch_model.safetensors")
    vae = {vae_name(name): channels_last(tensor).half() for name, tensor in vae.items()}
    save_file(vae, folder / "vae.safetensors")
    config = json.loads((DEMO / "transformer" / "config.json").read_text())
    renamed = {
        "hidden_size": config["dim"], "num_attention_heads": config["n_heads"], "intermediate_size": 512,
        "num_hidden_layers": config["n_layers"], "text_embed_dim": config["cap_feat_dim"], "patch_size": 2,
        **{key: config[key] for key in ("n_refiner_layers", "in_channels", "rope_theta", "axes_dims", "axes_lens")},
        "precision": "FP8",
    }
    (folder / "config.json").write_text(json.dumps(renamed))
    shutil.copy(DEMO / "text_encoder" / "config.json", folder / "text_encoder_config.json")
    shutil.copy(DEMO / "vae" / "config.json", folder / "vae_config.json")
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(DEMO / name, folder / name, dirs_exist_ok=True)
    return ["-m", str(folder), "--pad-tokens-from", str(DEMO)], folder / "weights.safetensors"


def quantized(tensors: dict[str, torch.Tensor], quantizer, block: int) -> dict[str, torch.Tensor]:
    stored = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and name.endswith(".weight") and tensor.shape[1] % block == 0:
            ends, _ = quantizer(tensor.float())
            stored.update({f"{name.removesuffix('weight')}{end}": value for end, value in ends.items()})
        else:
            stored[name] = tensor.half()
    return {name: tensor.contiguous() for name, tensor in stored.items()}


def mlx_name(name: str) -> str:
    for old, new in (
        ("all_x_embedder.2-1.", "x_embedder."), ("all_final_layer.2-1.", "final_layer."), (".to_out.0.", ".to_out."),
        ("t_embedder.mlp.", "t_embedder.mlp.layers."), ("cap_embedder.", "cap_embedder.layers."),
        (".adaLN_modulation.0.", ".adaLN_modulation."), (".adaLN_modulation.1.", ".adaLN_modulation."),
    ):
        name = name.replace(old, new)
    return name


def vae_name(name: str) -> str:
    for half in ("encoder", "decoder"):
        for old, new in (("resnets.1.", "layers.2."), ("resnets.0.", "layers.0."), ("attentions.0.", "layers.1.")):
            name = name.replace(f"{half}.mid_block.{old}", f"{half}.mid_block.{new}")
    for old, new in (
        (".resnets.", ".layers."), (".downsamplers.0.", ".layers.1."), (".upsamplers.0.", ".layers.2."),
        (".to_out.0.", ".to_out."),
    ):
        name = name.replace(old, new)
    return name


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.permute(0, 2, 3, 1).contiguous() if tensor.dim() == 4 else tensor


def comfy_file(folder: Path, quantizer, rotated: bool) -> tuple[list[str], Path]:
    path = folder / "z_image.safetensors"
    tensors = native(transformer())
    # Embedders and the last layer stay, as in published files; their columns need not fit either.
    keep = {name: tensor for name, tensor in tensors.items() if not name.startswith(("layers.", "noise_", "context_"))}
    rest = {name: tensor for name, tensor in tensors.items() if name not in keep}
    stored = {**{name: tensor.contiguous() for name, tensor in keep.items()}, **quantized(rest, quantizer, 256 if rotated else 64)}
    if any(name.endswith(".scale_weight") for name in stored):
        stored["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file({name: tensor.clone() for name, tensor in stored.items()}, path)
    shutil.copy(DEMO / "transformer" / "config.json", folder)
    return ["-m", str(path), *borrowed()], path


def gguf_file(folder: Path, kind: str) -> tuple[list[str], Path]:
    path = folder / "z_image.gguf"
    writer = gguf.GGUFWriter(path, arch="lumina2")
    for name, tensor in native(transformer()).items():
        kept = tensor.dim() < 2 or name.endswith("pad_token")
        own = "F32" if kept else kind if q.fits(tensor.shape[1], kind) else "BF16"
        data, _ = q.ggml(tensor.float(), own)
        writer.add_tensor(name, data, raw_dtype=None if own == "F32" else gguf.GGMLQuantizationType[own])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.copy(DEMO / "transformer" / "config.json", folder)
    return ["-m", str(path), *borrowed()], path


if __name__ == "__main__":
    main()
