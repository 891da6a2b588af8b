"""How many of a picture's ten nearest are of its class, by features, by raw pixels and by codes.

    python configs/comparisons/retrieval.py IMAGES FEATURES CODES

IMAGES is an MNIST file of images, gzipped; FEATURES and CODES are what `alexnet features` and `alexnet
codes` made of the same images in the same order. Every image is asked for its ten nearest of the others.
Needs numpy and safetensors.
"""

import gzip
import sys

import numpy as np
from safetensors.numpy import load_file


def share(distances, labels, begin):
    """Of the images from `begin` on, with a row of distances each."""
    rows = np.arange(len(distances))
    distances[rows, begin + rows] = np.inf
    nearest = np.argpartition(distances, 10, axis=1)[:, :10]
    return (labels[nearest] == labels[begin + rows, None]).mean()


def euclidean(all_rows, rows):
    return (all_rows**2).sum(1) - 2 * rows @ all_rows.T + (rows**2).sum(1)[:, None]


def hamming(codes, rows):
    """Ties are the nearer the earlier the image stands, as in `alexnet neighbours`."""
    bits, asked = np.unpackbits(codes, axis=1), np.unpackbits(rows, axis=1)
    differ = bits.sum(1)[None, :] + asked.sum(1)[:, None] - 2.0 * (asked.astype(np.float32) @ bits.T.astype(np.float32))
    return differ + np.arange(len(codes)) / len(codes) / 2


def main():
    images, features, codes = sys.argv[1:]
    pixels = np.frombuffer(gzip.open(images).read()[16:], np.uint8).reshape(-1, 784).astype(np.float32)
    file = load_file(features)
    vectors, labels, codes = file["features"], file["labels"], load_file(codes)["codes"]
    for name, rows, distance in [("features", vectors, euclidean), ("pixels", pixels, euclidean), ("codes", codes, hamming)]:
        chunks = range(0, len(rows), 1000)
        shares = [share(distance(rows, rows[b : b + 1000]), labels, b) for b in chunks]
        print(f"{name}: {np.mean(shares):.4f}")


main()
