"""One image to its five best labels, process start to end, here and in PyTorch, in turn.

    cargo build --release
    pip install -r benches/peers/requirements.txt
    python benches/peers/predict.py runs/NAME/best.safetensors photo.jpg

PyTorch does what its users write: the paper's network (alexnet_torch.py) with weights of a file (random ones, made
beforehand), Pillow, torchvision's transforms, softmax, top five. Both files are in the page cache after the first
round, which does not count. Prints medians of the seconds, the largest memory of a process, and the ratio.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def write_weights(path):
    """The file that the peer reads. In a process of its own: a process's largest memory counts its parent's too."""
    import torch

    sys.path.insert(0, str(HERE))
    from alexnet_torch import AlexNet

    torch.save(AlexNet().state_dict(), path)


def predict_with_torch(weights, image):
    """What a process of the peer does."""
    import torch
    from PIL import Image
    from torchvision import transforms

    sys.path.insert(0, str(HERE))
    from alexnet_torch import AlexNet

    model = AlexNet()
    model.load_state_dict(torch.load(weights, map_location="cpu"))
    model.eval()
    prepare = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    with torch.inference_mode():
        pixels = prepare(Image.open(image).convert("RGB")).unsqueeze(0)
        best = torch.softmax(model(pixels), dim=1).topk(5)
    for probability, index in zip(best.values[0], best.indices[0]):
        print(f"{100 * probability:5.1f} % {index}")


def timed(command):
    """Seconds and largest memory in bytes of a process that must succeed."""
    begun = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024


def main():
    if sys.argv[1:2] == ["--torch"]:
        return predict_with_torch(*sys.argv[2:])
    if sys.argv[1:2] == ["--write"]:
        return write_weights(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alexnet", default=str(HERE.parent.parent / "target/release/alexnet"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.pt")
        timed([sys.executable, str(HERE / "predict.py"), "--write", weights])
        ours = [options.alexnet, "predict", options.image, "--checkpoint", options.checkpoint, "--device", "cpu"]
        theirs = [sys.executable, str(HERE / "predict.py"), "--torch", weights, options.image]
        rounds = [(timed(ours), timed(theirs)) for _ in range(options.rounds + 1)][1:]
    medians = []
    for name, runs in zip(["alexnet", "PyTorch"], zip(*rounds)):
        medians.append(statistics.median(seconds for seconds, _ in runs))
        print(f"{name}: {medians[-1]:.3f} s, {max(memory for _, memory in runs) / 1e6:.0f} MB")
    print(f"ratio: {medians[1] / medians[0]:.0f}")


if __name__ == "__main__":
    main()
