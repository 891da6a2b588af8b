"""The pictures of configs/demo in two halves of five classes, for the comparison of fine-tuning.

    python configs/comparisons/halves.py OUT

OUT/first: T-shirts, dresses, coats, sneakers and bags, 1,500 pictures of each to train with and 400 to test
with. OUT/N for N = 10, 30, 100: trousers, pullovers, sandals, shirts and ankle boots, N pictures of
each, and 400 to test with. The files are MNIST's (`alexnet prepare idx`).
"""

import gzip
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "demo"
NAMES = (SOURCE / "classes.txt").read_text().split("\n")
FIRST = [0, 3, 4, 7, 8]


def write(folder, split, images, labels):
    sizes = b"".join(n.to_bytes(4, "big") for n in (len(images), 28, 28))
    (folder / f"{split}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + b"".join(images))
    (folder / f"{split}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + bytes(labels))


def half(folder, classes, images, labels, train, test):
    """`train` pictures of each class, and the next `test`."""
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(NAMES[c] for c in classes) + "\n")
    for split, begin, end in [("train", 0, train), ("t10k", train, train + test)]:
        chosen = [(i, k) for k, c in enumerate(classes) for i in [x for x, y in zip(images, labels) if y == c][begin:end]]
        write(folder, split, [image for image, _ in chosen], [label for _, label in chosen])


def main():
    out = Path(sys.argv[1])
    pixels = gzip.open(SOURCE / "train-images-idx3-ubyte.gz").read()[16:]
    labels = gzip.open(SOURCE / "train-labels-idx1-ubyte.gz").read()[8:]
    images = [pixels[i : i + 784] for i in range(0, len(pixels), 784)]
    half(out / "first", FIRST, images, labels, 1500, 500)
    others = [c for c in range(10) if c not in FIRST]
    for count in (10, 30, 100):
        half(out / str(count), others, images[::-1], labels[::-1], count, 400)


main()
