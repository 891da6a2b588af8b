"""Small networks in other programs' formats, and what those programs make of a photograph.

    pip install torch onnx onnxruntime onnxscript safetensors scikit-image pillow grpcio-tools
    python tests/data/import/generate.py

photo.png       256x256, from scikit-image's "chelsea" (Stefan van der Walt, CC0)
torch*.pth      a state dict with torchvision's names: by torch.save as it is today, in the form of before 1.6, and
                within a training script's dictionary, behind DataParallel's prefix, in half precision
torch.safetensors   the same tensors
torch.onnx      the same network by torch.onnx.export
steps.safetensors   its parameters after two steps of torch.optim.SGD without dropout on photo.png's centre, label 3
alexnet.caffemodel, caffenet.caffemodel   the reference models' layers, in the old and in the new form
zoo.onnx        alexnet.caffemodel's weights in the form of the model zoo's bvlcalexnet
expected.json   for each file the logits of the centre crop (or ln of probabilities: a constant apart), and mean
                probabilities over ten crops
"""

import json

import numpy as np
import torch
from networks import *
from PIL import Image
from safetensors.torch import save_file

WIDTHS, HIDDEN, CLASSES = (4, 6, 8, 6, 6), 16, 7
FLAT = np.array([120.0, 110.0, 100.0])


def made_mean():
    """As tests/import/caffe.rs writes it: [256, 256, 3], red first."""
    y, x, c = np.mgrid[0:256, 0:256, 0:3]
    return (100 + 10 * c + (x + 2 * y) % 17).astype(np.float64)


def centre(mean, side):
    start = (256 - side) // 2
    return mean[start:start + side, start:start + side]


def steps(net, photo):
    net = AlexNetCopy(net).double().eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(net(torchvision_input(photo, 224, False)), torch.tensor([3])).backward()
        optimizer.step()
    save_file({name: value.float().contiguous() for name, value in net.state_dict().items()}, HERE / "steps.safetensors")


def main():
    from skimage import data
    picture = Image.fromarray(data.chelsea()).crop((60, 20, 316, 276)).resize((256, 256))
    picture.save(HERE / "photo.png", optimize=True)
    photo = np.asarray(Image.open(HERE / "photo.png"))
    expected = {}

    net = torch_network(WIDTHS, HIDDEN, CLASSES, 1, 1.6)
    state = net.state_dict()
    torch.save(state, HERE / "torch.pth")
    torch.save(state, HERE / "torch-legacy.pth", _use_new_zipfile_serialization=False)
    half = {"module." + name: value.half() for name, value in state.items()}
    torch.save({"epoch": 3, "arch": "alexnet", "best_acc1": 0.5, "state_dict": half,
                "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}}, HERE / "torch-nested.pth")
    save_file(state, HERE / "torch.safetensors")
    export(net, HERE / "torch.onnx")
    expected["torch"] = torchvision_answers(net, photo)
    expected["torch.onnx"] = torch_onnx_answers(HERE / "torch.onnx", photo)
    rounded = torch_network(WIDTHS, HIDDEN, CLASSES, 1, 1.6)
    rounded.load_state_dict({name: value.half().float() for name, value in state.items()})
    expected["torch-nested"] = torchvision_answers(rounded, photo)
    steps(net, photo)

    caffe = (4, 8, 8, 8, 8)
    for name, norm_first, seed in (("alexnet", True, 2), ("caffenet", False, 3)):
        net = CaffeNet(caffe, HIDDEN, CLASSES, seed, norm_first)
        net.save(HERE / f"{name}.caffemodel", old=norm_first)
        expected[name] = net.answers(photo, FLAT)
        if norm_first:
            image = made_mean()
            expected["alexnet with an image"] = net.answers(photo, centre(image, 227))
            zoo_onnx(net, HERE / "zoo.onnx")
            expected["zoo"] = zoo_answers(HERE / "zoo.onnx", photo, FLAT)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
