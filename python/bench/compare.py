"""Runs `zimage bench` and PyTorch in turn on the same work, and prints a Markdown table of both.

    python compare.py --binary ../../target/release/zimage [--sizes 256 512] [--rounds 2] [--json FILE]

Every round runs each program once in a process of its own, so that a machine that slows down slows all of them; the table has
the median of the rounds. Times are CPU-seconds, of one thread by default. Rates are the operations that `zimage bench` counts
over these seconds, whoever ran them, and shares are of the peak that `zimage bench` measured. `peers.py` says what a peer runs.

Two things are not the same on both sides. diffusers runs the caption's refiner in every step (1.2 % of a step at 256x256, 0.4 %
at 512x512); `zimage` runs it once per prompt, in no row here. And `zimage` lays out the text encoder's weights within the time
measured, since they are used once; PyTorch has them packed before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

# `zimage bench`: what weights are stored as, and the arithmetic. The first is what the others are compared with.
OURS = {"zimage, int8": ("int8", "int8", "int8"), "zimage, bf16 weights, exact": ("bf16", "exact", "f32")}
# The programs of peers.py, and the peak that bounds each. No bench measures the peak of bf16 dot products, which is higher
# than that of f32, so a share of f32 may exceed 100 % there.
PEERS = {
    "torch-int8": ("PyTorch, int8 by oneDNN", "int8"),
    "torch-dynamic": ("PyTorch, quantize_dynamic", "int8"),
    "torch-bf16": ("PyTorch, bf16", "f32"),
    "torch-f32": ("PyTorch, f32", "f32"),
}
# 8 bits are for Linear layers, and the VAE has four of them: its decoder is measured in the formats that convolutions have.
VAE_PEERS = ("torch-bf16", "torch-f32")
STAGES = ("step", "text_encoder", "vae_decode")
# The relative error of a Linear layer in 8 bits; a wrong layout or scale gives about 1.
LARGEST_ERROR = 0.05
# The allocator keeps freed pages, as the one of `zimage` does. Without it PyTorch in 8 bits takes 4 to 7 % longer.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_TOP_PAD_": str(1 << 26)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the zimage program")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="width and height")
    parser.add_argument("--exact-sizes", type=int, nargs="*", help="sizes that exact arithmetic runs at; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every run here, after each of them")
    arguments = parser.parse_args()
    arguments.exact_sizes = arguments.sizes if arguments.exact_sizes is None else arguments.exact_sizes
    runs = []
    for number in range(arguments.rounds):
        for run in one_round(arguments):
            load = os.getloadavg()[0]
            print(f"round {number + 1}: {run['program']}, load {load:.1f}", file=sys.stderr, flush=True)
            runs.append(run | {"round": number + 1, "load": load})
            if arguments.json:
                arguments.json.write_text(json.dumps(runs, indent=1))
    print_tables(runs)


def one_round(arguments: argparse.Namespace):
    """Yields the runs one by one: ours before the peers of the same size, so that all of them see the same machine."""
    for size in arguments.sizes:
        for name, (precision, compute, _) in OURS.items():
            if compute != "exact" or size in arguments.exact_sizes:
                yield run_ours(arguments, name, precision, compute, size)
        for peer in PEERS:
            yield run_peer(arguments, peer, size)


def run_ours(arguments: argparse.Namespace, name: str, precision: str, compute: str, size: int) -> dict:
    found = run(
        [str(arguments.binary), "bench", "--shape", "turbo", "--precision", precision, "--compute", compute,
         "--width", str(size), "--height", str(size), "--steps", "1", "--threads", str(arguments.threads), "--json", "-q"],
        {},
    )
    stages = [
        {"name": stage["name"], "size": size, "cpu_s": stage["cpu_ms"] / 1000, "flop": stage["flop"]}
        for stage in found["stages"] if stage["name"] in STAGES
    ]
    return {"program": name, "machine": found["machine"], "peak": found["peak"], "stages": stages}


def run_peer(arguments: argparse.Namespace, peer: str, size: int) -> dict:
    stages = STAGES if peer in VAE_PEERS else STAGES[:2]
    found = run(
        [sys.executable, str(Path(__file__).with_name("peers.py")), peer, "--sizes", str(size),
         "--threads", str(arguments.threads), "--stages", *stages],
        ALLOCATOR,
    )
    for stage in found["stages"]:
        stage["size"] = size
        if stage["error"] > LARGEST_ERROR:
            raise SystemExit(f"{peer}: a layer is {stage['error']:.3f} off in {stage['name']}")
    return found | {"program": PEERS[peer][0]}


def run(command: list[str], environment: dict[str, str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def print_tables(runs: list[dict]) -> None:
    ours = [run for run in runs if "peak" in run]
    peaks = {
        "f32": statistics.median(run["peak"]["f32_gflops_per_core"] for run in ours),
        "int8": statistics.median(run["peak"]["int8_gops_per_core"] for run in ours),
    }
    print(f"{ours[0]['machine']}; peak per core {peaks['f32']:.0f} GFLOP/s f32, {peaks['int8']:.0f} GOP/s int8\n")
    print("| what | program | CPU-seconds | GFLOP/s per core | share of peak | times zimage int8 |")
    print("|---|---|---:|---:|---:|---:|")
    bounds = {name: bound for name, (_, _, bound) in OURS.items()} | dict(PEERS.values())
    for stage in STAGES:
        # The text encoder does not depend on the size: its rows are medians over all sizes.
        for size in [None] if stage == "text_encoder" else sorted({s["size"] for r in runs for s in r["stages"]}):
            print_rows(runs, stage, size, bounds, peaks)


def print_rows(runs: list[dict], stage: str, size: int | None, bounds: dict[str, str], peaks: dict[str, float]) -> None:
    baseline, flop = None, None
    for program, bound in bounds.items():
        found = [
            measured for run in runs if run["program"] == program for measured in run["stages"]
            if measured["name"] == stage and size in (None, measured["size"])
        ]
        if not found:
            continue
        seconds = statistics.median(measured["cpu_s"] for measured in found)
        baseline, flop = baseline or seconds, flop or found[0]["flop"]
        # The VAE computes in f32 whatever the Linear layers compute in.
        bound = "f32" if stage == "vae_decode" else bound
        rate = flop / seconds / 1e9
        what = stage if size is None else f"{stage} {size}x{size}"
        print(
            f"| {what} | {program} | {seconds:.2f} | {rate:.0f} | {rate / peaks[bound]:.0%} {bound} "
            f"| {seconds / baseline:.2f} |"
        )


if __name__ == "__main__":
    main()
