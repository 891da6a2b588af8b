"""Checks what `alexnet export` wrote: onnx.checker, onnxruntime, and the module for PyTorch.

    pip install onnx onnxruntime torch safetensors pillow numpy
    ALEXNET_TEST_PYTHON=python cargo test --release --test export

The argument is a JSON file with a list of networks: the files, an image of the prepared size, the side of its
crop, and the logarithms of the probabilities that `alexnet predict` gives it. Packages that are not there are
said and left out.
"""

import importlib
import importlib.util
import json
import subprocess
import sys


def found(name):
    if importlib.util.find_spec(name) is None:
        print(f"skipped: no {name}")
        return None
    return importlib.import_module(name)


def compare(what, numpy, logits, logarithms):
    """Logits, or logarithms of probabilities, within 1e-4 of the largest logit."""
    logits = numpy.asarray(logits, numpy.float64)
    largest = numpy.abs(logits).max()
    logits = logits - logits.max()
    off = numpy.abs(logits - numpy.log(numpy.exp(logits).sum()) - logarithms).max()
    assert off <= 1e-4 * max(largest, 1), f"{what}: off by {off} of {largest}"


def crop_of(case, numpy):
    from PIL import Image

    image = Image.open(case["image"])
    left, top = (side - case["crop"] for side in image.size)
    left, top = left // 2, top // 2
    pixels = numpy.array(image.crop((left, top, left + case["crop"], top + case["crop"])))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return pixels[None].astype(numpy.float32)


def check_onnx(cases, onnx):
    for case in cases:
        onnx.checker.check_model(case["onnx"], full_check=True)
        model = onnx.load(case["onnx"])
        labels = {entry.key: entry.value for entry in model.metadata_props}
        assert len(json.loads(labels["labels"])) == len(case["logarithms"])
    print(f"onnx: {len(cases)} networks")


def check_onnxruntime(cases, onnxruntime):
    import numpy

    for case in cases:
        session = onnxruntime.InferenceSession(case["onnx"], providers=["CPUExecutionProvider"])
        image = crop_of(case, numpy)
        images = numpy.concatenate([image, image[..., ::-1], image])
        probabilities = session.run(None, {"image": images})[0]
        assert probabilities.shape == (3, len(case["logarithms"])), probabilities.shape
        assert abs(probabilities.sum(1) - 1).max() < 1e-5
        for one in (probabilities[0], probabilities[2]):
            compare(case["onnx"], numpy, numpy.log(one.astype(numpy.float64)), case["logarithms"])
    print(f"onnxruntime: {len(cases)} networks")


def check_torch(cases, torch):
    import keyword
    import numpy

    for case in cases:
        spec = importlib.util.spec_from_file_location("model", case["folder"] + "/model.py")
        model = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(model)
        network, image = model.load(), model.prepare(case["image"])
        assert numpy.array_equal(image.numpy(), crop_of(case, numpy)), "the same pixels"
        with torch.inference_mode():
            logits = network(image)[0].numpy()
        compare(case["folder"], numpy, logits, case["logarithms"])
        # It trains: every weight gets a gradient.
        network.train()
        network(image.repeat(4, 1, 1, 1)).log_softmax(1)[:, 0].sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
    # As a person calls it, with an image that has to be scaled.
    last = cases[0]
    said = subprocess.run([sys.executable, last["folder"] + "/model.py", last["image"]], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    order = sorted(range(len(last["logarithms"])), key=lambda index: -last["logarithms"][index])
    labels = open(last["folder"] + "/labels.txt", encoding="utf-8").read().split("\n")
    assert [line.split("%  ")[1] for line in lines[1:]] == [labels[index] for index in order[:5]], said.stdout
    print(f"torch: {len(cases)} networks")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    for name, check in [("onnx", check_onnx), ("onnxruntime", check_onnxruntime), ("torch", check_torch)]:
        module = found(name)
        if module is not None:
            check(cases, module)


if __name__ == "__main__":
    main()
