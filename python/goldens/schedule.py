"""Sigmas and timesteps by the pipelines' own functions, as f32 bit patterns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageImg2ImgPipeline
from diffusers.pipelines.z_image.pipeline_z_image import (
    calculate_shift,
    get_default_z_image_sigmas,
    retrieve_timesteps,
)

from golden import hex_f32, write_json

STEPS = [*range(1, 51), 100]
SHIFTS = [1.0, 2.5, 3.0, 6.0]
STRENGTHS = [0.0, 0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99, 1.0]


def build(out: Path) -> None:
    write_json(
        out / "schedule" / "schedule.json",
        {
            "raw": [{"steps": n, "sigmas": hex_f32(torch.tensor(get_default_z_image_sigmas(n)))} for n in STEPS],
            "shifted": [shifted(shift, n) for shift in SHIFTS for n in STEPS],
        },
        seed=None,
    )
    write_json(
        out / "schedule" / "strength.json",
        {"starts": [start(n, strength) for n in (1, 2, 3, 4, 8, 9, 20, 28, 50) for strength in STRENGTHS]},
        seed=None,
    )


def scheduled(shift: float, steps: int) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=False)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=get_default_z_image_sigmas(steps), mu=calculate_shift(4096))
    return scheduler


def shifted(shift: float, steps: int) -> dict:
    scheduler = scheduled(shift, steps)
    return {
        "shift": shift,
        "steps": steps,
        "sigmas": hex_f32(scheduler.sigmas),
        "timesteps": hex_f32(scheduler.timesteps),
        "times": hex_f32((1000 - scheduler.timesteps) / 1000),
    }


def start(steps: int, strength: float) -> dict:
    """The first step that image-to-image takes; `remaining` 0 means that the pipeline refuses."""
    scheduler = scheduled(3.0, steps)
    _, remaining = ZImageImg2ImgPipeline.get_timesteps(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")
    return {"steps": steps, "strength": strength, "t_start": scheduler.begin_index, "remaining": remaining}
