"""Random networks in the formats that people have, and what PyTorch and onnxruntime make of photographs.

Used by generate.py (small ones, kept here) and full.py (of full size, made anew by each run). The forward passes
are PyTorch's own operations: F.conv2d with groups, F.local_response_norm (which divides alpha by n, as Caffe does),
max_pool2d (ceil_mode as Caffe rounds).
"""

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
MEAN = (255 * np.array([0.485, 0.456, 0.406])).astype(np.float32)
DEVIATION = 255 * np.array([0.229, 0.224, 0.225])


class AlexNet(nn.Module):
    """torchvision's modules under torchvision's names, of any widths."""

    def __init__(self, widths, hidden, classes, dropout=0.5):
        super().__init__()
        a, b, c, d, e = widths
        pool = lambda: nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), pool(),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), pool(),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), pool())
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(e * 36, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def torch_network(widths, hidden, classes, seed, gain):
    """Random weights, `gain` times PyTorch's, so that every layer has a say."""
    torch.manual_seed(seed)
    net = AlexNet(widths, hidden, classes).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(gain)
    return net


def crops(image, side, ten):
    """[n, side, side, 3] of an image [256, 256, 3]: the centre, or corners and centre and their mirror images."""
    height, width = image.shape[:2]
    middle = ((height - side) // 2, (width - side) // 2)
    places = [middle]
    if ten:
        bottom, right = height - side, width - side
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]
    cut = [image[y:y + side, x:x + side] for y, x in places]
    return np.stack(cut + [c[:, ::-1] for c in cut] if ten else cut).astype(np.float64)


def planes(values):
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def torchvision_input(image, side, ten):
    return planes((crops(image, side, ten) - MEAN) / DEVIATION)


def answers(logits, photo):
    """What is compared: the logits of the centre crop, and the mean probabilities of ten."""
    with torch.no_grad():
        centre = logits(photo, False)[0]
        ten = torch.softmax(logits(photo, True).double(), 1).mean(0)
    return {"centre": centre.double().tolist(), "ten": ten.tolist()}


def torchvision_answers(net, photo):
    double = torch.nn.Module.double(AlexNetCopy(net))
    return answers(lambda image, ten: double(torchvision_input(image, 224, ten)), photo)


def AlexNetCopy(net):
    import copy
    return copy.deepcopy(net).eval()


# ---- Caffe ----------------------------------------------------------------------------------------------------------


def schema():
    """The messages of caffe.proto, compiled by protoc."""
    from grpc_tools import protoc
    folder = tempfile.mkdtemp()
    code = protoc.main(["protoc", f"-I{HERE}", f"--python_out={folder}", str(HERE / "caffe.proto")])
    assert code == 0
    sys.path.insert(0, folder)
    return importlib.import_module("caffe_pb2")


class CaffeNet:
    """bvlc_alexnet (normalisation, then pooling) or CaffeNet (the other way round), blue first."""

    def __init__(self, widths, hidden, classes, seed, norm_first):
        self.norm_first = norm_first
        random = np.random.default_rng(seed)
        a, b, c, d, e = widths
        shapes = [("conv1", (a, 3, 11, 11)), ("conv2", (b, a // 2, 5, 5)), ("conv3", (c, b, 3, 3)),
                  ("conv4", (d, c // 2, 3, 3)), ("conv5", (e, d // 2, 3, 3)), ("fc6", (hidden, e * 36)),
                  ("fc7", (hidden, hidden)), ("fc8", (classes, hidden))]
        self.parameters = {}
        for name, shape in shapes:
            inputs = int(np.prod(shape[1:]))
            sigma = (0.02 if name == "conv1" else 1.5) / inputs ** 0.5
            weight = (random.standard_normal(shape) * sigma).astype(np.float32)
            bias = (random.standard_normal(shape[0]) * 0.1).astype(np.float32)
            self.parameters[name] = (weight, bias)

    def layers(self):
        """Name, kind and settings, as the prototxt of the reference models has them."""
        lrn, pool = ("LRN", dict(local_size=5, alpha=1e-4, beta=0.75)), ("Pooling", dict(kernel_size=3, stride=2))
        found = []
        for n in range(1, 6):
            conv = dict(group=2 if n in (2, 4, 5) else 1, pad={1: 0, 2: 2}.get(n, 1), stride=4 if n == 1 else 1,
                        kernel_size={1: 11, 2: 5}.get(n, 3))
            found += [(f"conv{n}", "Convolution", conv), (f"relu{n}", "ReLU", {})]
            if n <= 2:
                two = [(f"norm{n}", *lrn), (f"pool{n}", *pool)]
                found += two if self.norm_first else two[::-1]
        found.append(("pool5", *pool))
        for n in (6, 7):
            found += [(f"fc{n}", "InnerProduct", {}), (f"relu{n}", "ReLU", {}),
                      (f"drop{n}", "Dropout", dict(dropout_ratio=0.5))]
        return found + [("fc8", "InnerProduct", {}), ("loss", "SoftmaxWithLoss", {})]

    def forward(self, x):
        for name, kind, settings in self.layers():
            if kind in ("Convolution", "InnerProduct"):
                weight, bias = (torch.from_numpy(p).double() for p in self.parameters[name])
            if kind == "Convolution":
                x = F.conv2d(x, weight, bias, settings["stride"], settings["pad"], 1, settings["group"])
            elif kind == "InnerProduct":
                x = F.linear(x.flatten(1), weight, bias)
            elif kind == "ReLU":
                x = F.relu(x)
            elif kind == "LRN":
                x = F.local_response_norm(x, 5, settings["alpha"], settings["beta"], 1.0)
            elif kind == "Pooling":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        return x

    def answers(self, photo, mean, side=227):
        """`mean` [side, side, 3] or [3], in the order red, green, blue."""
        def logits(image, ten):
            return self.forward(planes((crops(image, side, ten) - mean)[..., ::-1]))
        return answers(logits, photo)

    def save(self, path, old):
        """A .caffemodel: `layers` with four sizes a blob, as the reference models have, or `layer`."""
        pb = schema()
        net = pb.NetParameter(name="AlexNet")
        kinds = {"Convolution": "CONVOLUTION", "InnerProduct": "INNER_PRODUCT", "ReLU": "RELU", "LRN": "LRN",
                 "Pooling": "POOLING", "Dropout": "DROPOUT", "SoftmaxWithLoss": "SOFTMAX_LOSS"}
        if old:
            net.layers.add(name="data", type=pb.V1LayerParameter.DATA, top=["data", "label"])
        below = "data"
        for name, kind, settings in self.layers():
            if old:
                layer = net.layers.add(name=name, type=getattr(pb.V1LayerParameter, kinds[kind]))
            else:
                layer = net.layer.add(name=name, type=kind)
            layer.bottom.append(below)
            layer.top.append(name)
            below = name
            if kind == "Convolution":
                param = layer.convolution_param
                param.num_output = len(self.parameters[name][1])
                param.group = settings["group"]
                for key in ("pad", "kernel_size", "stride"):
                    getattr(param, key).append(settings[key])
            elif kind in ("LRN", "Pooling", "Dropout"):
                param = {"LRN": "lrn_param", "Pooling": "pooling_param", "Dropout": "dropout_param"}[kind]
                for key, value in settings.items():
                    setattr(getattr(layer, param), key, value)
            elif kind == "InnerProduct":
                layer.inner_product_param.num_output = len(self.parameters[name][1])
            for values in self.parameters.get(name, ()):
                blob = layer.blobs.add()
                blob.data.extend(values.ravel().tolist())
                if old:
                    four = (1,) * (4 - values.ndim) + values.shape
                    blob.num, blob.channels, blob.height, blob.width = four
                else:
                    blob.shape.dim.extend(values.shape)
        Path(path).write_bytes(net.SerializeToString())


def save_mean(path, mean):
    """A .binaryproto of `mean` [height, width, 3], red first there and blue first in the file."""
    blob = schema().BlobProto(num=1, channels=3, height=mean.shape[0], width=mean.shape[1])
    blob.data.extend(mean[..., ::-1].transpose(2, 0, 1).ravel().tolist())
    Path(path).write_bytes(blob.SerializeToString())


# ---- ONNX -----------------------------------------------------------------------------------------------------------


def zoo_onnx(net, path, side=224):
    """The network as the model zoo's bvlcalexnet has it: 224 pixels, pools that cover one more to the right and
    below, weights among the inputs, dropout and softmax."""
    nodes, inputs, initialisers = [], [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, side, side])], []
    below, flat = "data_0", False
    for name, kind, settings in net.layers():
        reads = [below]
        for values, what in zip(net.parameters.get(name, ()), "wb"):
            initialisers.append(numpy_helper.from_array(values, f"{name}_{what}_0"))
            inputs.append(helper.make_tensor_value_info(f"{name}_{what}_0", TensorProto.FLOAT, values.shape))
            reads.append(f"{name}_{what}_0")
        if kind == "Convolution":
            pad = settings["pad"]
            node = helper.make_node("Conv", reads, [name], kernel_shape=[settings["kernel_size"]] * 2, pads=[pad] * 4,
                                    strides=[settings["stride"]] * 2, group=settings["group"])
        elif kind == "InnerProduct":
            if not flat:
                size = net.parameters[name][0].shape[1]
                initialisers.append(numpy_helper.from_array(np.array([1, size], np.int64), "shape"))
                nodes.append(helper.make_node("Reshape", [below, "shape"], ["flat"]))
                reads[0], flat = "flat", True
            node = helper.make_node("Gemm", reads, [name], transB=1)
        elif kind == "LRN":
            node = helper.make_node("LRN", reads, [name], size=5, alpha=settings["alpha"], beta=settings["beta"], bias=1.0)
        elif kind == "Pooling":
            node = helper.make_node("MaxPool", reads, [name], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
        elif kind == "Dropout":
            node = helper.make_node("Dropout", reads, [name])
        else:
            node = helper.make_node({"ReLU": "Relu", "SoftmaxWithLoss": "Softmax"}[kind], reads, [name])
        nodes.append(node)
        below = name
    classes = len(net.parameters["fc8"][1])
    output = helper.make_tensor_value_info(below, TensorProto.FLOAT, [1, classes])
    graph = helper.make_graph(nodes, "bvlcalexnet", inputs, [output], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def export(net, path):
    """By torch.onnx.export, without the lines of source (and the paths) that it keeps."""
    torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), path, dynamo=True, external_data=False, verbose=False)
    model = onnx.load(str(path))
    for part in [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(path))


def run_onnx(path, images):
    """The output of onnxruntime, image after image."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the zoo's way to list weights among the inputs is warned of
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: image[None].astype(np.float32)})[0] for image in images]
    return np.concatenate(outputs).astype(np.float64)


def zoo_answers(path, photo, mean):
    def probabilities(ten):
        return run_onnx(path, (crops(photo, 224, ten) - mean)[..., ::-1].transpose(0, 3, 1, 2))
    return {"centre": np.log(probabilities(False)[0]).tolist(), "ten": probabilities(True).mean(0).tolist()}


def torch_onnx_answers(path, photo):
    def logits(image, ten):
        return torch.from_numpy(run_onnx(path, torchvision_input(image, 224, ten).numpy()))
    return answers(logits, photo)
