"""Two complete tiny models in the ordinary diffusers layout, with random weights.

`tiny-a`  single files, float32, published-style configs (`rope_theta`), text encoder names without prefix.
`tiny-b`  sharded with index files, bfloat16, `rope_parameters` configs, text encoder names with the `model.` prefix
          that the published files carry; sizes that are no multiple of 8, head count 3.

All other goldens load these directories and compute in float32, whatever the files store.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

import vocabulary
from golden import write_json
from weights import fill

SEEDS = {"tiny-a": 1, "tiny-b": 2}

TRANSFORMER = {
    "tiny-a": dict(
        dim=64, n_heads=2, n_kv_heads=2, n_layers=2, n_refiner_layers=2, cap_feat_dim=48,
        axes_dims=[8, 12, 12], axes_lens=[1536, 512, 512],
    ),
    "tiny-b": dict(
        dim=60, n_heads=3, n_kv_heads=3, n_layers=3, n_refiner_layers=1, cap_feat_dim=40,
        axes_dims=[8, 6, 6], axes_lens=[1024, 512, 512],
    ),
}
TEXT_ENCODER = {
    "tiny-a": dict(
        hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "tiny-b": dict(
        hidden_size=40, intermediate_size=104, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1,
        head_dim=20, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
}
VAE = {
    "tiny-a": dict(
        block_out_channels=(8, 12, 12, 16), layers_per_block=1, norm_num_groups=4, scaling_factor=0.3611,
        shift_factor=0.1159,
    ),
    "tiny-b": dict(
        block_out_channels=(8, 8, 16, 24), layers_per_block=2, norm_num_groups=8, scaling_factor=0.4,
        shift_factor=-0.05,
    ),
}
SHIFT = {"tiny-a": 3.0, "tiny-b": 6.0}


def build(out: Path) -> None:
    for name in SEEDS:
        folder = out / "models" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save(make(name), name, folder)
    write_json(out / "models" / "models.json", {"seeds": SEEDS}, seed=None)


def make(name: str) -> ZImagePipeline:
    transformer = ZImageTransformer2DModel(**TRANSFORMER[name])
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        sample_size=1024,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **VAE[name],
    )
    text_encoder = Qwen3Model(text_encoder_config(name))
    for module in (transformer, vae, text_encoder):
        fill(module, SEEDS[name])
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT[name], use_dynamic_shifting=False),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=make_tokenizer(),
        transformer=transformer,
    )


def text_encoder_config(name: str) -> Qwen3Config:
    # More rows than tokens, as published. The ids are those of `vocabulary`: 402 is <|im_end|>.
    return Qwen3Config(
        vocab_size=448, max_position_embeddings=40960, rms_norm_eps=1e-6, tie_word_embeddings=True,
        attention_bias=False, bos_token_id=400, eos_token_id=402, **TEXT_ENCODER[name],
    )


def make_tokenizer() -> Qwen2Tokenizer:
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary.train().save(f"{scratch}/tokenizer.json")
        return vocabulary.open_tokenizer(Path(scratch) / "tokenizer.json", Path(scratch) / "tokenizer")


def save(pipeline: ZImagePipeline, name: str, folder: Path) -> None:
    if name == "tiny-a":
        pipeline.save_pretrained(folder)
        use_published_rope_config(folder / "text_encoder" / "config.json")
    else:
        pipeline.to(torch.bfloat16)
        pipeline.save_pretrained(folder, max_shard_size="400KB")
        save_with_prefix(pipeline.text_encoder, folder / "text_encoder")
    # transformers writes a shorter tokenizer_config.json than Qwen3 publishes; keep the published form.
    shutil.rmtree(folder / "tokenizer")
    vocabulary.train().save(str(folder / "tokenizer.json"))
    vocabulary.open_tokenizer(folder / "tokenizer.json", folder / "tokenizer")
    (folder / "tokenizer.json").unlink()
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


def use_published_rope_config(path: Path) -> None:
    """Writes `rope_theta` at the top level and `torch_dtype`, as the published config.json does."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_with_prefix(encoder: Qwen3Model, folder: Path) -> None:
    """Saves as the causal language model that the published files come from: names start with `model.`."""
    causal = Qwen3ForCausalLM(encoder.config).to(torch.bfloat16)
    causal.model.load_state_dict(encoder.state_dict())
    shutil.rmtree(folder)
    causal.save_pretrained(folder, max_shard_size="100KB")
    (folder / "generation_config.json").unlink(missing_ok=True)


def load(out: Path, name: str, pipeline_class: type = ZImagePipeline) -> ZImagePipeline:
    """The pipeline of a committed directory, in float32."""
    pipeline = pipeline_class.from_pretrained(out / "models" / name, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
