"""Whole runs of the real pipelines with step caching: latents after every step.

diffusers has no step caching. The rule of LeMiCa is laid around its transformer: on a step that is not computed one
module stands in for the main layers, and adds to the unified sequence what they added when they last ran. All else,
the refiners and the final layer too, is the transformer's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import models
from golden import write_json, write_tensors
from pipeline import CLASSES, DEFAULTS, PROMPT, run

# LeMiCa's lists for 9 steps; those of other lengths are ours.
NINE = {"slow": [0, 1, 2, 3, 5, 7, 8], "medium": [0, 1, 2, 4, 6, 8], "fast": [0, 1, 2, 5, 8]}
FAST_12 = [0, 1, 2, 3, 6, 9, 11]
SMALL = dict(model="tiny-a", prompt=PROMPT, width=48, height=32, seed=42)
GUIDED = dict(model="tiny-b", prompt=PROMPT, width=48, height=32, steps=9, guidance_scale=4.0, negative_prompt="dark", seed=1)

CASES: dict[str, dict[str, Any]] = {
    **{f"{cache}-9": dict(**SMALL, steps=9, cache=cache, computed=computed) for cache, computed in NINE.items()},
    "fast-12": dict(**{**SMALL, "model": "tiny-b"}, steps=12, cache="fast", computed=FAST_12),
    "guided": dict(**GUIDED, cache="fast", computed=NINE["fast"]),
    # Guidance ends between two steps that are not computed.
    "guided-truncated": dict(**GUIDED, cfg_truncation=0.1, cache="fast", computed=NINE["fast"]),
    # 9 of 15 steps are run.
    "image": dict(
        model="tiny-a", prompt=PROMPT, image="colours-80x64.png", strength=0.6, steps=15, seed=42, cache="medium",
        computed=NINE["medium"],
    ),
}


class AddResidual(torch.nn.Module):
    """Stands in for the main layers. A batch may have lost its unconditional half since they ran."""

    def __init__(self, residual: torch.Tensor) -> None:
        super().__init__()
        self.residual = residual

    def forward(self, unified: torch.Tensor, *_) -> torch.Tensor:
        return unified + self.residual[: unified.shape[0], : unified.shape[1]]


class StepCache:
    """Lays the rule around a transformer while it is entered."""

    def __init__(self, transformer, computed: list[int]) -> None:
        self.transformer, self.layers, self.computed = transformer, transformer.layers, computed
        self.step = 0
        self.hooks: list[Any] = []

    def __enter__(self) -> StepCache:
        self.hooks = [
            self.transformer.register_forward_pre_hook(self.choose),
            self.layers[0].register_forward_pre_hook(self.before),
            self.layers[-1].register_forward_hook(self.after),
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()
        self.transformer.layers = self.layers

    def choose(self, *_) -> None:
        computes = self.step in self.computed
        self.transformer.layers = self.layers if computes else torch.nn.ModuleList([AddResidual(self.residual)])
        self.step += 1

    def before(self, _module, arguments) -> None:
        self.unified = arguments[0].clone()

    def after(self, _module, _arguments, output) -> None:
        self.residual = output - self.unified


def build(out: Path) -> None:
    listed = []
    for name, case in CASES.items():
        task = "image" if "image" in case else "text"
        pipeline = models.load(out, case["model"], CLASSES[task])
        with StepCache(pipeline.transformer, case["computed"]):
            tensors, shown, batches = run(pipeline, out / "pipeline", case)
        write_tensors(out / "step_cache" / f"{name}.safetensors", {"steps": tensors["steps"]}, case["seed"])
        listed.append(
            {"name": name, "task": task, **DEFAULTS, **case, "width": shown.width, "height": shown.height, "batches": batches}
        )
    write_json(out / "step_cache" / "cases.json", {"cases": listed}, seed=None)
