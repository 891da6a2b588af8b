"""Makes the files in this folder: what Pillow and SciPy say, for tests/prepare.rs to compare with.

Run in this folder: python generate.py (needs numpy, pillow, scipy; made with pillow 13.0, scipy 1.17).
The pictures are computed here, so nobody else's rights are touched.

NAME.jpg or NAME.png   an image file
NAME.rgb               its pixels by Pillow's convert("RGB"), after exif_transpose for the rotated one
NAME.grey              the same by convert("L")
NAME.32                shorter side 32 by Pillow's BILINEAR, centre 32x32, RGB, from the .png
meta2010.mat, meta2012.mat   kits' tables of three classes and a parent, as the contests' kits have them
"""
import numpy as np
from PIL import Image, ImageOps
from scipy.io import savemat

H, W = 47, 61


def picture(h, w):
    """Smooth colours with edges of medium contrast, as photographs have."""
    y, x = np.mgrid[0:h, 0:w] / 24.0
    r = 120 + 80 * np.sin(x + 0.5 * y) + 20 * (x > 1.2)
    g = 110 + 70 * np.cos(0.7 * x - y)
    b = 100 + 60 * np.sin(1.3 * y) - 25 * (y > 1.1)
    return Image.fromarray(np.stack([r, g, b], -1).clip(0, 255).astype(np.uint8))


def pixels(name, mode, ending, turn=False):
    image = Image.open(name)
    if turn:
        image = ImageOps.exif_transpose(image)
    with open(name.rsplit(".", 1)[0] + ending, "wb") as f:
        f.write(image.convert(mode).tobytes())


def synsets(rows, year):
    kinds = [(f"ILSVRC{year}_ID", object), ("WNID", object), ("words", object), ("gloss", object),
             ("num_children", object), ("children", object), ("wordnet_height", object),
             ("num_train_images", object)]
    table = np.zeros((len(rows), 1), dtype=kinds)
    for i, (number, wnid, words, children, images) in enumerate(rows):
        table[i, 0] = (np.float64(number), wnid, words, "what it is, in words", np.float64(len(children)),
                       np.array(children, dtype=np.uint16), np.float64(0), np.float64(images))
    return table


image = picture(H, W)
image.save("baseline420.jpg", quality=90, subsampling=2)
image.save("baseline444.jpg", quality=90, subsampling=0)
image.save("progressive420.jpg", quality=85, subsampling=2, progressive=True)
image.convert("L").save("grey.jpg", quality=90)
image.convert("CMYK").save("cmyk.jpg", quality=95)
exif = Image.Exif()
exif[0x0112] = 6
image.save("rotated.jpg", quality=90, subsampling=0, exif=exif)
image.convert("P", palette=Image.Palette.ADAPTIVE, colors=16).save("palette.png")
rgba = image.convert("RGBA")
rgba.putalpha(Image.fromarray(np.linspace(0, 255, H * W).astype(np.uint8).reshape(H, W)))
rgba.save("alpha.png")
image.save("plain.png")
for name in ["baseline420.jpg", "baseline444.jpg", "progressive420.jpg", "grey.jpg", "cmyk.jpg",
             "palette.png", "alpha.png"]:
    pixels(name, "RGB", ".rgb")
pixels("rotated.jpg", "RGB", ".rgb", turn=True)
pixels("plain.png", "L", ".grey")

for name, (h, w) in {"down": (150, 203), "up": (31, 20)}.items():
    image = picture(h, w)
    image.save(name + ".png")
    short, long = min(h, w), max(h, w)
    other = int(32 * long / short)
    size = (32, other) if w <= h else (other, 32)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    with open(name + ".32", "wb") as f:
        f.write(image.crop((left, top, left + 32, top + 32)).tobytes())

# The contest's ids are in another order than the WNIDs.
leaves = [(1, "n02119789", "kit fox, Vulpes macrotis", [], 3), (2, "n02100735", "English setter", [], 2),
          (3, "n01440764", "tench, Tinca tinca", [], 4)]
parent = (4, "n00015388", "animal, animate being, beast", [1, 2, 3], 0)
cost = np.ones((3, 3), dtype=np.uint8)
savemat("meta2010.mat", {"cost_matrix": cost, "synsets": synsets(leaves + [parent], 2010)}, do_compression=True)
savemat("meta2012.mat", {"synsets": synsets(leaves + [parent], 2012)}, do_compression=True)
