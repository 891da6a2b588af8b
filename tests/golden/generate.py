"""Golden values: what PyTorch computes for the networks of this folder's TOML files.

    pip install torch numpy safetensors
    python tests/golden/generate.py                    # writes NAME.safetensors beside each NAME.toml
    python tests/golden/generate.py tests/golden/paper.toml
    python tests/golden/generate.py --search 50 FILE   # which seeds keep clear of near-ties

It is an implementation of its own, written from the paper's formulas: two towers as two lists of tensors,
normalisation as sums over shifted maps, pooling as slices, autograd for the gradients. Where PyTorch has an
operation that says the same (max_pool2d, avg_pool2d, local_response_norm), both are computed and must agree.
All arithmetic is in float64 and the results are stored as float32.

In each file (N images; towers joined in order along the channel or output axis):

    input           [N, channels, crop, crop]  float32, as the first layer gets it: mean subtracted, scale of pixels
    labels          [N]                        int32
    NAME.weight     conv [out, in of the group, height, width]
                    local [out, out height, out width, in of the group, height, width]
                    fc [out, in], inputs in the order channel, row, column of the joined map
    NAME.bias       [out]; local: [out, out height, out width]
    logits          [N, classes]               training mode, step 1
    loss            [1]                        mean over the batch of -ln(softmax at the label)
    grad/PARAMETER                             gradient of `loss`
    step5/PARAMETER                            after five steps of the update rule on this same batch
    mask/NAME       [N, height, width, channels] uint8, dropout layers only: 1 where step 1 keeps the neuron
    test_logits     [N, classes]               networks with dropout only: test mode, initial parameters

The TOML's sigmas and rates are larger than the paper's so that every number is far from 0 and five steps are seen.
Initial biases are the TOML's plus noise, so that no two channels have the same. All initial values come from
numpy's generator with the TOML's seed. Before a file is written, `check` refuses values that a correct float32
implementation might miss (near-ties of ReLU and max pooling) or that an incorrect one might hit (gradients of 0,
a decay or rate too small to matter).
"""

import argparse
import math
import sys
import tomllib
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

STEPS = 5


# ---- shapes and initial values ----------------------------------------------------------------------------------


class Net:
    """The layers of a TOML file with their shapes. `shapes[i]` = (channels, height, width) of layer i, joined."""

    def __init__(self, path, seed=None):
        self.config = tomllib.loads(path.read_text())
        self.layers = self.config["layer"]
        self.towers = self.config["towers"]
        self.seed = self.config["seed"] if seed is None else seed
        self.batch = self.config["train"]["batch"]
        data = self.config["data"]
        shape = (data["channels"], data["crop"], data["crop"])
        self.input_shape = shape
        self.classes = data["classes"]
        self.shapes, self.parameter_shapes = [], {}
        alone = True  # the image is whole on every tower; a layer with `tower` is whole on one
        for layer in self.layers:
            kind = layer["kind"]
            joined = alone or reads_all(layer)
            inputs = shape[0] if joined else shape[0] // self.towers
            if kind in ("conv", "local"):
                top, bottom, left, right = layer.get("padding", [0, 0, 0, 0])
                size, stride = layer["size"], layer.get("stride", 1)
                height = (shape[1] + top + bottom - size) // stride + 1
                width = (shape[2] + left + right - size) // stride + 1
                kernel = (inputs // layer.get("groups", 1), size, size)
                shape = (layer["kernels"], height, width)
                places = (height, width) if kind == "local" else ()
                self.add_parameters(layer, (shape[0], *places, *kernel), (shape[0], *places))
            elif kind == "fc":
                inputs *= shape[1] * shape[2]
                shape = (layer["outputs"], 1, 1)
                self.add_parameters(layer, (shape[0], inputs), (shape[0],))
            elif kind in ("max-pool", "average-pool"):
                up = [math.ceil((length - layer["size"]) / layer["stride"]) + 1 for length in shape[1:]]
                shape = (shape[0], *up)
            if kind in ("conv", "local", "fc"):
                alone = self.towers == 1 or "tower" in layer
            self.shapes.append(shape)

    def add_parameters(self, layer, weight, bias):
        self.parameter_shapes[layer["name"] + ".weight"] = (weight, layer)
        self.parameter_shapes[layer["name"] + ".bias"] = (bias, layer)

    def draw(self):
        """Images, labels and initial parameters, all exact in float32, as float64."""
        random = np.random.default_rng(self.seed)

        def normal(shape, sigma, mean=0.0):
            return torch.from_numpy((random.standard_normal(shape) * sigma + mean).astype(np.float32)).double()

        images = normal((self.batch, *self.input_shape), 50.0)
        labels = torch.from_numpy(random.integers(0, self.classes, self.batch))
        parameters = {}
        for name, (shape, layer) in self.parameter_shapes.items():
            if name.endswith(".weight"):
                parameters[name] = normal(shape, layer["weight_sigma"])
            else:
                parameters[name] = normal(shape, 0.1, layer.get("bias", 0.0))
        return images, labels, parameters


def reads_all(layer):
    """Whether the layer reads the maps of all towers, not of its own alone."""
    return layer.get("input", "all-towers" if layer["kind"] == "fc" else "same-tower") == "all-towers"


# ---- the layers, one tower each -----------------------------------------------------------------------------------


def pad(x, layer):
    top, bottom, left, right = layer.get("padding", [0, 0, 0, 0])
    return F.pad(x, (left, right, top, bottom))


def conv(x, weight, bias, layer):
    return F.conv2d(pad(x, layer), weight, bias, stride=layer.get("stride", 1), groups=layer.get("groups", 1))


def local(x, weight, bias, layer):
    """A convolution whose kernels differ from place to place. weight [out, h, w, in, size, size]."""
    out, height, width = weight.shape[:3]
    groups = layer.get("groups", 1)
    results = []
    for xs, ws in zip(pad(x, layer).chunk(groups, 1), weight.chunk(groups, 0)):
        patches = F.unfold(xs, layer["size"], stride=layer.get("stride", 1))  # [N, in·size·size, h·w]
        kernels = ws.reshape(out // groups, height * width, -1)
        results.append(torch.einsum("npl,olp->nol", patches, kernels))
    return torch.cat(results, 1).reshape(-1, out, height, width) + bias


def lrn(x, layer):
    """x / (k + α Σ x²)^β, the sum over n neighbouring maps (§3.3) or over n×n pixels of the same map."""
    n, k, alpha, beta = layer["n"], layer["k"], layer["alpha"], layer["beta"]
    reach, square, divide = n // 2, x * x, layer.get("divide_alpha", False)
    shifts = range(-reach, reach + 1)
    if layer.get("region", "across-maps") == "across-maps":
        wide = F.pad(square, (0, 0, 0, 0, reach, reach))
        total = sum(wide[:, reach + s : reach + s + x.shape[1]] for s in shifts)
        if divide:
            alpha /= n
        result = x / (k + alpha * total) ** beta
        torch.testing.assert_close(result, F.local_response_norm(x, n, alpha * n, beta, k))
        return result
    height, width = x.shape[2:]
    wide = F.pad(square, (reach, reach, reach, reach))
    total = sum(
        wide[:, :, reach + r : reach + r + height, reach + c : reach + c + width] for r in shifts for c in shifts
    )
    if divide:
        alpha /= n * n
    return x / (k + alpha * total) ** beta


def pool(x, layer, height, width):
    """Maximum or mean of the pixels of each window that lie inside the map."""
    size, stride, largest = layer["size"], layer["stride"], layer["kind"] == "max-pool"
    rows = []
    for r in range(height):
        windows = [x[:, :, r * stride : r * stride + size, c * stride : c * stride + size] for c in range(width)]
        rows.append(torch.stack([w.amax((2, 3)) if largest else w.mean((2, 3)) for w in windows], 2))
    result = torch.stack(rows, 2)
    theirs = (
        F.max_pool2d(x, size, stride, ceil_mode=True)
        if largest
        else F.avg_pool2d(x, size, stride, ceil_mode=True, count_include_pad=False)
    )
    torch.testing.assert_close(result, theirs)
    return result


def philox(counter, key):
    """Philox-4x32-10 (Salmon et al., SC 2011) on four arrays of counters and two key words."""
    c, key = [np.asarray(word, np.uint64) for word in counter], list(key)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        high_a, high_b = a >> np.uint64(32), b >> np.uint64(32)
        c = [high_b ^ c[1] ^ np.uint64(key[0]), b & low, high_a ^ c[3] ^ np.uint64(key[1]), a & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


# The known answers published with Random123 (kat_vectors).
assert philox([0] * 4, [0, 0]) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert philox([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]) == [
    0xD16CFE09,
    0x94FDCCEB,
    0x5001E420,
    0x24126EA1,
]


def kept(net, layer, shape, step):
    """Which neurons dropout keeps in a step: [N, height, width, channels] of 0 and 1, towers joined.

    Neuron j (row, column, channel order) of image i has word j % 4 of the block at counter
    (j / 4, i, step, 2 << 24 | 24 bits of CRC-32 of the name) and stays if that is at least rate · 2³².
    """
    channels, height, width = shape
    neurons = channels * height * width
    block, image = np.meshgrid(np.arange((neurons + 3) // 4), np.arange(net.batch))
    purpose = 2 << 24 | (zlib.crc32(layer["name"].encode()) & 0xFFFFFF)
    key = [net.seed & 0xFFFFFFFF, net.seed >> 32]
    words = philox([block, image, np.full_like(block, step), np.full_like(block, purpose)], key)
    words = np.stack(words, 2).reshape(net.batch, -1)[:, :neurons]
    keep = words >= np.uint64(int(layer["rate"] * 2**32))
    return torch.from_numpy(keep.reshape(net.batch, height, width, channels).astype(np.uint8))


# ---- the network over its towers ----------------------------------------------------------------------------------


def forward(net, images, parameters, step=1, train=True, margins=None):
    """Logits of the batch. `step` picks the dropout masks. `margins` collects the distance to the nearest tie."""
    image = True  # every tower has the whole image until the first layer with weights
    maps = [images] * net.towers  # one entry a tower; a single entry once a layer with `tower` was met
    for layer, shape in zip(net.layers, net.shapes):
        kind = layer["kind"]
        if kind in ("conv", "local", "fc"):
            weight, bias = parameters[layer["name"] + ".weight"], parameters[layer["name"] + ".bias"]
            homes = 1 if "tower" in layer else net.towers
            if image:
                sources = [images] * homes
            elif reads_all(layer):
                sources = [torch.cat(maps, 1)] * homes
            else:
                assert len(maps) == homes, layer
                sources = maps
            if kind == "fc":  # NCHW flattens in the order channel, row, column
                apply = lambda x, w, b, _: (x.flatten(1) @ w.T + b)[:, :, None, None]
            else:
                apply = conv if kind == "conv" else local
            shares = zip(sources, weight.chunk(homes), bias.chunk(homes))
            maps, image = [apply(x, w, b, layer) for x, w, b in shares], False
        elif kind == "lrn":
            maps = [lrn(x, layer) for x in maps]
        elif kind in ("max-pool", "average-pool"):
            if margins is not None and kind == "max-pool":
                margins.append(pool_margin(layer, torch.cat(maps, 1).detach()))
            maps = [pool(x, layer, *shape[1:]) for x in maps]
        elif kind == "relu":
            if margins is not None:
                x = torch.cat(maps, 1).detach()
                margins.append((layer["name"], (x.abs().min() / x.std()).item(), (x > 0).double().mean().item()))
            maps = [x * (x > 0) for x in maps]
        elif kind == "tanh":
            maps = [torch.tanh(x) for x in maps]
        elif kind == "dropout" and train:
            mask = kept(net, layer, shape, step).permute(0, 3, 1, 2)
            stay = 1 - layer["rate"] if layer.get("scale") == "train" else 1
            maps = [x * m / stay for x, m in zip(maps, mask.chunk(len(maps), 1))]
        elif kind == "dropout" and layer.get("scale") != "train":
            maps = [x * (1 - layer["rate"]) for x in maps]
    return torch.cat(maps, 1).flatten(1)


def pool_margin(layer, x):
    """The smallest gap between the two largest pixels of a window, but for windows of zeros (ReLU), over x's std."""
    windows = F.pad(x, (0, layer["size"], 0, layer["size"]), value=-math.inf)
    windows = windows.unfold(2, layer["size"], layer["stride"]).unfold(3, layer["size"], layer["stride"])
    top = windows.flatten(4).topk(2).values
    gap = (top[..., 0] - top[..., 1])[(top[..., 0] != 0) & (top[..., 1] > -math.inf)]
    return layer["name"], (gap.min() / x.std()).item(), None


def log_loss(logits, labels):
    logits = logits - logits.amax(1, keepdim=True)
    logits = logits - logits.exp().sum(1, keepdim=True).log()
    return -logits[torch.arange(len(labels)), labels].mean()


def gradients(net, images, labels, parameters, step, margins=None):
    leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    logits = forward(net, images, leaves, step, margins=margins)
    loss = log_loss(logits, labels)
    return logits.detach(), loss.detach(), dict(zip(leaves, torch.autograd.grad(loss, leaves.values())))


def settings(net, name):
    """(ε, weight decay) of a parameter."""
    layer, train, schedule = net.parameter_shapes[name][1], net.config["train"], net.config["schedule"]
    if name.endswith(".weight"):
        decay = layer.get("weight_decay", train["weight_decay"])
        return schedule["rate"] * layer.get("weight_rate", 1.0), decay
    rate = schedule.get("bias_rate", schedule["rate"])
    return rate * layer.get("bias_rate", 1.0), layer.get("bias_decay", 0.0)


def train(net, images, labels, parameters, without=None, margins=None):
    """The parameters after five steps (§5). `without` leaves one part of the rule out, to see that it matters."""
    parameters = dict(parameters)
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    momentum = 0.0 if without == "momentum" else net.config["train"]["momentum"]
    for step in range(1, STEPS + 1):
        _, _, grads = gradients(net, images, labels, parameters, step, margins)
        for name, w in parameters.items():
            rate, decay = settings(net, name)
            if without == "factors":
                rate = net.config["schedule"]["rate"]
            if without == "decay":
                decay = 0.0
            velocity[name] = momentum * velocity[name] - decay * rate * w - rate * grads[name]
            parameters[name] = w + velocity[name]
    return parameters


def results(net, dtype, margins=None):
    """All that is stored, computed in `dtype`."""
    images, labels, parameters = net.draw()
    images, parameters = images.to(dtype), {name: value.to(dtype) for name, value in parameters.items()}
    logits, loss, grads = gradients(net, images, labels, parameters, 1)
    stored = {"input": images, "labels": labels.int(), **parameters, "logits": logits, "loss": loss.reshape(1)}
    stored |= {"grad/" + name: value for name, value in grads.items()}
    after = train(net, images, labels, parameters, margins=margins)
    stored |= {"step5/" + name: value for name, value in after.items()}
    for layer, shape in zip(net.layers, net.shapes):
        if layer["kind"] == "dropout":
            stored["mask/" + layer["name"]] = kept(net, layer, shape, 1)
            stored["test_logits"] = forward(net, images, parameters, train=False)
    return stored


# ---- checks and files ---------------------------------------------------------------------------------------------


def distance(a, b):
    """The largest difference over the largest value of b."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def nearest_tie(margins):
    return min(margins, key=lambda entry: entry[1])


def check(net, stored, margins, verbose):
    """What is wrong with these values as a test, a sentence each."""
    images, labels, parameters = net.draw()
    wrong = []

    def require(condition, sentence):
        if not condition:
            wrong.append(sentence)

    single = results(net, torch.float32)
    off = {name: distance(single[name], value) for name, value in stored.items()}
    worst = max(off, key=off.get)
    require(off[worst] < 2e-5, f"float32 differs by {off[worst]:.1e} at {worst}")
    where, margin, _ = nearest_tie(margins)
    require(margin > 1e-5, f"a near-tie of {margin:.1e} at {where}: try other seeds with --search")
    for name, _, active in margins:
        require(active is None or 0.1 < active < 0.95, f"{name}: {active or 0:.0%} of the units are active")
    loss = stored["loss"].item()
    require(1 < loss < 6 and abs(loss - math.log(net.classes)) > 0.02, f"loss {loss}")
    without = {
        part: train(net, images, labels, parameters, without=part) for part in ("momentum", "decay", "factors")
    }
    for name, start in parameters.items():
        grad, after = stored["grad/" + name], stored["step5/" + name]
        largest, alive, moved = grad.abs().max(), (grad != 0).double().mean(), distance(after, start)
        parts = {part: distance(other[name], after) for part, other in without.items()}
        if verbose:
            shown = ", ".join(f"{part} {value:.1e}" for part, value in parts.items())
            print(f"  {name:13} largest gradient {largest:.1e}, {alive:4.0%} not 0, moved {moved:.1e}; without {shown}")
        require(largest > 1e-4 and alive > 0.2, f"{name}: largest gradient {largest:.1e}, {alive:.0%} not 0")
        require(0.004 < moved < 2, f"{name} moved by {moved:.1e}")
        rate, decay = settings(net, name)
        used = {"momentum": True, "decay": decay > 0, "factors": rate != net.config["schedule"]["rate"]}
        for part, value in parts.items():
            require(not used[part] or value > 5e-4, f"{name}: five steps do not show {part} ({value:.1e})")
    print(f"  loss {loss:.4f}; float32 differs by {off[worst]:.1e} ({worst}); nearest tie {margin:.1e} ({where})")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="TOML files (default: all of this folder)")
    parser.add_argument("--search", type=int, metavar="N", help="try seeds 1 to N, print the nearest tie of each")
    parser.add_argument("--verbose", action="store_true", help="print what the checks see of every parameter")
    options = parser.parse_args()
    for path in options.files or sorted(Path(__file__).parent.glob("*.toml")):
        if options.search:
            for seed in range(1, options.search + 1):
                margins = []
                stored = results(Net(path, seed), torch.float64, margins)
                name, margin, _ = nearest_tie(margins)
                print(f"{path.stem} seed {seed}: nearest tie {margin:.1e} ({name}), loss {stored['loss'].item():.3f}")
            continue
        print(path.stem)
        net, margins = Net(path), []
        stored = results(net, torch.float64, margins)
        if wrong := check(net, stored, margins, options.verbose):
            sys.exit(f"{path} makes no good test:\n  " + "\n  ".join(wrong))
        arrays = {name: (t.float() if t.is_floating_point() else t).contiguous().numpy() for name, t in stored.items()}
        target = path.with_suffix(".safetensors")
        save_file(arrays, target)
        print(f"  {target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
