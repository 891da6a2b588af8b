"""One network of full size in one format, and what its own program makes of three photographs.

    python tests/data/import/full.py FORMAT FOLDER

writes FOLDER/weights (with the format's ending), FOLDER/photo-N.png (256x256, from scikit-image) and
FOLDER/expected.json: for each photo what generate.py says of its own. tests/import/full.rs calls it.
"""

import json
import sys
from pathlib import Path

from networks import *
from PIL import Image
from safetensors.torch import save_file
from skimage import data


def main(kind, folder):
    photos = []
    for at, picture in enumerate((data.astronaut(), data.chelsea(), data.coffee())):
        Image.fromarray(picture).convert("RGB").resize((340, 300)).crop((40, 20, 296, 276)).save(folder / f"photo-{at}.png")
        photos.append(np.asarray(Image.open(folder / f"photo-{at}.png")))
    if kind in ("pth", "legacy", "safetensors", "onnx"):
        # Under the names of torchvision's own class, where it is there.
        net = torch_network((64, 192, 384, 256, 256), 4096, 1000, 1, 1.6)
        path = folder / f"weights.{dict(legacy='pth').get(kind, kind)}"
        if kind == "safetensors":
            save_file(net.state_dict(), path)
        elif kind == "onnx":
            # As anybody exports it: the weights lie in a file of their own beside it.
            torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), path, dynamo=True, verbose=False)
        else:
            torch.save(net.state_dict(), path, _use_new_zipfile_serialization=kind == "pth")
        answer = torch_onnx_answers if kind == "onnx" else torchvision_answers
        found = [answer(path if kind == "onnx" else net, photo) for photo in photos]
    else:
        net = CaffeNet((96, 256, 384, 384, 256), 4096, 1000, 2, kind != "caffenet")
        mean = np.array([120.0, 110.0, 100.0])
        if kind == "zoo":
            zoo_onnx(net, folder / "weights.onnx")
            found = [zoo_answers(folder / "weights.onnx", photo, mean) for photo in photos]
        else:
            net.save(folder / "weights.caffemodel", old=kind != "caffenet")
            found = [net.answers(photo, mean) for photo in photos]
    (folder / "expected.json").write_text(json.dumps(found))


main(sys.argv[1], Path(sys.argv[2]))
