"""The paper's network in PyTorch, written as PyTorch's users write it: the peer that our speed is compared with.

    pip install -r benches/peers/requirements.txt
    python benches/peers/alexnet_torch.py --steps 5

Prints one JSON object: images per second of training (forward, loss, backward, update) and of evaluation (forward
alone), each from the median time of the steps after the warm-up. Data is random and made beforehand, so no input
pipeline is measured. Threads are all that PyTorch takes by default unless --threads says otherwise.

The two towers are `groups=2` in conv2, conv4 and conv5; fc6 to fc8 and conv3 read everything: the same parameters
and multiply-adds as two towers. PyTorch divides alpha by n, so 5e-4 there is the paper's 1e-4. Normalisation runs
over the joined maps here, within a tower in the paper, at the same cost. `--model torchvision` is torchvision's
AlexNet: one tower with fewer kernels, no normalisation.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class AlexNet(nn.Module):
    """Krizhevsky, Sutskever and Hinton 2012, §3.5; 60,965,224 parameters."""

    def __init__(self, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(9216, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, 2)
        self.dropout = nn.Dropout()
        for name, layer in self.named_children():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.constant_(layer.bias, 1.0 if name in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0)

    def forward(self, x):  # [N, 3, 224, 224]
        x = F.pad(x, (0, 3, 0, 3))  # the last windows hang over the right and bottom edge: 55 x 55
        x = self.pool(self.norm(F.relu(self.conv1(x))))
        x = self.pool(self.norm(F.relu(self.conv2(x))))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = self.pool(F.relu(self.conv5(x)))
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))
        x = self.dropout(F.relu(self.fc7(x)))
        return self.fc8(x)


def images_per_second(step, images, steps, warm_up, device):
    """Images over the median time of `steps` calls of `step`, after `warm_up` that do not count."""
    seconds = []
    for _ in range(warm_up + steps):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return images / statistics.median(seconds[warm_up:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["paper", "torchvision"], default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="steps that count (default 10)")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before these (default 2)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="NHWC in memory")
    parser.add_argument("--graphs", action="store_true", help="torch.compile's mode with CUDA graphs")
    parser.add_argument(
        "--precision",
        choices=["f32", "tf32", "bf16"],
        default="f32",
        help="f32 (default), TF32 products on a GPU's tensor cores, or bfloat16 autocast",
    )
    options = parser.parse_args()
    device = options.device
    if options.threads:
        torch.set_num_threads(options.threads)

    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    if options.model == "paper":
        model = AlexNet()
    else:
        from torchvision.models import alexnet

        model = alexnet(weights=None)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    images = torch.randn(options.batch, 3, 224, 224).to(device, memory_format=layout)
    labels = torch.randint(1000, (options.batch,)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    compiled = options.compile or options.graphs
    mode = "reduce-overhead" if options.graphs else None
    network = torch.compile(model, mode=mode) if compiled else model

    def forward():
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            return network(images)

    def train():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward().float(), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def evaluate():
        forward()

    model.train()
    train_speed = images_per_second(train, options.batch, options.steps, options.warm_up, device)
    model.eval()
    eval_speed = images_per_second(evaluate, options.batch, options.steps, options.warm_up, device)
    result = {
        "train_images_per_second": round(train_speed, 2),
        "eval_images_per_second": round(eval_speed, 2),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "model": options.model,
        "batch": options.batch,
        "steps": options.steps,
        "compile": compiled,
        "graphs": options.graphs,
        "channels_last": options.channels_last,
        "precision": options.precision,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
