"""Makes the files in this folder: one picture, whose Exif data say in every legal form that it is to be turned.

Run in this folder: python generate.py (needs numpy and pillow; made with pillow 13.0).

pixels.txt has a line a file: name, width, height, zlib's CRC-32 of the pixels as ImageOps.exif_transpose turns them.
Pillow does not turn by a BYTE, which TIFF 6.0 (section 2, "Types") wants readers to accept: there the line is that of
the same picture with a SHORT.
"""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112
BYTE, SHORT, LONG = (1, "B"), (3, "H"), (4, "I")


def exif(order="<", kind=SHORT, directory=8, value=6, before=b""):
    """Exif data with the first directory at `directory` and `before` from byte 8 on."""
    number, letter = kind
    field = struct.pack(order + letter, value).ljust(4, b"\0")
    entries = [
        struct.pack(order + "HHII", 0x0100, 4, 1, 24),
        struct.pack(order + "HHI", ORIENTATION, number, 1) + field,
        struct.pack(order + "HHII", 0x0213, 3, 1, 1),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory)
    table = struct.pack(order + "H", len(entries)) + b"".join(entries) + struct.pack(order + "I", 0)
    return (head + before).ljust(directory, b"\0") + table


def thumbnail_first(order):
    """The directory of a thumbnail, with another orientation, lies before that of the picture."""
    entry = struct.pack(order + "HHIHH", ORIENTATION, 3, 1, 3, 0)
    return exif(order, directory=60, before=struct.pack(order + "H", 1) + entry + struct.pack(order + "I", 0))


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(plain, *segments):
    """`segments` behind the JFIF segment, which comes first."""
    end = 4 + struct.unpack(">H", plain[4:6])[0]
    return plain[:end] + b"".join(segments) + plain[end:]


def app1(data):
    return segment(0xE1, b"Exif\0\0" + data)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(plain, new, after=False):
    at = plain.index(b"IEND") - 4 if after else 8 + 25
    return plain[:at] + new + plain[at:]


def raw_profile(data, name="exif"):
    digits = (b"Exif\0\0" + data).hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"\n{name}\n{len(data) + 6:8}\n{lines}\n".encode()


def files(jpeg, png):
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
    icc = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(300))
    data = exif(">", directory=2000)
    keyword = b"Raw profile type exif\0"
    return {
        "none.jpg": jpeg,
        "short-little.jpg": jpeg_with(jpeg, app1(exif("<"))),
        "short-big.jpg": jpeg_with(jpeg, app1(exif(">"))),
        "long-little.jpg": jpeg_with(jpeg, app1(exif("<", LONG))),
        "long-big.jpg": jpeg_with(jpeg, app1(exif(">", LONG))),
        "byte-big.jpg": jpeg_with(jpeg, app1(exif(">", BYTE))),
        "far.jpg": jpeg_with(jpeg, app1(exif(">", directory=5000))),
        "odd-place.jpg": jpeg_with(jpeg, app1(exif("<", directory=11))),
        "thumbnail-first.jpg": jpeg_with(jpeg, app1(thumbnail_first("<"))),
        "behind-others.jpg": jpeg_with(jpeg, xmp, icc, app1(exif(">")), xmp),
        "without-jfif.jpg": jpeg[:2] + app1(exif(">")) + jpeg[4 + struct.unpack(">H", jpeg[4:6])[0] :],
        "two-segments.jpg": jpeg_with(jpeg, app1(data[:900]), app1(data[900:])),
        "none.png": png,
        "before.png": png_with(png, chunk(b"eXIf", exif("<"))),
        "after.png": png_with(png, chunk(b"eXIf", exif(">", LONG)), after=True),
        "prefixed.png": png_with(png, chunk(b"eXIf", b"Exif\0\0" + exif(">"))),
        "text.png": png_with(png, chunk(b"tEXt", keyword + raw_profile(exif(">")))),
        "packed-text.png": png_with(png, chunk(b"zTXt", keyword + b"\0" + zlib.compress(raw_profile(exif("<"))))),
        "wide-text.png": png_with(png, chunk(b"iTXt", keyword + b"\0\0\0\0" + raw_profile(exif("<"))), after=True),
    }


def main():
    y, x = np.mgrid[0:16, 0:24]
    pixels = np.stack([x * 10, y * 15, 255 - x * 5 - y * 5], axis=-1).astype(np.uint8)
    plain = []
    for kind, options in [("JPEG", {"quality": 90, "subsampling": "4:4:4"}), ("PNG", {})]:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        plain.append(file.getvalue())
    lines = {}
    for name, content in files(*plain).items():
        with open(name, "wb") as f:
            f.write(content)
        image = Image.open(io.BytesIO(content))
        image.load()
        turned = ImageOps.exif_transpose(image).convert("RGB")
        lines[name] = f"{turned.width} {turned.height} {zlib.crc32(turned.tobytes()):08x}"
    lines["byte-big.jpg"] = lines["short-big.jpg"]
    with open("pixels.txt", "w") as f:
        for name, line in sorted(lines.items()):
            f.write(f"{name} {line}\n")


if __name__ == "__main__":
    main()
