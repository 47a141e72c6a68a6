"""Adapters of every kind on `tiny-a`, applied by the real libraries.

diffusers loads what it can load (`ZImagePipeline.load_lora_weights`): its own naming, ai-toolkit's, kohya's with split and fused
projections, LoKr. PEFT itself applies DoRA and LoHa, and LyCORIS the DoRA over columns; those files are then written in the names
under which they are found in the wild. Every file comes with what the transformer computes under it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import models
from golden import normal, provenance, write_json, write_tensors
from transformer import inputs

SEED = 41
MODEL = "tiny-a"
CASE = "caption5-10x14"
SPLIT = ["attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"]
FEED_FORWARD = ["feed_forward.w1", "feed_forward.w2", "feed_forward.w3"]
BLOCKS = ["layers.0", "layers.1", "noise_refiner.0", "context_refiner.1"]
RANK = 2


def build(out: Path) -> None:
    folder = out / "lora"
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for name, make in FILES.items():
        tensors, metadata = make(models.load(out, MODEL).transformer)
        tensors = {key: tensors[key].detach().clone().contiguous() for key in sorted(tensors)}
        save_file(tensors, folder / f"{name}.safetensors", metadata=one_key(metadata))
        (folder / f"{name}.safetensors").chmod(0o644)
    outputs = {}
    for name, loras in CASES.items():
        outputs[name] = run(out, folder, loras)
        cases.append({"name": name, "loras": [{"file": f"{file}.safetensors", "weight": weight} for file, weight in loras]})
    outputs["none"] = run(out, folder, [])
    given = inputs(models.load(out, MODEL).transformer, CASE)
    write_tensors(folder / "outputs.safetensors", {**outputs, **given}, SEED, **peft_version())
    write_json(folder / "cases.json", {"model": MODEL, "case": CASE, "cases": cases}, SEED)


def one_key(metadata: dict[str, str]) -> dict[str, str]:
    # The writer does not fix the order of several keys.
    assert len(metadata) <= 1
    return metadata


def peft_version() -> dict[str, str]:
    from importlib.metadata import version

    return {"peft": version("peft"), "lycoris": version("lycoris-lora"), **{"threads": provenance(None)["threads"]}}


def random(name: str, shape: tuple[int, ...], fan_in: int) -> torch.Tensor:
    return normal(name, SEED, shape) * (0.7 / fan_in**0.5)


def pair(name: str, out: int, cols: int, rank: int = RANK) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B."""
    return random(f"{name}.a", (rank, cols), cols), random(f"{name}.b", (out, rank), rank)


def linears(transformer: torch.nn.Module, kinds: list[str]):
    modules = dict(transformer.named_modules())
    for block in BLOCKS:
        for kind in kinds:
            yield f"{block}.{kind}", modules[f"{block}.{kind}"]


def diffusers_names(transformer):
    """As diffusers saves them, with PEFT's settings in the header: ranks and alphas by pattern."""
    tensors = {}
    for name, linear in linears(transformer, SPLIT + FEED_FORWARD):
        rank = 3 if name.endswith("w2") else RANK
        a, b = pair(f"diffusers.{name}", linear.out_features, linear.in_features, rank)
        tensors[f"transformer.{name}.lora_A.weight"], tensors[f"transformer.{name}.lora_B.weight"] = a, b
    config = {
        "r": RANK, "lora_alpha": 3, "rank_pattern": {"feed_forward.w2": 3}, "alpha_pattern": {"attention.to_q": 5},
        "target_modules": SPLIT + FEED_FORWARD,
    }
    return tensors, {"lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in config.items()}, sort_keys=True)}


def native_names(transformer):
    """As ai-toolkit saves them: no alpha anywhere."""
    tensors = {}
    for name, linear in linears(transformer, SPLIT + FEED_FORWARD):
        a, b = pair(f"native.{name}", linear.out_features, linear.in_features)
        tensors[f"diffusion_model.{name}.lora_A.weight"] = a.bfloat16()
        tensors[f"diffusion_model.{name}.lora_B.weight"] = b.bfloat16()
    return tensors, {}


def kohya(prefix: str, name: str, a: torch.Tensor, b: torch.Tensor, alpha: float) -> dict[str, torch.Tensor]:
    module = prefix + name.replace(".", "_")
    return {f"{module}.lora_down.weight": a, f"{module}.lora_up.weight": b, f"{module}.alpha": torch.tensor(alpha)}


def kohya_names(transformer):
    """As kohya's scripts save them, with underscores and alphas."""
    tensors = {}
    for name, linear in linears(transformer, SPLIT + FEED_FORWARD):
        a, b = pair(f"kohya.{name}", linear.out_features, linear.in_features)
        # A factor of 1/4: diffusers multiplies the stored half precision numbers, which is exact for powers of two alone.
        tensors |= kohya("lora_unet_", name, a.half(), b.half(), 0.5)
    return tensors, {}


def dotted_names(transformer):
    """As some trainers write them: dots everywhere, and fused projections beside the split ones that say the same."""
    tensors = {}
    for name, linear in linears(transformer, SPLIT):
        a, b = pair(f"dotted.{name}", linear.out_features, linear.in_features)
        tensors[f"diffusion_model.{name}.lora.down.weight"], tensors[f"diffusion_model.{name}.lora.up.weight"] = a, b
    for block in BLOCKS:
        a, b = pair(f"dotted.{block}.qkv", 3 * 64, 64)
        tensors[f"diffusion_model.{block}.attention.qkv.lora.down.weight"] = a
        tensors[f"diffusion_model.{block}.attention.qkv.lora.up.weight"] = b
    return tensors, {}


def fused_dotted_names(transformer):
    """Fused projections alone, with dots: the form of fused projections that diffusers splits."""
    tensors = {}
    for block in BLOCKS:
        base = f"diffusion_model.{block}.attention.qkv"
        a, b = pair(f"fused.{block}.qkv", 3 * 64, 64)
        tensors |= {f"{base}.lora.down.weight": a, f"{base}.lora.up.weight": b, f"{base}.alpha": torch.tensor(1.0)}
        a, b = pair(f"fused.{block}.out", 64, 64)
        tensors |= {f"diffusion_model.{block}.attention.out.lora.down.weight": a, f"diffusion_model.{block}.attention.out.lora.up.weight": b}
    return tensors, {}


def fused_kohya_names(transformer):
    """The same numbers under kohya's names."""
    tensors = {}
    for key, tensor in fused_dotted_names(transformer)[0].items():
        module, _, part = key.removeprefix("diffusion_model.").partition(".lora.")
        if not part:
            module, part = module.removesuffix(".alpha"), "alpha"
        part = {"down.weight": "lora_down.weight", "up.weight": "lora_up.weight"}.get(part, part)
        tensors[f"lora_unet_{module.replace('.', '_')}.{part}"] = tensor
    return tensors, {}


def from_peft(transformer, config, seed_name: str) -> dict[str, torch.Tensor]:
    """The tensors of an adapter that PEFT made, filled with random numbers."""
    inject_adapter_in_model(config, transformer)
    state = get_peft_model_state_dict(transformer)
    filled = {}
    for key, value in state.items():
        if "magnitude" in key:
            filled[key] = value * (1 + 0.2 * normal(f"{seed_name}.{key}", SEED, tuple(value.shape)).clamp(-2, 2))
        else:
            filled[key] = random(f"{seed_name}.{key}", tuple(value.shape), value.shape[-1])
    return filled


def targets(transformer, kinds: list[str]) -> list[str]:
    return [name for name, _ in linears(transformer, kinds)]


def dora(transformer):
    """DoRA over rows, as PEFT saves it."""
    config = LoraConfig(r=RANK, lora_alpha=3, use_dora=True, target_modules=targets(transformer, SPLIT + FEED_FORWARD))
    tensors = {f"base_model.model.{key}": value for key, value in from_peft(transformer, config, "dora").items()}
    saved = {"transformer.r": RANK, "transformer.lora_alpha": 3, "transformer.use_dora": True}
    return tensors, {"lora_adapter_metadata": json.dumps(saved, sort_keys=True)}


def loha(transformer):
    """LoHa in LyCORIS' names, with alphas."""
    config = LoHaConfig(r=RANK, alpha=RANK, target_modules=targets(transformer, SPLIT))
    return lycoris_names(from_peft(transformer, config, "loha"), 3.0), {}


def lokr(transformer):
    """LoKr with a whole first factor and a decomposed second one, as ai-toolkit names it."""
    config = LoKrConfig(r=RANK, alpha=RANK, decompose_factor=4, target_modules=targets(transformer, SPLIT + FEED_FORWARD))
    tensors = {f"diffusion_model.{key}": value for key, value in from_peft(transformer, config, "lokr").items()}
    modules = {key.rpartition(".")[0] for key in tensors}
    return tensors | {f"{module}.alpha": torch.tensor(1.5) for module in modules}, {}


def lokr_both(transformer):
    """LoKr with both factors decomposed."""
    config = LoKrConfig(r=1, alpha=1, decompose_factor=8, decompose_both=True, target_modules=targets(transformer, SPLIT))
    return lycoris_names(from_peft(transformer, config, "lokr_both"), 0.5), {}


def lokr_full(transformer):
    """LoKr with whole factors, whose alpha means nothing."""
    config = LoKrConfig(r=64, alpha=64, decompose_factor=8, target_modules=targets(transformer, SPLIT))
    return lycoris_names(from_peft(transformer, config, "lokr_full"), 7.0), {}


def lycoris_names(tensors: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    named = {}
    for key, value in tensors.items():
        module, _, part = key.rpartition(".")
        module = "lycoris_" + module.replace(".", "_")
        named[f"{module}.{part}"], named[f"{module}.alpha"] = value, torch.tensor(alpha)
    return named


def dora_columns(transformer):
    """DoRA over columns, as LyCORIS does it without `wd_on_output`."""
    tensors = {}
    for name, linear in linears(transformer, SPLIT + FEED_FORWARD):
        a, b = pair(f"columns.{name}", linear.out_features, linear.in_features)
        norm = linear.weight.norm(dim=0, keepdim=True)
        noise = normal(f"columns.{name}.m", SEED, tuple(norm.shape)).clamp(-2, 2)
        tensors |= kohya("lora_unet_", name, a, b, 1.0)
        tensors[f"lora_unet_{name.replace('.', '_')}.dora_scale"] = norm * (1 + 0.2 * noise)
    return tensors, {}


FILES = {
    "diffusers": diffusers_names, "native": native_names, "kohya": kohya_names, "dotted": dotted_names,
    "fused-dotted": fused_dotted_names, "fused-kohya": fused_kohya_names, "dora": dora, "dora-columns": dora_columns,
    "loha": loha, "lokr": lokr, "lokr-both": lokr_both, "lokr-full": lokr_full,
}
CASES = {
    **{name: [(name, 1.0)] for name in FILES},
    "diffusers at 0.6": [("diffusers", 0.6)],
    "kohya below zero": [("kohya", -0.5)],
    "lokr at 0.7": [("lokr", 0.7)],
    "two at once": [("diffusers", 0.7), ("kohya", 0.5)],
    "lora and lokr": [("native", 0.8), ("lokr", 0.4)],
}


def run(out: Path, folder: Path, loras: list[tuple[str, float]]) -> torch.Tensor:
    """The transformer's output under some adapters, applied by the libraries."""
    pipeline = models.load(out, MODEL)
    transformer = pipeline.transformer
    given = inputs(transformer, CASE)
    for index, (file, _) in enumerate(loras):
        apply(pipeline, folder, file, f"adapter{index}")
    by_diffusers = [index for index, (file, _) in enumerate(loras) if file not in OTHERS]
    if by_diffusers:
        pipeline.set_adapters([f"adapter{index}" for index in by_diffusers], [loras[index][1] for index in by_diffusers])
    return transformer([given["latents"]], given["t"], [given["caption"]], return_dict=False)[0][0]


def apply(pipeline, folder: Path, file: str, adapter: str) -> None:
    if file in OTHERS:
        return OTHERS[file](pipeline.transformer, load_file(folder / f"{file}.safetensors"))
    # The fused form under kohya's names loads in no library; its numbers are those of the other fused file.
    file = "fused-dotted" if file == "fused-kohya" else file
    pipeline.load_lora_weights(folder, weight_name=f"{file}.safetensors", adapter_name=adapter)


def by_peft(config_of):
    """Puts a file's numbers into PEFT's own layers."""

    def load(transformer, tensors):
        from peft.utils import set_peft_model_state_dict

        inject_adapter_in_model(config_of(transformer), transformer)
        names = {name.replace(".", "_"): name for name, _ in transformer.named_modules()}
        state = {}
        for key, value in tensors.items():
            key = key.removeprefix("base_model.model.")
            module, _, part = key.rpartition(".")
            if module.startswith("lycoris_"):
                original = module.removeprefix("lycoris_")
                module = names[original]
            if part != "alpha":
                state[f"{module}.{part}"] = value
        result = set_peft_model_state_dict(transformer, state)
        assert not result.unexpected_keys, result.unexpected_keys

    return load


def by_lycoris(transformer, tensors) -> None:
    """Puts a file's numbers into LyCORIS' own layers, and merges them."""
    from lycoris.modules.locon import LoConModule

    for name, linear in linears(transformer, SPLIT + FEED_FORWARD):
        module = "lora_unet_" + name.replace(".", "_")
        get = lambda part: tensors[f"{module}.{part}"]  # noqa: E731
        layer = LoConModule(module, linear, 1, RANK, float(get("alpha")), weight_decompose=True, wd_on_out=False)
        layer.lora_up.weight.data.copy_(get("lora_up.weight"))
        layer.lora_down.weight.data.copy_(get("lora_down.weight"))
        layer.dora_scale.copy_(get("dora_scale"))
        layer.merge_to(1.0)


OTHERS = {
    "dora": by_peft(lambda t: LoraConfig(r=RANK, lora_alpha=3, use_dora=True, target_modules=targets(t, SPLIT + FEED_FORWARD))),
    "loha": by_peft(lambda t: LoHaConfig(r=RANK, alpha=3, target_modules=targets(t, SPLIT))),
    "lokr-both": by_peft(lambda t: LoKrConfig(
        r=1, alpha=0.5, decompose_factor=8, decompose_both=True, target_modules=targets(t, SPLIT))),
    "lokr-full": by_peft(lambda t: LoKrConfig(r=64, alpha=64, decompose_factor=8, target_modules=targets(t, SPLIT))),
    "dora-columns": by_lycoris,
}
