"""Runs `zimage bench` and diffusers in turn on one GPU, on random weights of the real shapes, and prints a table of both.

    python compare_gpu.py --binary ../../target/release/zimage [--rounds 3] [--model DIR] [--json FILE]
    python compare_gpu.py --binary ../../target/debug/zimage --tiny --device cpu

A picture of 1024x1024 in 8 steps, in bf16 and in fp8. diffusers runs in one process that stays, with its weights in memory,
everything compiled and tuned before the first round (`gpu_peers.py` has the configurations); `zimage bench` brings its weights
over and runs once before it is timed. A round runs each of them once, so that a device that slows down slows all of them; the
table has the median of the rounds. A configuration that cannot run here is a row with the reason.

With `--model`, a checkpoint in bf16 (`cargo xtask random-checkpoint` makes one), also the time from the start of `zimage
generate` to the end of its first step is measured, with the files in the page cache, and that of later pictures.

What is not the same: diffusers pads the prompt to 512 tokens and runs the caption's refiner in every step; `zimage` does
neither. Its steps are without the scheduler's, which is a sum of 64 thousand values.
Exit code 1: a bar was missed. Bars are judged on an H200 only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from gpu_configurations import CONFIGURATIONS, STAGES

OURS = {"zimage, bf16": "bf16", "zimage, fp8": "fp8"}
# Times that the program is started anew for its first step.
STARTS = 3
BEST_GPU = "H200"
# In seconds, but for the ratio.
BARS = {
    "8 steps in bf16": ("<=", 0.62),
    "8 steps in fp8": ("<=", 0.42),
    "text encoder and VAE in bf16": ("<=", 0.25),
    "times as fast as the best diffusers in bf16": (">=", 1.3),
    "start to the end of the first step": ("<", 6.0),
}


def main() -> int:
    arguments = parse_arguments()
    found = {"machine": machine(), "arguments": {key: str(value) for key, value in vars(arguments).items()},
             "missing": {}, "prepared": {}, "runs": []}
    names = wanted_configurations(arguments)
    peer = Peer(arguments, found["missing"]) if names else None
    if peer is not None and peer.is_there:
        found["peers"] = peer.about
        names = prepare(peer, [*STAGES, *names], found, time.monotonic() + arguments.prepare_seconds)
    for number in range(arguments.rounds):
        for run in one_round(arguments, peer, names, found["missing"]):
            said = {key: round(value, 4) for key, value in run.items() if isinstance(value, float)}
            print(f"round {number + 1}: {run['program']}: {said}", file=sys.stderr, flush=True)
            found["runs"].append(run | {"round": number + 1})
            keep(found, arguments)
    if peer is not None:
        peer.end()
    if arguments.model:
        found["pictures"] = pictures(arguments)
    found["medians"] = medians(found["runs"])
    found["bars"] = bars(found, arguments)
    keep(found, arguments)
    print_tables(found)
    return 1 if any(bar["met"] is False for bar in found["bars"]) else 0


def keep(found: dict, arguments: argparse.Namespace) -> None:
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the zimage program")
    parser.add_argument("--device", default="cuda", help="where both compute; zimage takes an emulated GPU for cpu if it is told")
    parser.add_argument("--size", type=int, help="width and height; default 1024, 64 with --tiny")
    parser.add_argument("--steps", type=int, help="default 8, 2 with --tiny")
    parser.add_argument("--rounds", type=int, default=3, help="0 with --only and --model: whole runs of the program alone")
    parser.add_argument("--only", nargs="*", help="configurations of diffusers that contain one of these; none: zimage alone")
    parser.add_argument("--limit", type=int, default=300, help="seconds that preparing one configuration may take")
    parser.add_argument("--prepare-seconds", type=int, default=1800, help="after these no other configuration is prepared")
    parser.add_argument("--model", type=Path, help="a checkpoint in bf16, for the time to the first step")
    parser.add_argument("--tiny", action="store_true", help="few features and layers, to try this where there is no GPU")
    parser.add_argument("--json", type=Path, help="keep everything here, after each run")
    arguments = parser.parse_args()
    arguments.size = arguments.size or (64 if arguments.tiny else 1024)
    arguments.steps = arguments.steps or (2 if arguments.tiny else 8)
    return arguments


def wanted_configurations(arguments: argparse.Namespace) -> list[str]:
    wanted = [""] if arguments.only is None else arguments.only
    return [name for name in CONFIGURATIONS if any(part in name for part in wanted)]


class Peer:
    """The process of diffusers."""

    def __init__(self, arguments: argparse.Namespace, missing: dict[str, str]) -> None:
        command = [sys.executable, str(Path(__file__).with_name("gpu_peers.py")), "--device", arguments.device,
                   "--size", str(arguments.size), "--steps", str(arguments.steps), "--limit", str(arguments.limit)]
        self.limit = arguments.limit
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*command, *(["--tiny"] if arguments.tiny else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.about = self.answer()
        self.is_there = "missing" not in self.about
        if not self.is_there:
            missing["diffusers"] = self.about["missing"]

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def ask(self, wish: dict) -> dict:
        if not self.is_there:
            return {"missing": "the process of diffusers has ended"}
        try:
            self.process.stdin.write(json.dumps(wish) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended, and there is no answer.
        return self.answer()

    def answer(self) -> dict:
        try:
            # Longer than it takes to give up by itself.
            line = self.lines.get(timeout=self.limit + 60)
        except queue.Empty:
            line = ""
            self.process.kill()
        if line:
            return json.loads(line)
        self.is_there = False
        self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no answer"])[-1]
        return {"missing": f"the process of diffusers ended with {self.process.returncode}: {last}"}

    def end(self) -> None:
        if self.is_there:
            self.process.stdin.close()
            self.process.wait(timeout=60)


def prepare(peer: Peer, names: list[str], found: dict, end: float) -> list[str]:
    """Gets all ready, and returns the names of what can run."""
    ready = []
    for name in names:
        is_time_left = time.monotonic() < end
        answer = peer.ask({"prepare": name}) if is_time_left else {"missing": "no time was left to prepare it"}
        text = answer.get("missing") or f"ready after {answer['first_seconds']:.1f} s"
        print(f"{name}: {text}", file=sys.stderr, flush=True)
        if "missing" in answer:
            found["missing"][name] = answer["missing"]
        else:
            found["prepared"][name] = answer["first_seconds"]
            ready.append(name)
    return ready


def one_round(arguments: argparse.Namespace, peer: Peer | None, names: list[str], missing: dict[str, str]):
    """Yields the runs one by one: ours before, amid and after the peers, so that all see the same machine."""
    is_cpu = arguments.device == "cpu" and "ZIMAGE_CUDA_EMULATOR" not in os.environ
    ours = {"zimage, exact": "exact"} if is_cpu else OURS
    half = (len(names) + 1) // 2
    parts = [names[:half], names[half:]] if peer is not None and peer.is_there else [[], []]
    for index, part in enumerate(parts):
        for program, compute in list(ours.items())[index:index + 1]:
            yield run_ours(arguments, program, compute)
        for name in part:
            answer = peer.ask({"run": name})
            if "missing" in answer:
                missing[name] = answer["missing"]
            elif name in STAGES:
                yield {"program": "diffusers, eager", name: answer["seconds"]}
            else:
                yield {"program": f"diffusers, {name}", "denoise": answer["seconds"]}


def run_ours(arguments: argparse.Namespace, program: str, compute: str) -> dict:
    shape = "demo" if arguments.tiny else "turbo"
    command = [str(arguments.binary), "bench", "--shape", shape, "--precision", "bf16", "--compute", compute,
               "--device", our_device(arguments), "--width", str(arguments.size), "--height", str(arguments.size),
               "--steps", str(arguments.steps), "--json", "-q"]
    report = json.loads(run(command).splitlines()[-1])
    seconds = {stage["name"]: stage["wall_ms"] / 1000 for stage in report["stages"]}
    # As `generate` does it: the first step is taken, the others are repeated where the device records it.
    denoise = seconds["step"] + seconds.get("step.repeated", seconds["step"]) * (arguments.steps - 1)
    return {"program": program, "denoise": denoise, "report": report,
            **{name: seconds[name] for name in STAGES}}


def our_device(arguments: argparse.Namespace) -> str:
    return "cuda" if "ZIMAGE_CUDA_EMULATOR" in os.environ else arguments.device


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def pictures(arguments: argparse.Namespace) -> list[dict]:
    """Whole runs of the program: the first one brings the files into the page cache."""
    compute = "exact" if our_device(arguments) == "cpu" else "bf16"
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for steps, count in [(1, 1)] * (1 + STARTS) + [(arguments.steps, 3)]:
            start = time.monotonic()
            lines = run([
                str(arguments.binary), "generate", "a photo of a cat sitting on a wooden table", "--model",
                str(arguments.model), "--width", str(arguments.size), "--height", str(arguments.size), "--steps", str(steps),
                "--seed", "1", "--count", str(count), "--device", our_device(arguments), "--compute", compute,
                "-o", f"{folder}/{{index}}-{len(found)}.png", "--json", "-q",
            ])
            wall = time.monotonic() - start
            timings = [json.loads(line)["timings_ms"] for line in lines.splitlines()]
            # Decoding comes after the steps, and so does writing, which is short.
            first_step = wall - timings[0]["decode"] / 1000 if steps == 1 else None
            found.append({"steps": steps, "wall": wall, "first_step": first_step, "timings_ms": timings})
    return found


def machine() -> dict:
    """The GPU, as the driver tells; nothing where there is none."""
    about = {"host": platform.platform(), "cores": os.cpu_count()}
    query = ["name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.mem"]
    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(query)}", "--format=csv,noheader"], capture_output=True, text=True,
        ).stdout.splitlines()
    except OSError:
        return about
    return about | (dict(zip(query, said[0].split(", "))) if said else {})


def medians(runs: list[dict]) -> dict[str, dict[str, float]]:
    programs = list(dict.fromkeys(run["program"] for run in runs))
    keys = ("denoise", *STAGES)
    all_of = lambda program, key: [run[key] for run in runs if run["program"] == program and key in run]
    table = {program: {key: all_of(program, key) for key in keys} for program in programs}
    return {
        program: {key: statistics.median(values) for key, values in row.items() if values} for program, row in table.items()
    }


def bars(found: dict, arguments: argparse.Namespace) -> list[dict]:
    """Each bar with what was measured; `met` is null where it cannot be judged."""
    rows = found["medians"]
    ours, ours_fp8 = (rows.get(program, {}) for program in OURS)
    peers = {name: row["denoise"] for name, row in rows.items()
             if name.startswith("diffusers") and "denoise" in row and "fp8" not in name}
    starts = [picture["first_step"] for picture in found.get("pictures", [])[1:] if picture["steps"] == 1]
    measured = {
        "8 steps in bf16": ours.get("denoise"),
        "8 steps in fp8": ours_fp8.get("denoise"),
        "text encoder and VAE in bf16": ours["text_encoder"] + ours["vae_decode"] if ours else None,
        "times as fast as the best diffusers in bf16": min(peers.values()) / ours["denoise"] if peers and ours else None,
        "start to the end of the first step": statistics.median(starts) if starts else None,
    }
    is_judged = not arguments.tiny and arguments.size == 1024 and BEST_GPU in found["machine"].get("name", "")
    judged = []
    for name, (sign, bar) in BARS.items():
        value = measured[name]
        met = {"<=": lambda v: v <= bar, "<": lambda v: v < bar, ">=": lambda v: v >= bar}[sign]
        judged.append({"bar": name, "wanted": f"{sign} {bar}", "measured": value,
                       "met": met(value) if is_judged and value is not None else None})
    return judged


def print_tables(found: dict) -> None:
    name = found["machine"].get("name", "no GPU")
    print(f"{name}, driver {found['machine'].get('driver_version', '-')}; {found.get('peers', {}).get('versions', {})}\n")
    print("| program | steps s | text encoder s | VAE s | all s | times the first |\n|---|---:|---:|---:|---:|---:|")
    rows = found["medians"]
    stages = rows.get("diffusers, eager", {})
    baseline = next((row["denoise"] for program, row in rows.items() if program.startswith("zimage")), None)
    for program, row in rows.items():
        if "denoise" not in row:
            continue
        row = row if program.startswith("zimage") else stages | row
        cells = [row.get(key) for key in ("denoise", *STAGES)]
        cells.append(None if None in cells else sum(cells))
        times = row["denoise"] / baseline if baseline else None
        texts = [f"{cell:.3f}" if cell is not None else "-" for cell in cells] + [f"{times:.2f}" if times else "-"]
        print(f"| {program} | {' | '.join(texts)} |")
    for name, reason in found["missing"].items():
        print(f"| {name} | missing: {reason} | | | | |")
    print("\n| bar | wanted | measured | |\n|---|---:|---:|---|")
    for bar in found["bars"]:
        measured = "-" if bar["measured"] is None else f"{bar['measured']:.3f}"
        verdict = {None: "not judged here", True: "met", False: "MISSED"}[bar["met"]]
        print(f"| {bar['bar']} | {bar['wanted']} | {measured} | {verdict} |")


if __name__ == "__main__":
    sys.exit(main())
