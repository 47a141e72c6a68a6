#!/usr/bin/env bash
# What is first run on a machine with a GPU, in this order, with what pack.sh made; needs no cargo and no network:
#
#     benches/gpu/run.sh build/gpu OUT [PART...]
#
# Each part runs under a time limit of its own, and what it prints is in OUT/PART.log with its exit code in OUT/PART.rc
# (124: it ran out of time). A part that fails does not stop the others. PARTs choose some; without any all are run but
# `parity`, a step of the whole model against diffusers on the same GPU, and `pictures`, whole runs from files: they need
# 20 GB of disk each. SECONDS_LEFT ends the whole early: a part gets what is left of it, and none begins with less than
# 10 s. TINY=1 shrinks all sizes, for trying it on the emulated GPU.
set -uo pipefail
usage="usage: benches/gpu/run.sh FOLDER OUT [PART...]"
here=$(cd "$(dirname "$0")/../.." && pwd)
archive=${1:?$usage}/gpu.tar.gz
mkdir -p "${2:?$usage}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar -xzf "$archive" -C "$folder" || exit
out=$(cd "$2" && pwd)
shift 2
known=" about device-tests conformance pipeline-tests bench-bf16 bench-fp8 bench-int8 kernels compare parity pictures "
for name in "$@"; do
    [[ "$known" == *" $name "* ]] || { echo "there is no part $name; there are:$known" >&2; exit 2; }
done
wanted=" $* "
deadline=$((SECONDS + ${SECONDS_LEFT:-86400}))
tiny=${TINY:+--tiny}
shape=turbo size=1024 steps=8
if [ -n "$tiny" ]; then shape=demo size=64 steps=2; fi
parts=()

# part NAME LIMIT COMMAND...
part() {
    local name=$1 limit=$2 left=$((deadline - SECONDS)) started=$SECONDS
    shift 2
    if [ "$wanted" = "  " ]; then
        [[ " parity pictures " != *" $name "* ]] || return 0
    else
        [[ "$wanted" == *" $name "* ]] || return 0
    fi
    parts+=("$name")
    if [ "$left" -lt 10 ]; then
        echo "no time was left" > "$out/$name.log"
        echo 125 > "$out/$name.rc"
        return 0
    fi
    echo "== $name: $*"
    timeout --kill-after=10 "$((limit < left ? limit : left))" "$@" > "$out/$name.log" 2>&1
    echo $? > "$out/$name.rc"
    echo "rc $(cat "$out/$name.rc"), $((SECONDS - started)) s"
}

# One test at a time, so that what a device test measures is not disturbed.
tests=(--nocapture --test-threads=1)
bench=(bench --shape "$shape" --width "$size" --height "$size" --steps "$steps" --device cuda --precision bf16)

about() {
    uname -a
    nvidia-smi
    nvidia-smi -q -d CLOCK,POWER,PERFORMANCE
    "$folder/zimage" --version
    python3 -c 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())'
    python3 -c 'import diffusers; print(diffusers.__version__)'
    true
}
with_json() {
    local file=$1
    shift
    set -o pipefail
    "$@" --json | tee "$file"
}
parity() {
    local whole=()
    [ -n "$tiny" ] || whole=(--layers 30 --refiner-layers 2 --text-layers 36 --width 1024 --height 1024 --steps 1)
    python3 "$here/python/check_full_width.py" --binary "$folder/zimage" --device cuda --compute bf16 \
        --tolerance 0.1 "${whole[@]}"
}
pictures() {
    local model
    model=$(mktemp -d "${TMPDIR:-/tmp}/zimage-model-XXXXXX")
    trap 'rm -rf "$model"' EXIT
    rmdir "$model" && "$folder/xtask" random-checkpoint "$model" --tokenizer "$folder/tokenizer.json" \
        --shape "${shape/demo/tiny}" || return 1
    compare pictures --model "$model" --rounds 0 --only
}
compare() {
    local name=$1
    shift
    python3 "$here/python/bench/compare_gpu.py" --binary "$folder/zimage" --size "$size" --steps "$steps" $tiny \
        ${DEVICE:+--device "$DEVICE"} --json "$out/$name.json" "$@"
}
export -f about with_json parity pictures compare
export here folder out tiny shape size steps
# Whatever is not on the machine is missing, and nobody waits for a network.
export HF_HUB_OFFLINE=1

# Wheels that were packed, where Python has none of its own.
if [ -d "$folder/wheels" ] && ! python3 -c 'import diffusers' 2> /dev/null; then
    site=$(mktemp -d)
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$folder"/wheels/*.whl
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi

part about 60 bash -c about
part device-tests 240 "$folder/tensor-tests" device_tests "${tests[@]}"
part conformance 300 "$folder/tensor-tests" conformance "${tests[@]}"
part pipeline-tests 240 "$folder/pipeline-tests" on_device "${tests[@]}"
for compute in bf16 fp8 int8; do
    part "bench-$compute" 180 bash -c 'with_json "$@"' - "$out/bench-$compute.json" \
        "$folder/zimage" "${bench[@]}" --compute "$compute"
done
part kernels 300 "$folder/bench-cuda" $tiny --json "$out/kernels.json"
part compare 560 bash -c 'compare compare --limit 150 --prepare-seconds 300'
part parity 540 bash -c parity
part pictures 540 bash -c pictures

{
    for name in "${parts[@]}"; do
        printf '%-16s rc %s\n' "$name" "$(cat "$out/$name.rc")"
    done
    for name in "${parts[@]}"; do
        printf '\n== %s\n' "$name"
        case $name in
            *tests | conformance) grep -E '^test result|FAILED|panicked|is skipped|skipped on' "$out/$name.log" | sort | uniq -c ;;
            *) tail -n 200 "$out/$name.log" ;;
        esac
    done
} > "$out/summary.txt"
head -n "${#parts[@]}" "$out/summary.txt"
for name in "${parts[@]}"; do
    [ "$(cat "$out/$name.rc")" = 0 ] || exit 1
done
