"""Whole runs of the real pipelines: starting latents, latents after every step, and the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ZImageImg2ImgPipeline, ZImageInpaintPipeline, ZImagePipeline
from PIL import Image

import models
import picture
from golden import write_json, write_tensors

CLASSES = {"text": ZImagePipeline, "image": ZImageImg2ImgPipeline, "inpaint": ZImageInpaintPipeline}
PROMPT = "a photo of a cat sitting on a wooden table"
LONG_PROMPT = "a red circle and a blue square on a white background, " * 40
GUIDED = dict(model="tiny-b", prompt=PROMPT, width=64, height=48, steps=4, guidance_scale=4.0)

CASES: dict[str, dict[str, Any]] = {
    "text": dict(model="tiny-a", prompt=PROMPT, width=80, height=64, steps=8, seed=42),
    "text-9-steps": dict(model="tiny-b", prompt="", width=48, height=64, steps=9, seed=2**32 + 5),
    "text-one-step": dict(model="tiny-a", prompt="caf\u00e9 \U0001f431", width=16, height=16, steps=1, seed=0),
    "text-long-prompt": dict(model="tiny-a", prompt=LONG_PROMPT, width=32, height=48, steps=2, seed=7),
    "guided": dict(**GUIDED, negative_prompt="blurry, dark", seed=1),
    "guided-default-negative": dict(**GUIDED, seed=1),
    "guided-normalized": dict(**GUIDED, negative_prompt="blurry, dark", cfg_normalization=True, seed=1),
    "guided-truncated": dict(**GUIDED, negative_prompt="blurry, dark", cfg_truncation=0.2, seed=1),
    "image": dict(model="tiny-a", prompt=PROMPT, image="colours-80x64.png", strength=0.6, steps=8, seed=42),
    "image-resized": dict(model="tiny-a", prompt=PROMPT, image="colours-90x70.png", strength=0.6, steps=5, seed=42),
    "image-guided": dict(
        model="tiny-b", prompt=PROMPT, image="colours-80x64.png", strength=0.3, steps=9, guidance_scale=2.5,
        negative_prompt="dark", seed=3,
    ),
    "image-full-strength": dict(model="tiny-a", prompt=PROMPT, image="colours-80x64.png", strength=1.0, steps=2, seed=3),
    "inpaint": dict(
        model="tiny-a", prompt=PROMPT, image="colours-80x64.png", mask="mask-80x64.png", strength=1.0, steps=4, seed=42
    ),
    "inpaint-resized": dict(
        model="tiny-b", prompt=PROMPT, image="colours-90x70.png", mask="mask-50x40.png", strength=0.6, steps=6, seed=5
    ),
}
DEFAULTS = dict(guidance_scale=0.0, negative_prompt=None, cfg_normalization=False, cfg_truncation=1.0)


def build(out: Path) -> None:
    folder = out / "pipeline"
    write_inputs(folder)
    opened: dict[tuple[str, str], Any] = {}
    listed = []
    for name, case in CASES.items():
        task = "inpaint" if "mask" in case else "image" if "image" in case else "text"
        key = (case["model"], task)
        if key not in opened:
            opened[key] = models.load(out, case["model"], CLASSES[task])
        tensors, shown, batches = run(opened[key], folder, case)
        write_tensors(folder / f"{name}.safetensors", tensors, case["seed"])
        shown.save(folder / f"{name}.png")
        listed.append(
            {"name": name, "task": task, **DEFAULTS, **case, "width": shown.width, "height": shown.height, "batches": batches}
        )
    write_json(folder / "cases.json", {"cases": listed}, seed=None)


def write_inputs(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in ((80, 64), (90, 70)):
        picture.colours(width, height).save(folder / f"colours-{width}x{height}.png")
    for width, height in ((80, 64), (50, 40)):
        picture.soft_disk(width, height).save(folder / f"mask-{width}x{height}.png")


def run(pipeline, folder: Path, case: dict[str, Any]) -> tuple[dict[str, torch.Tensor], Image.Image, list[int]]:
    calls: list[list[torch.Tensor]] = []
    steps: list[torch.Tensor] = []
    caption: list[torch.Tensor] = []

    def before(_module, arguments) -> None:
        calls.append([latents.clone() for latents in arguments[0]])
        caption[:] = [features.clone() for features in arguments[2]]

    def after_step(_pipeline, _index, _timestep, given) -> dict:
        steps.append(given["latents"].clone())
        return given

    hook = pipeline.transformer.register_forward_pre_hook(before)
    shown = pipeline(
        # A fresh list: the pipeline overwrites the entries of the list that it is given.
        prompt=[case["prompt"]],
        num_inference_steps=case["steps"],
        generator=torch.Generator("cpu").manual_seed(case["seed"]),
        callback_on_step_end=after_step,
        **arguments(folder, case),
    ).images[0]
    hook.remove()
    tensors = {"start": calls[0][0].squeeze(1), "steps": torch.cat(steps)}
    if len(caption[0]) < 100:
        tensors["caption"] = caption[0]
    return tensors, shown, [len(call) for call in calls]


def arguments(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    given = {key: case.get(key, default) for key, default in DEFAULTS.items()}
    if "image" in case:
        given |= {"image": Image.open(folder / case["image"]), "strength": case["strength"]}
    else:
        given |= {"width": case["width"], "height": case["height"]}
    if "mask" in case:
        given["mask_image"] = Image.open(folder / case["mask"])
    return given
