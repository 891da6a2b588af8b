"""Makes the files in this folder: JPEGs of every kind, and what libjpeg-turbo makes of them.

Run in this folder: python generate.py (needs numpy, pillow, scikit-image, and cjpeg of libjpeg-turbo-progs;
made with pillow 13.0, whose wheels hold libjpeg-turbo 3.1, and cjpeg 2.1.5).

The photographs are pieces of scikit-image's: astronaut (NASA, public domain), coffee (Rachel Michetti, CC0) and
chelsea (Stefan van der Walt, CC0). The small files are chelsea's, scaled.

pixels.txt has a line a file: name, width, height, channels, zlib's CRC-32 of the pixels by Pillow.
"""

import os
import subprocess
import zlib

from PIL import Image
from skimage import data

PHOTOGRAPHS = [
    ("baseline-420", data.astronaut(), {"subsampling": "4:2:0", "quality": 85}),
    ("baseline-444", data.coffee(), {"subsampling": "4:4:4", "quality": 80, "optimize": True}),
    ("progressive-420", data.chelsea(), {"subsampling": "4:2:0", "quality": 85, "progressive": True}),
]
SAMPLINGS = ["1x1", "2x1", "1x2", "2x2", "4x1", "4x2", "1x1,2x2,1x1", "2x2,1x2,2x1", "3x1,1x1,1x1"]
WAYS = {
    "plain": [],
    "progressive": ["-progressive"],
    "restart": ["-restart", "2B", "-optimize"],
    "scans": ["-scans", "scans.tmp"],
}


def main():
    for name, pixels, options in PHOTOGRAPHS:
        image = Image.fromarray(pixels)
        width = min(image.width, image.height * 4 // 3)
        left, top = (image.width - width) // 2, 0
        image = image.crop((left, top, left + width, top + width * 3 // 4)).resize((500, 375), Image.LANCZOS)
        image.save(f"photo-{name}.jpg", **options)

    small = Image.fromarray(data.chelsea()).resize((61, 43), Image.LANCZOS)
    small.save("small.tmp.ppm")
    with open("scans.tmp", "w") as f:
        f.write("0;\n1;\n2;\n")
    for sampling in SAMPLINGS:
        for way, options in WAYS.items():
            name = f"small-{sampling.replace(',', '-')}-{way}.jpg"
            command = ["cjpeg", "-quality", "80", "-sample", sampling, *options, "-outfile", name, "small.tmp.ppm"]
            subprocess.run(command, check=True)
    small.convert("L").save("small-grey.jpg", quality=80)
    small.convert("L").save("small-grey-progressive.jpg", quality=80, progressive=True)
    small.convert("CMYK").save("small-cmyk.jpg", quality=80)
    small.convert("CMYK").save("small-cmyk-progressive.jpg", quality=80, progressive=True)
    small.save("small-rgb.jpg", quality=80, keep_rgb=True)
    small.save("small-coarse.jpg", quality=1)
    small.save("small-fine.jpg", quality=100)
    for width, height in [(1, 1), (2, 9), (3, 5), (16, 16), (17, 15)]:
        small.crop((0, 0, width, height)).save(f"small-{width}x{height}.jpg", quality=90)
    os.remove("small.tmp.ppm")
    os.remove("scans.tmp")

    with open("pixels.txt", "w") as f:
        for name in sorted(n for n in os.listdir(".") if n.endswith(".jpg")):
            image = Image.open(name)
            image = image if image.mode == "L" else image.convert("RGB")
            crc = zlib.crc32(image.tobytes())
            f.write(f"{name} {image.width} {image.height} {len(image.getbands())} {crc:08x}\n")


if __name__ == "__main__":
    main()
