"""Five steps of LARS here and in PyTorch: warm-up, linear scaling and the polynomial, from the formulas.

    cargo build --release
    pip install -r benches/peers/requirements.txt safetensors
    python benches/peers/lars_torch.py

Makes 24 pictures, trains a convolution and two fully connected layers on all of them at once for five steps, and
does the same in PyTorch from the same initial weights: the gradient by autograd, the update by algorithm 1 of You,
Gitman and Ginsburg (2017) as it stands in the paper, biases by momentum alone. Prints the largest difference of each
parameter as a part of its largest value, and fails above 1e-4.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy
import PIL.Image
import safetensors.numpy
import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).parent.parent.parent
SIDE, CLASSES, EACH, STEPS = 12, 3, 8, 5
RATE, BIAS_RATE, TRUST, MOMENTUM, DECAY, POWER, RATE_BATCH = 0.5, 0.001, 0.02, 0.9, 0.0005, 2.0, 12
CONFIG = f"""
name = "lars"
[data]
path = "set"
crop = {SIDE}
flip = false
color_noise = false
[train]
batch = {CLASSES * EACH}
epochs = {STEPS}
optimizer = "lars"
trust_coefficient = {TRUST}
momentum = {MOMENTUM}
weight_decay = {DECAY}
[schedule]
kind = "polynomial"
power = {POWER}
rate = {RATE}
bias_rate = {BIAS_RATE}
rate_batch = {RATE_BATCH}
warmup_epochs = 2
[[layer]]
name = "conv1"
kind = "conv"
kernels = 8
size = 3
weight_sigma = 0.01
[[layer]]
name = "relu1"
kind = "relu"
[[layer]]
name = "fc2"
kind = "fc"
outputs = 64
weight_sigma = 0.05
[[layer]]
name = "relu2"
kind = "relu"
[[layer]]
name = "fc3"
kind = "fc"
outputs = "classes"
weight_sigma = 0.05
[[layer]]
name = "softmax"
kind = "softmax"
"""


def ours(program, folder, name, *sets):
    """The parameters after training in `folder`, by name."""
    words = [word for key in sets for word in ("--set", key)]
    command = [program, "train", "--config", "net.toml", "--run", name, "--device", "cpu", *words]
    subprocess.run([str(word) for word in command], cwd=folder, check=True, capture_output=True)
    parameters = safetensors.numpy.load_file(folder / name / "last.safetensors")
    return {key: value for key, value in parameters.items() if key.endswith((".weight", ".bias"))
            and not key.startswith("momentum/")}


def factor(step):
    """What the rates are multiplied with: twice RATE_BATCH is the batch, two steps warm up, three fall."""
    scale = CLASSES * EACH / RATE_BATCH
    if step < 2:
        return 1 + (scale - 1) * (step + 1) / 2
    return scale * (1 - (step - 2) / (STEPS - 2)) ** POWER


def theirs(initial, pixels, labels):
    """The parameters after STEPS steps of PyTorch, in double precision."""
    w = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in initial.items()}
    v = {name: torch.zeros_like(value) for name, value in w.items()}
    x = torch.tensor(pixels - pixels.mean(0), dtype=torch.float64).permute(0, 3, 1, 2)
    for step in range(STEPS):
        y = F.relu(F.conv2d(x, w["conv1.weight"], w["conv1.bias"])).flatten(1)
        y = F.relu(F.linear(y, w["fc2.weight"], w["fc2.bias"]))
        loss = F.cross_entropy(F.linear(y, w["fc3.weight"], w["fc3.bias"]), torch.tensor(labels))
        gradients = torch.autograd.grad(loss, list(w.values()))
        with torch.no_grad():
            for (name, value), g in zip(w.items(), gradients):
                rate, decay = (BIAS_RATE, 0) if name.endswith(".bias") else (RATE, DECAY)
                if not name.endswith(".bias"):
                    rate *= TRUST * value.norm() / (g.norm() + decay * value.norm())
                v[name] = MOMENTUM * v[name] + factor(step) * rate * (g + decay * value)
                value -= v[name]
        print(f"step {step + 1}: loss {loss.item():.4f}, rate {factor(step) * RATE:.4f}")
    return {name: value.detach().numpy() for name, value in w.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alexnet", type=pathlib.Path, default=ROOT / "target/release/alexnet", help="the program")
    program = parser.parse_args().alexnet.resolve()
    random = numpy.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pixels, labels = [], []
        for label in range(CLASSES):
            (folder / "pictures" / str(label)).mkdir(parents=True)
            for number in range(EACH):
                picture = random.integers(0, 200, (SIDE, SIDE, 3)).astype(numpy.uint8)
                picture[:, :, label] //= 2
                PIL.Image.fromarray(picture).save(folder / "pictures" / str(label) / f"{number}.png")
                pixels.append(picture.astype(float))
                labels.append(label)
        (folder / "net.toml").write_text(CONFIG)
        prepare = [program, "prepare", "image-folder", "pictures", "--out", "set", "--size", str(SIDE),
                   "--val-fraction", "0"]
        subprocess.run([str(word) for word in prepare], cwd=folder, check=True, capture_output=True)
        initial = ours(program, folder, "initial", "train.epochs=1", "schedule.rate=0", "schedule.bias_rate=0")
        after = ours(program, folder, "run")
        expected = theirs(initial, numpy.array(pixels), labels)
    far = {name: abs(after[name] - expected[name]).max() / abs(expected[name]).max() for name in expected}
    moved = {name: abs(after[name] - initial[name]).max() / abs(expected[name]).max() for name in expected}
    for name in far:
        print(f"{name}: off by {far[name]:.1e}, has moved by {moved[name]:.1e}")
    sys.exit(int(max(far.values()) > 1e-4))


if __name__ == "__main__":
    main()
