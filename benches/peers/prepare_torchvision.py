"""How fast `alexnet prepare` is, side by side with torchvision's pipeline on the same files and core.

    cargo build --release
    taskset -c 0 python3 benches/peers/prepare_torchvision.py [--store raw|jpeg] [--workers N]

Needs torch, torchvision, pillow, numpy, scikit-image and scikit-learn, whose photographs it takes: pieces of
them, scaled to 500x375, as baseline and as progressive JPEGs (4:2:0) of about 110 KB, ImageNet's average.

torchvision: read the file, Pillow decode, convert("RGB"), Resize(256), CenterCrop(256). Ours: the whole
`alexnet prepare image-folder`, which also finds the files, sums up the mean image and the covariance, checksums
and writes the shards; the time of an empty start is not taken off. The two take turns; medians and the median
of the rounds' ratios. Beside them libjpeg-turbo's decoding alone (Pillow's load): the ceiling for that decoder.
"""

import argparse
import importlib.util
import io
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

BYTES = 110_000


def photographs():
    """Colour photographs of two packages, as Pillow images."""
    for package, inner, names in [
        ("skimage", "data", ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]),
        ("sklearn", "datasets/images", ["china.jpg", "flower.jpg"]),
    ]:
        for folder in importlib.util.find_spec(package).submodule_search_locations:
            for name in names:
                path = os.path.join(folder, inner, name)
                # Some are downloaded on first use only.
                if os.path.exists(path):
                    yield Image.open(path).convert("RGB")


def jpeg(image, progressive):
    """The image at the quality whose size is nearest to BYTES."""
    best = None
    for quality in range(70, 100):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, progressive=progressive)
        if best is None or abs(file.tell() - BYTES) < abs(len(best) - BYTES):
            best = file.getvalue()
    return best


def make(folder, count, progressive):
    """Writes `count` files in two classes below `folder`; gives their paths."""
    generator = np.random.default_rng(1)
    sources = list(photographs())
    paths = []
    for i in range(count):
        source = sources[i % len(sources)]
        share = generator.uniform(0.7, 1.0)
        width = int(min(source.width, source.height * 4 / 3) * share)
        height = width * 3 // 4
        left = generator.integers(0, source.width - width + 1)
        top = generator.integers(0, source.height - height + 1)
        image = source.crop((left, top, left + width, top + height)).resize((500, 375), Image.BICUBIC)
        path = os.path.join(folder, "ab"[i % 2], f"{i:04}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(jpeg(image, progressive))
        paths.append(path)
    return paths


def torchvision_seconds(paths):
    pipeline = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(256)])
    since = time.perf_counter()
    for path in paths:
        with open(path, "rb") as f:
            np.asarray(pipeline(Image.open(f).convert("RGB")))
    return time.perf_counter() - since


def decoding_seconds(paths):
    since = time.perf_counter()
    for path in paths:
        Image.open(path).load()
    return time.perf_counter() - since


def our_seconds(program, folder, out, store, workers):
    shutil.rmtree(out, ignore_errors=True)
    command = [program, "prepare", "image-folder", folder, "--out", out, "--workers", str(workers), "--val-fraction", "0"]
    if store != "raw":
        command += ["--store", store]
    since = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - since


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="target/release/alexnet")
    parser.add_argument("--store", default="raw")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--images", type=int, default=420)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    print(f"cores {cores}, torch {torch.__version__}, {args.images} images, store {args.store}")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        for kind in ["baseline", "progressive"]:
            src = os.path.join(folder, kind)
            paths = make(src, args.images, kind == "progressive")
            size = sum(map(os.path.getsize, paths)) // len(paths)
            ours, theirs, decoding = [], [], []
            for _ in range(args.rounds):
                ours.append(our_seconds(args.program, src, os.path.join(folder, "out"), args.store, args.workers))
                theirs.append(torchvision_seconds(paths))
                decoding.append(decoding_seconds(paths))
            rate = lambda seconds: args.images / statistics.median(seconds)
            ratio = statistics.median(t / o for o, t in zip(ours, theirs))
            ceiling = statistics.median(t / d for d, t in zip(decoding, theirs))
            print(
                f"{kind:12} {size} bytes: alexnet {rate(ours):6.0f} images/s, torchvision {rate(theirs):6.0f}, "
                f"ratio {ratio:.2f}; decoding alone {rate(decoding):6.0f}, ratio {ceiling:.2f}"
            )


if __name__ == "__main__":
    main()
