"""The paper's network here and in PyTorch, in turn, as a table with ratios.

    cargo build --release
    pip install -r benches/peers/requirements.txt
    python benches/peers/compare.py

Each round runs `alexnet bench` and then PyTorch in each of its settings (eager and compiled, channels first and
last), one process at a time on all cores, so that a neighbour's noise meets all alike. The figures are medians over
the rounds; the peer of the ratios is PyTorch's best setting, training and evaluation each. bfloat16, which is another
precision, is shown with --bf16 but is no peer.
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SETTINGS = {
    "PyTorch, eager": [],
    "PyTorch, eager, channels last": ["--channels-last"],
    "PyTorch, compiled": ["--compile"],
    "PyTorch, compiled, channels last": ["--compile", "--channels-last"],
}


def run(command):
    """The JSON object that a command prints as its last output."""
    result = subprocess.run([str(c) for c in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with exit code {result.returncode}")
    return json.loads(result.stdout[result.stdout.index("{"):])


def processor():
    """The processor's name, where the system tells."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps that count in each run")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--config", default="configs/ilsvrc2010.toml")
    parser.add_argument("--alexnet", default=ROOT / "target/release/alexnet", help="the program")
    parser.add_argument("--bf16", action="store_true", help="also PyTorch in bfloat16, compiled")
    options = parser.parse_args()
    settings = dict(SETTINGS)
    if options.bf16:
        settings["PyTorch, bfloat16, compiled"] = ["--compile", "--channels-last", "--precision", "bf16"]
    sizes = ["--steps", options.steps, "--batch", options.batch]
    train, evaluate, peaks, version = {}, {}, [], ""
    for number in range(options.rounds):
        ours = run([options.alexnet, "bench", "--json", "--device", "cpu", "--config", options.config, *sizes])
        peaks.append(ours["peak_gflops"])
        results = {"alexnet": ours}
        for name, flags in settings.items():
            results[name] = run([sys.executable, HERE / "alexnet_torch.py", *sizes, "--warm-up", 2, *flags])
            version = results[name]["torch"]
        for name, result in results.items():
            train.setdefault(name, []).append(result["train_images_per_second"])
            evaluate.setdefault(name, []).append(result["eval_images_per_second"])
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)

    train = {name: statistics.median(values) for name, values in train.items()}
    evaluate = {name: statistics.median(values) for name, values in evaluate.items()}
    best = [max(speeds[name] for name in SETTINGS) for speeds in (train, evaluate)]
    today = datetime.date.today().isoformat()
    print(f"{processor()}, multiply-add peak {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s, PyTorch {version}, "
          f"batch {options.batch}, median of {options.rounds} interleaved runs, {today}\n")
    print("| | training, images/s | evaluation, images/s |")
    print("| --- | ---: | ---: |")
    for name in train:
        print(f"| {name} | {train[name]:.1f} | {evaluate[name]:.1f} |")
    print(f"| alexnet ÷ PyTorch's best | {train['alexnet'] / best[0]:.2f} | {evaluate['alexnet'] / best[1]:.2f} |")


if __name__ == "__main__":
    main()
