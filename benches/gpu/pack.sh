#!/usr/bin/env bash
# Builds what run.sh needs for a machine with a GPU but without cargo and without a network, stripped, as one archive:
#
#     benches/gpu/pack.sh build/gpu [PROFILE]
#
# PROFILE is cargo's: release, or dev to try it. Fails when it takes more than 64 MiB. WHEELS=1 adds the Python package
# diffusers, and what it needs beside PyTorch and transformers, as wheels. EMULATOR=1 lets the programs take the CPU for a
# GPU, for trying all of it.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?usage: benches/gpu/pack.sh FOLDER [PROFILE]}
profile=${2:-release}
largest=$((64 << 20))
# feature CRATE: the flags with which the emulator of a crate is built.
feature() { [ -z "${EMULATOR:-}" ] || echo "--features $1cuda-emulator"; }

mkdir -p "$folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The program of a crate's target, as cargo names it; the same flags build it and find it.
built() {
    cargo "$@" --profile "$profile" --message-format json-render-diagnostics |
        python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])'
}
put() {
    strip -o "$scratch/$1" "$2"
    echo "$1: $(($(stat -c %s "$scratch/$1") >> 10)) KiB"
}

# shellcheck disable=SC2046 # flags are words
put zimage "$(built build -p zimage-cli --bin zimage $(feature zimage/))"
put xtask "$(built build -p xtask)"
# Without the emulator: on a machine with a GPU the tests need no C++ compiler.
put tensor-tests "$(built test -p zimage-tensor --lib --no-run)"
put pipeline-tests "$(built test -p zimage --lib --no-run)"
# shellcheck disable=SC2046
put bench-cuda "$(built build -p zimage-tensor --bench cuda $(feature ''))"
cp goldens/models/tiny-a/tokenizer/tokenizer.json "$scratch/tokenizer.json"

if [ -n "${WHEELS:-}" ]; then
    diffusers=$(grep -i '^diffusers==' python/requirements.txt)
    python3 -m pip download --quiet --no-deps --dest "$scratch/wheels" "$diffusers" importlib_metadata zipp
fi

tar -czf "$folder/gpu.tar.gz" -C "$scratch" .
bytes=$(stat -c %s "$folder/gpu.tar.gz")
echo "$folder/gpu.tar.gz: $((bytes >> 20)) MiB"
if [ "$bytes" -gt "$largest" ]; then
    echo "more than $((largest >> 20)) MiB" >&2
    exit 1
fi
