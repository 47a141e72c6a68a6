"""Quantized weights as the real libraries write them, and what diffusers and transformers compute with them.

An overlay is a file with the quantized tensors of some layers of `tiny-a`, under the names of its dialect; the test
puts the other tensors of `tiny-a` beside them. The GGUF files and the text encoders are complete.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from diffusers import ZImageTransformer2DModel
from gguf import GGMLQuantizationType, GGUFWriter, SpecialVocab
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

import container
import models
import quantizers as q
from golden import normal, write_json, write_tensors
from weights import fill

SEED = 41
LIBRARIES = ("mlx", "comfy-kitchen", "gguf", "pywhispercpp")
BITS = (2, 3, 4, 5, 6, 8)

# The layers that overlays quantize: all of whose columns are 64, and the one with 1024.
LINEARS = [
    f"layers.{layer}.{name}"
    for layer in range(2)
    for name in (
        "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0", "feed_forward.w1", "feed_forward.w3",
    )
]
FIRST = LINEARS[:6]
FUSED = ["layers.0.attention.qkv", "layers.0.attention.to_out.0"]
WIDE = "t_embedder.mlp.2"


def build(out: Path) -> None:
    folder = out / "formats"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    versions = {name: version(name) for name in LIBRARIES}
    transformer = models.load(out, "tiny-a").transformer
    inputs = {
        "latents": normal("latents", SEED, (16, 1, 4, 6)),
        "caption": normal("caption", SEED, (5, transformer.config.cap_feat_dim)),
        "t": torch.tensor([0.4]),
    }
    outputs = dict(inputs)
    listed = []
    for name, dialect, metadata, layers in overlays():
        stored, metadata = overlay(transformer, dialect, metadata, layers, outputs, inputs, name)
        write_tensors(folder / f"{name}.safetensors", stored, models.SEEDS["tiny-a"], **versions)
        listed.append({"name": name, "dialect": dialect, "metadata": metadata})
    write_tensors(folder / "outputs.safetensors", outputs, SEED, **versions)
    write_json(folder / "cases.json", {"libraries": versions, "overlays": listed}, SEED)
    write_gguf(folder / "gguf", out)
    write_mflux(folder / "mflux" / "text_encoder")


def overlays():
    """Name, dialect, metadata of the header, and the quantizer of each layer."""
    plans = [(bits, group) for bits in BITS for group in (32, 64)]
    for dtype, wide in ((mx.bfloat16, 3), (mx.float16, 5)):
        mixed = {
            layer: partial(q.mlx_affine, bits=bits, group=group, dtype=dtype)
            for layer, (bits, group) in zip(LINEARS, plans)
        }
        mixed[WIDE] = partial(q.mlx_affine, bits=wide, group=128, dtype=dtype)
        yield f"mlx-affine-{'bf16' if dtype == mx.bfloat16 else 'f16'}", "mlx", {}, mixed
    for mode in q.MLX_MODES:
        yield f"mlx-{mode}", "mlx", {}, dict.fromkeys(FIRST, partial(q.mlx_float, mode=mode))
    for bits in (8, 4):
        saved = {"quantization_level": str(bits), "mflux_version": "0.18.0"}
        affine = partial(q.mlx_affine, bits=bits, group=64, dtype=mx.bfloat16)
        yield f"mflux-{bits}", "mflux", saved, dict.fromkeys(FIRST, affine)

    e4m3, e5m2 = torch.float8_e4m3fn, torch.float8_e5m2
    fused = {
        "cast-e4m3": partial(q.cast_fp8, dtype=e4m3),
        "cast-e5m2": partial(q.cast_fp8, dtype=e5m2),
        "scaled-e4m3": partial(q.scaled_fp8, dtype=e4m3),
        "scaled-e5m2": partial(q.scaled_fp8, dtype=e5m2),
        "fp8-e4m3": partial(q.comfy_fp8, dtype=e4m3),
        "fp8-e5m2": partial(q.comfy_fp8, dtype=e5m2),
        "fp8-e4m3-bytes": partial(q.comfy_fp8_bytes, dtype=e4m3),
        "fp8-e5m2-bytes": partial(q.comfy_fp8_bytes, dtype=e5m2),
        "mxfp8": q.comfy_mxfp8,
        "mxfp8-bytes": q.comfy_mxfp8_bytes,
        "nvfp4": q.comfy_nvfp4,
        "nvfp4-nested": q.comfy_nvfp4_nested,
        "int8": q.comfy_int8,
        "int8-rows": partial(q.comfy_int8, per_channel=True),
    }
    for name, quantizer in fused.items():
        yield f"comfyui-{name}", "comfyui", {}, dict.fromkeys(FUSED, quantizer)
    # Rows of 256 values and more: rotations.
    rotated = {"int8-convrot": partial(q.comfy_int8, per_channel=True, convrot=True), "convrot-w4a4": q.comfy_w4a4}
    for name, quantizer in rotated.items():
        yield f"comfyui-{name}", "comfyui", {}, {WIDE: quantizer}
    # The notes of a file in its header instead of beside the weights.
    header = {
        FUSED[0]: partial(q.comfy_fp8, dtype=e4m3), FUSED[1]: q.comfy_nvfp4, WIDE: rotated["convrot-w4a4"],
    }
    yield "comfyui-header", "comfyui", None, header


def overlay(transformer, dialect, metadata, layers, outputs, inputs, case):
    """The tensors of an overlay; the output of the model with them goes to `outputs`."""
    state = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    stored, notes = {}, {}
    for layer, quantizer in layers.items():
        parts = [layer.replace("qkv", f"to_{part}") for part in "qkv"] if layer.endswith(".qkv") else [layer]
        weight = torch.cat([state[f"{part}.weight"] for part in parts])
        tensors, back = quantizer(weight)
        for part, rows in zip(parts, back.chunk(len(parts))):
            state[f"{part}.weight"] = rows
        base = renamed(dialect, layer)
        if metadata is None:
            notes[base] = json.loads(bytes(tensors.pop("comfy_quant").tolist()))
        stored.update({f"{base}.{end}": tensor for end, tensor in tensors.items()})
    if case.startswith("comfyui-scaled"):
        stored["scaled_fp8"] = torch.zeros(2, dtype=stored[f"{base}.weight"].dtype)
    if metadata is None:
        metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": notes})}
    outputs[case] = forward(transformer.config, state, inputs)
    return stored, metadata


def forward(config, state: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    model = ZImageTransformer2DModel.from_config(config)
    model.load_state_dict(state)
    return model([inputs["latents"]], inputs["t"], [inputs["caption"]], return_dict=False)[0][0]


def renamed(dialect: str, layer: str) -> str:
    if dialect == "comfyui":
        return layer.replace(".to_out.0", ".out")
    if dialect == "mlx":
        return layer.replace(".to_out.0", ".to_out").replace(".mlp.", ".mlp.layers.")
    return layer.replace("t_embedder.mlp.0", "t_embedder.linear1").replace("t_embedder.mlp.2", "t_embedder.linear2")


# A model whose rows are whole blocks of 32 where those of the published ones are.
TRANSFORMER = dict(
    dim=64, n_heads=2, n_kv_heads=2, n_layers=1, n_refiner_layers=1, cap_feat_dim=64, axes_dims=[8, 12, 12],
    axes_lens=[1536, 512, 512],
)
TEXT_ENCODER = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, vocab_size=448, max_position_embeddings=40960,
    rms_norm_eps=1e-6, tie_word_embeddings=True, attention_bias=False, bos_token_id=400, eos_token_id=402,
)
# In turn, where rows are whole blocks of 256 the first, else the second; what is left over is F16.
K_QUANTS = {"city96": ("Q2_K", "Q3_K"), "sdcpp": ("Q4_K", "Q6_K")}
SMALL = {"city96": ("Q4_0", "Q5_1", "Q4_0", "Q8_0", "BF16"), "sdcpp": ("Q4_1", "Q5_0", "IQ4_NL", "Q8_0")}


def write_gguf(folder: Path, out: Path) -> None:
    """Transformers as city96's converter and stable-diffusion.cpp write them, and a text encoder as llama.cpp does."""
    folder.mkdir()
    transformer = ZImageTransformer2DModel(**TRANSFORMER)
    fill(transformer, SEED)
    transformer.save_config(folder)
    (folder / "config.json").rename(folder / "transformer_config.json")
    inputs = {
        "latents": normal("latents", SEED, (16, 1, 4, 6)),
        "caption": normal("caption", SEED, (5, 64)),
        "t": torch.tensor([0.4]),
    }
    outputs = dict(inputs)
    for style in SMALL:
        # stable-diffusion.cpp names no architecture. The writer insists on one, so its key is removed.
        writer = GGUFWriter(folder / f"{style}.gguf", arch="lumina2")
        prefix = "" if style == "city96" else "model.diffusion_model."
        if style == "sdcpp":
            writer.kv_data[0].pop("general.architecture")
        else:
            writer.add_quantization_version(2)
            writer.add_array("comfy.gguf.orig_shape.x_pad_token", [1, 64])
        state = dict(transformer.state_dict())
        for name, tensor in native(state).items():
            kind = kind_of(style, name, tensor, len(writer.tensors[0]))
            # The converter drops the axis of one element and keeps the shape in the metadata.
            flat = tensor.reshape(-1) if style == "city96" and name == "x_pad_token" else tensor
            data, back = q.ggml(flat, kind)
            add(writer, prefix + name, data, kind)
            restore(state, name, back.reshape(tensor.shape))
        close(writer)
        outputs[style] = forward(transformer.config, state, inputs)
    outputs.update(write_qwen3(folder / "qwen3.gguf", out))
    write_tensors(folder / "outputs.safetensors", outputs, SEED)


def native(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of ComfyUI, with queries, keys and values stacked."""
    tensors = {}
    for name, tensor in state.items():
        if ".to_k." in name or ".to_v." in name:
            continue
        if ".to_q." in name:
            tensor = torch.cat([state[name.replace(".to_q.", f".to_{part}.")] for part in "qkv"])
        tensors[native_name(name)] = tensor
    return tensors


def native_name(name: str) -> str:
    for old, new in (
        ("all_x_embedder.2-1.", "x_embedder."), ("all_final_layer.2-1.", "final_layer."), (".to_q.", ".qkv."),
        (".to_out.0.", ".out."), (".norm_q.", ".q_norm."), (".norm_k.", ".k_norm."),
    ):
        name = name.replace(old, new)
    return name


def restore(state: dict[str, torch.Tensor], native: str, values: torch.Tensor) -> None:
    """Puts dequantized values back under the canonical names."""
    for name in list(state):
        if native_name(name) == native:
            state[name] = values if ".to_q." not in name else values.chunk(3)[0]
    if ".qkv." in native:
        for part, rows in zip("qkv", values.chunk(3)):
            state[native.replace(".qkv.", f".to_{part}.")] = rows


def kind_of(style: str, name: str, tensor: torch.Tensor, turn: int) -> str:
    if tensor.dim() < 2 or name.endswith("pad_token"):
        return "F32"
    columns = tensor.shape[1]
    if name.startswith("t_embedder.mlp."):
        return K_QUANTS[style][0 if ".0." in name else 1]
    kind = SMALL[style][turn % len(SMALL[style])]
    return kind if q.fits(columns, kind) else "F16"


def add(writer: GGUFWriter, name: str, data: np.ndarray, kind: str) -> None:
    writer.add_tensor(name, data, raw_dtype=None if kind in ("F32", "F16") else GGMLQuantizationType[kind])


def close(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def text_encoder() -> Qwen3Model:
    encoder = Qwen3Model(Qwen3Config(**TEXT_ENCODER))
    fill(encoder, SEED)
    return encoder


def hidden(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    encoder = text_encoder()
    encoder.load_state_dict(state)
    ids = torch.tensor([[3, 77, 402, 447, 19, 255, 128]])
    states = encoder(input_ids=ids, output_hidden_states=True).hidden_states
    return {"ids": ids[0], "hidden": states[-2][0]}


# `gguf-py/gguf/tensor_mapping.py` of llama.cpp.
LLAMA = (
    ("embed_tokens.", "token_embd."), ("layers.", "blk."), ("input_layernorm.", "attn_norm."),
    ("post_attention_layernorm.", "ffn_norm."), ("self_attn.q_proj.", "attn_q."), ("self_attn.k_proj.", "attn_k."),
    ("self_attn.v_proj.", "attn_v."), ("self_attn.o_proj.", "attn_output."), ("self_attn.q_norm.", "attn_q_norm."),
    ("self_attn.k_norm.", "attn_k_norm."), ("mlp.gate_proj.", "ffn_gate."), ("mlp.up_proj.", "ffn_up."),
    ("mlp.down_proj.", "ffn_down."),
)


def write_qwen3(path: Path, out: Path) -> dict[str, torch.Tensor]:
    encoder = text_encoder()
    writer = GGUFWriter(path, arch="qwen3")
    writer.add_block_count(TEXT_ENCODER["num_hidden_layers"])
    writer.add_context_length(40960)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(16)
    writer.add_value_length(16)
    tokenizer = out / "models" / "tiny-a" / "tokenizer"
    tokens, types = container.vocabulary(AutoTokenizer.from_pretrained(tokenizer), TEXT_ENCODER["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    SpecialVocab(tokenizer, load_merges=True).add_to_gguf(writer, quiet=True)
    state = dict(encoder.state_dict())
    kinds = ("Q8_0", "Q4_0", "Q5_0", "Q4_1", "Q5_1")
    for turn, (name, tensor) in enumerate(encoder.state_dict().items()):
        kind = "F32" if tensor.dim() == 1 else kinds[turn % len(kinds)]
        data, state[name] = q.ggml(tensor, kind)
        llama = "output_norm.weight" if name == "norm.weight" else name
        for old, new in LLAMA:
            llama = llama.replace(old, new)
        add(writer, llama, data, kind)
    close(writer)
    return hidden(state)


def write_mflux(folder: Path) -> None:
    """A text encoder as mflux saves it: two shards, an index, all matrices and the table of tokens in 4 bits."""
    folder.mkdir(parents=True)
    encoder = text_encoder()
    state, stored = dict(encoder.state_dict()), {}
    for name, tensor in encoder.state_dict().items():
        base = name.removesuffix(".weight")
        if tensor.dim() == 2 and tensor.shape[1] % 64 == 0:
            tensors, state[name] = q.mlx_affine(tensor, bits=4, group=64, dtype=mx.bfloat16)
            stored.update({f"{base}.{end}": part for end, part in tensors.items()})
        else:
            stored[name] = tensor.bfloat16()
            state[name] = stored[name].float()
    stored["rotary_emb.inv_freq"] = encoder.rotary_emb.inv_freq
    metadata = {"quantization_level": "4", "mflux_version": "0.18.0"}
    names = list(stored)
    half = len(names) // 2
    places = {}
    for shard, part in enumerate((names[:half], names[half:])):
        places.update(dict.fromkeys(part, f"{shard}.safetensors"))
        arrays = {name: to_mlx(stored[name]) for name in part}
        mx.save_safetensors(str(folder / f"{shard}.safetensors"), arrays, metadata)
    index = {"metadata": metadata, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    config = encoder.config.to_dict()
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_tensors(folder.parent / "outputs.safetensors", hidden(state), SEED)


def to_mlx(tensor: torch.Tensor) -> mx.array:
    if tensor.dtype == torch.bfloat16:
        return mx.array(tensor.view(torch.int16).numpy().view(np.uint16)).view(mx.bfloat16)
    return mx.array(tensor.numpy())
