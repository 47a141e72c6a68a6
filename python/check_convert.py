"""Opens what `zimage convert` writes with the libraries that it is written for.

The demo model (or `--model`) is converted to every layout; then

* diffusers: `ZImagePipeline.from_pretrained` draws a picture, and zimage draws the same one from the same directory;
* MLX: a tree of `mlx.nn` layers with the names of the original application, quantized by `nn.quantize` as it does,
  takes the weights with `load_weights(strict=True)`, and every packed layer equals `mx.quantize` of its source;
* GGUF: `gguf.GGUFReader` reads both files, and every tensor decodes to what the source has, or to what the package's own
  quantizer makes of it;
* ComfyUI: `ZImageTransformer2DModel.from_single_file` takes the transformer, and every tensor is that of the source.

    python check_convert.py --binary ../target/release/zimage
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "goldens"))

import golden  # noqa: F401  (keeps the libraries offline)
import gguf
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from PIL import Image
from safetensors.torch import load_file

DEMO = Path(__file__).resolve().parent.parent / "assets/demo"
PROMPT, SEED, SIDE, STEPS = "a red circle above a blue square on grass", 3, 128, 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the zimage program")
    parser.add_argument("--model", type=Path, default=DEMO, help="a small model in the layout of diffusers, in bf16")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(arguments.binary.resolve(), arguments.model.resolve(), Path(scratch))
        check.diffusers()
        check.mlx("keep", bits=None)
        check.mlx("int8", bits=8)
        check.mlx("int4", bits=4)
        check.gguf("keep")
        check.gguf("q8_0")
        check.gguf("q4_0")
        check.comfyui()
    return 0


class Check:
    def __init__(self, binary: Path, model: Path, scratch: Path) -> None:
        self.binary, self.model, self.scratch = binary, model, scratch
        self.source = load_file(model / "transformer/diffusion_pytorch_model.safetensors")

    def convert(self, target: str, precision: str, name: str) -> Path:
        path = self.scratch / name
        command = ["convert", self.model, path, "--to", target, "--precision", precision, "--verify"]
        subprocess.run([self.binary, "-q", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        return path

    def diffusers(self) -> None:
        path = self.convert("diffusers", "keep", "diffusers")
        pipeline = ZImagePipeline.from_pretrained(path, torch_dtype=torch.float32)
        generator = torch.Generator("cpu").manual_seed(SEED)
        picture = pipeline(
            PROMPT, height=SIDE, width=SIDE, num_inference_steps=STEPS, guidance_scale=0.0, generator=generator
        ).images[0]
        ours = self.scratch / "ours.png"
        flags = ["--seed", SEED, "--width", SIDE, "--height", SIDE, "--steps", STEPS, "-o", ours]
        command = [self.binary, "-q", "generate", "-m", path, *flags, PROMPT]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        difference = np.abs(np.asarray(picture, int) - np.asarray(Image.open(ours), int))
        require(difference.max() <= 1, f"the pictures differ by {difference.max()}")
        print(f"diffusers: from_pretrained draws the same picture, off by {difference.max()} of 255 at most")

    def mlx(self, precision: str, bits: int | None) -> None:
        path = self.convert("mlx", precision, f"mlx-{precision}")
        weights = mx.load(str(path / "weights.safetensors"))
        config = json.loads((path / "config.json").read_text())
        tree = original_application(config)
        if bits is not None:
            nn.quantize(tree, group_size=64, bits=bits)
        tree.load_weights(list(weights.items()), strict=True)
        packed = 0
        for name in [name for name in weights if name.endswith(".scales")]:
            base = name.removesuffix(".scales")
            source = mx.array(self.source[canonical(base) + ".weight"].float().numpy()).astype(mx.bfloat16)
            expected = mx.quantize(source, group_size=64, bits=bits)
            found = [weights[f"{base}.{part}"] for part in ("weight", "scales", "biases")]
            same = all(bool(mx.array_equal(a, b)) for a, b in zip(found, expected, strict=True))
            require(same, f"{base} is not what mx.quantize makes")
            packed += 1
        require((packed > 0) == (bits is not None), f"{packed} layers are quantized")
        for part in ("vae", "text_encoder", "pad_tokens"):
            require(len(mx.load(str(path / f"{part}.safetensors"))) > 0, f"{part} is empty")
        print(f"mlx {precision}: {len(weights)} tensors load strictly, {packed} layers equal mx.quantize")

    def gguf(self, precision: str) -> None:
        path = self.convert("gguf", precision, f"gguf-{precision}")
        reader = gguf.GGUFReader(path / "transformer.gguf")
        equal = quantized = 0
        for tensor in reader.tensors:
            kind = tensor.tensor_type
            found = gguf.quants.dequantize(tensor.data, kind).reshape(tuple(reversed(tensor.shape)))
            source = self.native(tensor.name)
            if np.array_equal(found, source):
                equal += 1
                continue
            require(kind.name == precision.upper(), f"{tensor.name} is stored as {kind.name} and differs")
            require(
                np.array_equal(tensor.data, gguf.quants.quantize(source, kind)),
                f"{tensor.name} is not what the package quantizes it to",
            )
            quantized += 1
        text = gguf.GGUFReader(path / "text_encoder.gguf")
        architecture = text.get_field("general.architecture").contents()
        tokens = len(text.get_field("tokenizer.ggml.tokens").contents())
        require(architecture == "qwen3", f"the text encoder is {architecture}")
        print(
            f"gguf {precision}: {equal} tensors equal, {quantized} as the package quantizes them; "
            f"text encoder: {architecture}, {len(text.tensors)} tensors, {tokens} tokens"
        )

    def comfyui(self) -> None:
        path = self.convert("comfyui-split", "keep", "comfyui") / "diffusion_models/z_image.safetensors"
        for name, tensor in load_file(path).items():
            require(np.array_equal(tensor.float().numpy(), self.native(name)), f"{name} differs")
        model = ZImageTransformer2DModel.from_single_file(
            str(path), config=str(self.model), subfolder="transformer", torch_dtype=torch.bfloat16
        )
        state = model.state_dict()
        for name, tensor in self.source.items():
            require(torch.equal(state[name], tensor), f"{name} differs after from_single_file")
        print(f"comfyui: from_single_file takes it, all {len(state)} tensors equal")

    def native(self, name: str) -> np.ndarray:
        """A tensor of the source under its name in files of ComfyUI."""
        values = lambda name: self.source[name].float().numpy()
        if ".attention.qkv." in name:
            parts = [name.replace(".qkv.", f".to_{part}.") for part in "qkv"]
            return np.concatenate([values(part) for part in parts])
        for file, own in (
            (".attention.out.", ".attention.to_out.0."),
            (".attention.q_norm.", ".attention.norm_q."),
            (".attention.k_norm.", ".attention.norm_k."),
        ):
            name = name.replace(file, own)
        for start in ("x_embedder.", "final_layer."):
            if name.startswith(start):
                name = f"all_{start.removesuffix('.')}.2-1.{name.removeprefix(start)}"
        return values(name)


def canonical(layer: str) -> str:
    """A layer of the original application by its name in diffusers."""
    if layer.endswith("adaLN_modulation"):
        layer += ".1" if layer.startswith("final_layer") else ".0"
    layer = layer.replace(".to_out", ".to_out.0").replace(".layers.", ".") if "embedder" in layer else layer.replace(
        ".to_out", ".to_out.0"
    )
    for start in ("x_embedder", "final_layer"):
        if layer.startswith(start):
            layer = f"all_{start}.2-1{layer.removeprefix(start)}"
    return layer


def original_application(config: dict) -> nn.Module:
    """The layers that the original application has, by the names of its code."""
    dim, hidden, text = config["hidden_size"], config["intermediate_size"], config["text_embed_dim"]
    time, heads = min(dim, 256), config["num_attention_heads"]

    def block(modulated: bool) -> nn.Module:
        block = nn.Module()
        block.attention, block.feed_forward = nn.Module(), nn.Module()
        for name in ("to_q", "to_k", "to_v", "to_out"):
            setattr(block.attention, name, nn.Linear(dim, dim, bias=False))
        for name in ("norm_q", "norm_k"):
            setattr(block.attention, name, nn.RMSNorm(dim // heads))
        for name, (rows, cols) in {"w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}.items():
            setattr(block.feed_forward, name, nn.Linear(cols, rows, bias=False))
        for name in ("attention_norm1", "ffn_norm1", "attention_norm2", "ffn_norm2"):
            setattr(block, name, nn.RMSNorm(dim))
        if modulated:
            block.adaLN_modulation = nn.Linear(time, 4 * dim)
        return block

    tree = nn.Module()
    pixels = config["in_channels"] * config["patch_size"] ** 2
    tree.x_embedder = nn.Linear(pixels, dim)
    tree.final_layer = nn.Module()
    tree.final_layer.linear = nn.Linear(dim, pixels)
    tree.final_layer.adaLN_modulation = nn.Linear(time, dim)
    tree.t_embedder = nn.Module()
    tree.t_embedder.mlp = nn.Sequential(nn.Linear(256, 1024), nn.SiLU(), nn.Linear(1024, time))
    tree.cap_embedder = nn.Sequential(nn.RMSNorm(text), nn.Linear(text, dim))
    tree.noise_refiner = [block(True) for _ in range(config["n_refiner_layers"])]
    tree.context_refiner = [block(False) for _ in range(config["n_refiner_layers"])]
    tree.layers = [block(True) for _ in range(config["num_hidden_layers"])]
    return tree


def require(holds: bool, problem: str) -> None:
    if not holds:
        raise SystemExit(f"error: {problem}")


if __name__ == "__main__":
    sys.exit(main())
