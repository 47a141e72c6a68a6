"""Draws with the demo model in every mode of step caching, and compares time and pictures with those of no caching.

    python check_step_cache.py --binary ../target/release/zimage [--steps N ...] [--size PX] [--repeats N]

Prints, per number of steps and mode, the steps that run the main layers, the CPU time of the denoising loop relative to
no caching, and how close the pictures are: the mean over all pictures of correlation and PSNR, and the worst of each.
Times are those of one thread, the smallest of several runs, the modes in turn. What is no step (opening the model, the
text encoder, the VAE) is taken off by what a run of a single step takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

MODES = ("none", "slow", "medium", "fast")
PROMPTS = (
    "a red circle", "a small blue house on a meadow", "a yellow star at night", "a green tree and a purple boat",
    "a big orange fish in the sea", "a pink heart on a white background",
)
SEEDS = (7, 8, 9)
# The most that a picture may lose, on the mean. A residual that is added wrongly gives noise, which is near 0.
LEAST_CORRELATION = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 9, 20])
    parser.add_argument("--size", type=int, default=128, help="width and height")
    parser.add_argument("--repeats", type=int, default=3, help="runs of every mode, of which the fastest counts")
    arguments = parser.parse_args()
    print(f"{'steps':>5} {'mode':<7} {'computed':>8} {'time':>6} {'correlation':>12} {'worst':>8} {'PSNR dB':>8} {'worst':>6}")
    worst = min(compare(arguments, steps) for steps in arguments.steps)
    sys.exit(0 if worst >= LEAST_CORRELATION else f"a mean correlation of {worst:.3f} is below {LEAST_CORRELATION}")


def compare(arguments: argparse.Namespace, steps: int) -> float:
    """Prints the rows of one number of steps; returns the lowest mean correlation."""
    single, seconds, pictures = np.inf, dict.fromkeys(MODES, np.inf), {}
    for _ in range(arguments.repeats):
        single = min(single, draw(arguments, 1, "none")[0])
        for mode in MODES:
            taken, pictures[mode] = draw(arguments, steps, mode)
            seconds[mode] = min(seconds[mode], taken)
    step = (seconds["none"] - single) / (steps - 1)
    loop = {mode: taken - single + step for mode, taken in seconds.items()}
    correlations = []
    for mode in MODES[1:]:
        pairs = [(a.ravel(), b.ravel()) for a, b in zip(pictures["none"], pictures[mode])]
        correlation = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
        noise = [10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9)) for a, b in pairs]
        correlations.append(np.mean(correlation))
        print(
            f"{steps:>5} {mode:<7} {computed(arguments.binary, steps, mode):>8} {loop[mode] / loop['none']:>6.3f} "
            f"{np.mean(correlation):>12.5f} {min(correlation):>8.4f} {np.mean(noise):>8.2f} {min(noise):>6.1f}",
            flush=True,
        )
    return min(correlations)


def draw(arguments: argparse.Namespace, steps: int, mode: str) -> tuple[float, list[np.ndarray]]:
    """CPU seconds, and the picture of every prompt and seed."""
    with tempfile.TemporaryDirectory() as scratch:
        prompts = Path(scratch) / "prompts.txt"
        prompts.write_text("\n".join(PROMPTS) + "\n")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = run(
            arguments.binary, "generate", "--prompt-file", str(prompts), "--seed", str(SEEDS[0]), "-n", str(len(SEEDS)),
            "--threads", "1", "--compute", "exact", "--width", str(arguments.size), "--height", str(arguments.size),
            "--steps", str(steps), "--cache", mode, "-o", f"{scratch}/{{index}}.png",
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return taken, [np.asarray(Image.open(line["path"]).convert("RGB"), dtype=np.float64) for line in lines]


def computed(binary: Path, steps: int, mode: str) -> int:
    return run(binary, "plan", "--steps", str(steps), "--cache", mode, "x")[0]["computed_steps"]


def run(binary: Path, *arguments: str) -> list[dict]:
    command = [str(binary), *arguments, "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()
