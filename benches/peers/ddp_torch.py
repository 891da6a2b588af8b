"""The paper's network in PyTorch on several processes: DistributedDataParallel over gloo, one thread each.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benches/peers/ddp_torch.py --batch 128

`--batch` is the batch of all processes together. Prints one JSON object: images a second of training from the median
time of the steps after the warm-up, the same without exchanging gradients (`no_sync`), and the difference in
milliseconds: the exchange that is not hidden behind the backward pass. Data is random and made beforehand. Gradients
travel as DDP's users have it, in buckets of 25 MB. On several machines GLOO_SOCKET_IFNAME names the interface between
them: gloo else takes that of the machine's name, which may lead elsewhere, and waits. `network.py` does all of it.
"""

import argparse
import contextlib
import json
import statistics
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from alexnet_torch import AlexNet
from torch.nn.parallel import DistributedDataParallel


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="steps that count")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before these")
    parser.add_argument("--channels-last", action="store_true", help="NHWC in memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(1)
    share = options.batch // dist.get_world_size()
    memory = torch.channels_last if options.channels_last else torch.contiguous_format
    images = torch.randn(share, 3, 224, 224).to(memory_format=memory)
    labels = torch.randint(1000, (share,))
    network = DistributedDataParallel(AlexNet().to(memory_format=memory))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)

    def seconds(exchange):
        taken = []
        for _ in range(options.warm_up + options.steps):
            dist.barrier()
            begun = time.perf_counter()
            with contextlib.nullcontext() if exchange else network.no_sync():
                F.cross_entropy(network(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken[options.warm_up:])

    together, alone = seconds(True), seconds(False)
    if dist.get_rank() == 0:
        print(json.dumps({
            "images_per_second": options.batch / together,
            "without_exchange": options.batch / alone,
            "exposed_ms": 1e3 * (together - alone),
        }))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
