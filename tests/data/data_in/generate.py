"""Makes the files in this folder: what people's programs write, and what these say is in it, for
tests/data_in to compare with.

Run in this folder: python generate.py (needs datasets, pillow, pyarrow; made with datasets 5.2, pillow
13.0, pyarrow 26.0). The pictures are computed here, so nobody else's rights are touched.

hf/          a data set as datasets.Dataset.to_parquet writes it: two shards of train, one of test
parquet/     the same rows by pyarrow in every packing and several encodings; odd columns
formats/     pictures in formats beside JPEG and PNG
alpha/       pictures that are transparent in places, a hidden colour under it
expected.json   of each Parquet file its rows: label and the CRC-32 of the RGB pixels; of each picture
                width, height and the CRC-32 of its RGB pixels, transparent ones on white and on 204060
NAME.rgb     the RGB pixels by Pillow where decoders may differ by rounding
down.warp, up.warp   ../prepare/down.png and up.png, both sides scaled to 32 by Pillow's BILINEAR
"""
import io
import json
import os
import shutil
import zlib

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

CLASSES = ["owl", "fox", "eel"]
SIDE = 16


def picture(i, h=SIDE, w=SIDE):
    y, x = np.mgrid[0:h, 0:w]
    r = (x * 13 + i * 29) % 256
    g = (y * 11 + i * 53) % 256
    b = ((x + y) * 7 + i * 17) % 256
    return Image.fromarray(np.stack([r, g, b], -1).astype(np.uint8))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def row(i):
    """JPEG and PNG in turn, with their label."""
    kind = "JPEG" if i % 3 == 0 else "PNG"
    return encoded(picture(i), kind), i % len(CLASSES)


def crc(image):
    return "%08x" % zlib.crc32(image.convert("RGB").tobytes())


def crc_of(data):
    return crc(Image.open(io.BytesIO(data)))


for folder in ["hf", "parquet", "formats", "alpha"]:
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
expected = {"parquet": {}, "pictures": {}}

# As Hugging Face's library writes data sets.
features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
for name, numbers in [("train-00000-of-00002", range(0, 13)), ("train-00001-of-00002", range(13, 24)),
                      ("test-00000-of-00001", range(24, 30))]:
    rows = [row(i) for i in numbers]
    data = {"image": [{"bytes": data, "path": f"{i}.jpg"} for i, (data, _) in zip(numbers, rows)],
            "label": [label for _, label in rows]}
    path = f"hf/{name}.parquet"
    datasets.Dataset.from_dict(data, features=features).to_parquet(path, batch_size=5)
    table = pq.read_table(path).to_pylist()
    expected["parquet"][path] = [[CLASSES[r["label"]], crc_of(r["image"]["bytes"])] for r in table]

# The same rows as a column of bytes and a column of texts.
rows = [row(i) for i in range(24)]
plain = pa.table({"note": [f"row {i}" for i in range(24)], "img": [data for data, _ in rows],
                  "label": [CLASSES[label] for _, label in rows]})
for name, options in {
    "none": {"compression": "none"}, "snappy": {"compression": "snappy"},
    "gzip": {"compression": "gzip"}, "zstd": {"compression": "zstd"},
    "brotli": {"compression": "brotli"}, "lz4": {"compression": "lz4"},
    "second-version": {"compression": "snappy", "data_page_version": "2.0", "data_page_size": 900},
    "deltas": {"compression": "gzip", "use_dictionary": False, "data_page_version": "2.0",
               "column_encoding": {"img": "DELTA_LENGTH_BYTE_ARRAY", "label": "DELTA_BYTE_ARRAY",
                                   "note": "PLAIN"}},
    "small-pages": {"compression": "snappy", "use_dictionary": ["label"], "data_page_size": 500,
                    "write_batch_size": 2},
}.items():
    path = f"parquet/{name}.parquet"
    pq.write_table(plain, path, row_group_size=10, **options)
    table = pq.read_table(path).to_pylist()
    expected["parquet"][path] = [[r["label"], crc_of(r["img"])] for r in table]

# Two kinds of labels, as CIFAR-100 has; a mask beside the picture; rows without label or picture.
image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
struct = [{"bytes": data, "path": None} for data, _ in rows[:12]]
pq.write_table(pa.table({
    "img": pa.array(struct, image), "fine_label": [i % 4 for i in range(12)],
    "coarse_label": [i % 2 for i in range(12)],
}), "parquet/two-labels.parquet")
pq.write_table(pa.table({
    "left": pa.array(struct, image), "right": pa.array(struct[::-1], image),
    "label": [i % 2 for i in range(12)],
}), "parquet/two-pictures.parquet")
struct[5] = None
struct[6] = {"bytes": None, "path": "elsewhere.jpg"}
pq.write_table(pa.table({
    "image": pa.array(struct, image),
    "label": pa.array([0, 1, None, -1, 1, 0, 1, 0, 1, 0, 1, 0], pa.int32()),
}), "parquet/holes.parquet")

# Formats.
photo = picture(3, 21, 30)
alpha = np.array(picture(4, 21, 30).convert("RGBA"))
alpha[..., 3] = np.arange(21 * 30).reshape(21, 30) % 256
seen = Image.fromarray(alpha)
grey = photo.convert("L")
exif = Image.Exif()
exif[0x0112] = 6
frames = [picture(i, 21, 30).quantize(64) for i in range(3)]
with_hole = photo.quantize(32)
files = {
    "lossless.webp": (photo, {"lossless": True}), "lossy.webp": (photo, {"quality": 80}),
    "animation.webp": (photo, {"lossless": True, "save_all": True, "append_images": [picture(9, 21, 30)]}),
    "turned.webp": (photo, {"lossless": True, "exif": exif}),
    "still.gif": (frames[0], {}), "grey.gif": (grey, {}),
    "animation.gif": (frames[0], {"save_all": True, "append_images": frames[1:]}),
    "colours.bmp": (photo, {}), "palette.bmp": (frames[1], {}), "grey.bmp": (grey, {}),
    "plain.tif": (photo, {}), "lzw.tif": (photo, {"compression": "tiff_lzw"}),
    "deflate.tif": (photo, {"compression": "tiff_adobe_deflate"}), "grey.tiff": (grey, {}),
    "two-tone.tif": (grey.convert("1"), {"compression": "group4"}),
    "jpeg.tif": (photo, {"compression": "jpeg"}),
    "turned.tif": (photo, {"exif": exif}),
}
for name, (image, options) in files.items():
    path = f"formats/{name}"
    image.save(path, **options)
    # The first picture, as viewers turn it.
    shown = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    expected["pictures"][path] = [*shown.size, crc(shown)]
    if name == "lossy.webp":
        open(f"formats/{name}.rgb", "wb").write(shown.tobytes())

# Transparency.
seen.save("alpha/colours.png")
Image.merge("LA", [seen.convert("L"), seen.getchannel("A")]).save("alpha/grey.png")
with_hole.save("alpha/palette.png", transparency=bytes([0, 128] + [255] * 30))
photo.save("alpha/key.png", transparency=photo.getpixel((4, 5)))
seen.save("alpha/colours.webp", lossless=True, exact=True)
with_hole.save("alpha/hole.gif", transparency=3)
seen.save("alpha/colours.tif")
for name in sorted(os.listdir("alpha")):
    path = f"alpha/{name}"
    image = Image.open(path).convert("RGBA")
    on = []
    for colour in [(255, 255, 255), (0x20, 0x40, 0x60)]:
        below = Image.new("RGB", image.size, colour)
        below.paste(image.convert("RGB"), mask=image.getchannel("A"))
        on.append(crc(below))
    expected["pictures"][path] = [*image.size, *on]

for name in ["down", "up"]:
    image = Image.open(f"../prepare/{name}.png").convert("RGB")
    open(f"{name}.warp", "wb").write(image.resize((32, 32), Image.BILINEAR).tobytes())

json.dump(expected, open("expected.json", "w"), indent=1)
