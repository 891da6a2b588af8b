#!/usr/bin/env bash
# A GPU at hand: everything that only a GPU can answer, from a build that was carried to it.
#
#     benches/gpu.sh pack                 # where Rust is: program, tests and what they read, in target/gpu
#     benches/gpu.sh [STEP …]             # where the GPU is, in the same folder; all steps without a name
#
# Steps, each less than ten minutes: devices, tests, sanitizer, speed, tiles, torch, counters. What they print is kept
# in target/gpu/report (or REPORT), one file a step, and report.md puts the figures into a table. The machine
# needs an NVIDIA driver and NVRTC (a CUDA toolkit, or Python's nvidia-cuda-nvrtc package); a step whose tool is
# missing says so and is left out. CARD=1 takes GPU 1.
set -uo pipefail
cd "$(dirname "$0")/.."
packed=target/gpu
report=${REPORT:-$packed/report}
card=${CARD:-0}
config=configs/ilsvrc2010.toml
tests=(cuda_kernels cuda_cases cuda_input cuda_passes cuda_standin cuda_train)

pack() {
    rm -rf "$packed" && mkdir -p "$packed"
    # The paths of the test binaries, as cargo names them.
    cargo test --release --no-run --message-format=json --bench tiles $(printf -- '--test %s ' "${tests[@]}") |
        python3 -c 'import json, sys
for line in sys.stdin:
    built = json.loads(line)
    if built.get("executable"): print(built["target"]["name"], built["executable"])' |
        while read -r name file; do cp "$file" "$packed/$name"; done
    cargo build --release && cp target/release/alexnet "$packed/"
    du -sh "$packed"
}

# Runs a step's command within its seconds; what it prints goes to a file and, its end, to the terminal.
kept() {
    local name=$1 seconds=$2
    shift 2
    local begun=$SECONDS
    timeout "$seconds" "$@" >"$report/$name.txt" 2>&1
    local code=$?
    echo "$name: exit code $code after $((SECONDS - begun)) s" | tee -a "$report/steps.txt"
    tail -n "${TAIL:-8}" "$report/$name.txt"
    return $code
}

has() {
    command -v "$1" >/dev/null || { echo "left out: there is no $1 on this machine" | tee -a "$report/steps.txt"; false; }
}

devices() {
    TAIL=20 kept devices 60 "$packed/alexnet" devices
}

run_tests() {
    local name
    for name in "${tests[@]}"; do
        ALEXNET_TEST_GPU=1 ALEXNET_TEST_PROGRAM="$PWD/$packed/alexnet" \
            kept "test-$name" 150 "$packed/$name" --test-threads="${TEST_THREADS:-4}"
    done
}

# In bfloat16, the newest kernels; both towers' workers on one card, so that what crosses between them is looked at too.
sanitizer() {
    has compute-sanitizer || return
    local tool
    for tool in memcheck racecheck initcheck synccheck; do
        kept "$tool" 150 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
            "$packed/alexnet" bench --config $config --set 'train.batch=4' --set 'gpu.precision="bf16"' --steps 1 --device "cuda:$card,$card"
    done
}

speed() {
    local batch precision
    for precision in f32 tf32 bf16; do
        for batch in 128 256 512; do
            kept "speed-$precision-$batch" 120 "$packed/alexnet" bench --config $config --batch $batch --steps 20 \
                --set "gpu.precision=\"$precision\"" --device "cuda:$card" --json
        done
        TAIL=40 kept "table-$precision" 120 "$packed/alexnet" bench --config $config --batch 128 --steps 20 \
            --set "gpu.precision=\"$precision\"" --device "cuda:$card"
    done
}

# Every tile for every product, against the one that is chosen.
tiles() {
    TAIL=60 kept tiles 240 "$packed/tiles" --device "cuda:$card"
}

torch() {
    has python3 && python3 -c 'import torch' || return
    local precision flags
    for precision in f32 tf32 bf16; do
        for flags in "" "--graphs --channels-last"; do
            CUDA_VISIBLE_DEVICES=$card kept "torch-$precision${flags// /}" 120 python3 \
                benches/peers/alexnet_torch.py --device cuda --steps 30 --warm-up 10 --precision $precision $flags
        done
    done
}

# The share of its time that each kernel keeps the multiply-add pipe, memory and the schedulers busy.
counters() {
    has ncu || return
    local share=.avg.pct_of_peak_sustained_active
    kept counters 240 ncu --clock-control none --csv --page raw --launch-count "${LAUNCHES:-230}" --metrics \
        gpu__time_duration.sum,sm__inst_executed_pipe_fma$share,sm__warps_active$share,sm__throughput.avg.pct_of_peak_sustained_elapsed,dram__bytes.sum,l1tex__data_bank_conflicts_pipe_lsu.sum,launch__registers_per_thread \
        "$packed/alexnet" bench --config $config --batch 128 --steps 1 --device "cuda:$card"
}

# One table out of what the steps have left.
table() {
    python3 - "$report" <<'PYTHON' | tee "$report/report.md"
import json, pathlib, sys
report = pathlib.Path(sys.argv[1])
def last_json(file):
    text = file.read_text()
    try:
        return json.loads(text[text.index("{"):])
    except ValueError:
        return None
print("| | training, images/s | evaluation, images/s |\n| --- | ---: | ---: |")
for file in sorted(report.glob("speed-*.txt")) + sorted(report.glob("torch-*.txt")):
    figures = last_json(file)
    if figures:
        train, evaluation = (figures[f"{k}_images_per_second"] for k in ("train", "eval"))
        print(f"| {file.stem} | {train:.0f} | {evaluation:.0f} |")
PYTHON
}

if [ "${1:-}" = pack ]; then
    pack
    exit
fi
mkdir -p "$report"
for step in "${@:-devices tests sanitizer speed tiles torch counters}"; do
    for one in $step; do
        case $one in
        devices | sanitizer | speed | tiles | torch | counters) "$one" ;;
        tests) run_tests ;;
        *) echo "$one is none of devices, tests, sanitizer, speed, tiles, torch, counters, pack" >&2 && exit 2 ;;
        esac
    done
done
table
