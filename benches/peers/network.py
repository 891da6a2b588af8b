"""Predicted and measured steps of several processes, and PyTorch's, over a network of a known speed.

    cargo build --release
    sudo python3 benches/peers/network.py                  # all of it: about 20 minutes on two cores
    sudo python3 benches/peers/network.py --batch 16 --steps 2 --gbit 10 --no-torch   # a rehearsal

Each process is a machine of its own as far as the network goes: a network namespace, joined to the others by a bridge
whose cables (veth) carry `--gbit` Gbit/s each way (`tc … tbf`), and one core of this machine. What a process trains by
itself is measured first, in as many processes at once as there will be, since cores share the memory; and what a byte
that travels takes of a core, with another network, of many weights and little work, over cables that nothing limits.
These two numbers are all that the predictions are given. Then, for each speed and each way of `train.distribute`,
`alexnet train` under Open MPI's mpirun against `alexnet inspect --ranks`, and PyTorch's DistributedDataParallel over
gloo (`ddp_torch.py`), in turn. Figures are medians over the steps after the warm-up. It needs root for the namespaces,
`ip`, `tc`, Open MPI and, unless --no-torch, Python with PyTorch (`--python`). A table goes to standard output. Nothing
else should run meanwhile.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Their first steps, with fresh memory and a checkpoint that is being written, do not count.
WARM_UP = 3
NAME = "alexnet-bench"
# What heads of Ethernet, IP and TCP leave of 1,514 bytes on the cable.
PAYLOAD = 1448 / 1514
# The network that a byte's cost is measured with: 34 million weights, 136 MB of gradients a step.
FLAT = "".join(
    f'[[layer]]\nname = "{name}"\nkind = "fc"\noutputs = {outputs}\nweight_sigma = 0.005\n'
    for name, outputs in [("fc6", 4096), ("fc7", 4096), ("fc8", 1000)]
)
FLAT = f'[data]\ncrop = 32\nclasses = 1000\n[schedule]\nkind = "steps"\nrate = 0.0001\n{FLAT}'
FLAT += '[[layer]]\nname = "softmax"\nkind = "softmax"\n'
FLAT_BATCH = 8
# As many as there are classes, of which a rehearsal has fewer.
OUTPUTS = "layer.fc8.outputs=classes"


def call(*command, **options):
    """Runs what must succeed; its standard output."""
    result = subprocess.run([str(c) for c in command], text=True, capture_output=True, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{result.stdout}{result.stderr}")
    return result.stdout


def png(path, seed):
    """A smooth picture of 256×256, the cheapest to make and to read."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(256) for value in ((x + seed) % 256, (y * seed) % 256, (x + y) % 256))
        for y in range(256)
    )

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 256, 256, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1))
                     + chunk(b"IEND", b""))


class Network:
    """Namespaces and a bridge, for as long as it is entered."""

    def __init__(self, ranks):
        self.names = [f"{NAME}-{rank}" for rank in range(ranks)]

    def address(self, rank):
        return f"10.77.0.{rank + 1}"

    def __enter__(self):
        self.remove()
        call("ip", "netns", "add", f"{NAME}-bridge")
        self.inside(f"{NAME}-bridge", "ip", "link", "add", "bridge", "type", "bridge")
        self.inside(f"{NAME}-bridge", "ip", "link", "set", "bridge", "up")
        for rank, name in enumerate(self.names):
            call("ip", "netns", "add", name)
            call("ip", "link", "add", "cable", "netns", name, "type", "veth",
                 "peer", "name", f"port{rank}", "netns", f"{NAME}-bridge")
            self.inside(f"{NAME}-bridge", "ip", "link", "set", f"port{rank}", "master", "bridge", "up")
            self.inside(name, "ip", "address", "add", f"{self.address(rank)}/24", "dev", "cable")
            self.inside(name, "ip", "link", "set", "cable", "up")
            self.inside(name, "ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        """Ends what still runs in the namespaces, and them."""
        for name in [*self.names, f"{NAME}-bridge"]:
            there = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for process in there.stdout.split():
                os.kill(int(process), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)

    def inside(self, name, *command):
        return call("ip", "netns", "exec", name, *command)

    def speed(self, gbit):
        """Both ways of every cable; a thousandth of a second may go at once."""
        burst = max(int(gbit * 1e9 / 8 / 1000), 32768)
        limit = ["tbf", "rate", f"{int(gbit * 1000)}mbit", "burst", str(burst), "latency", "100ms"]
        for rank, name in enumerate(self.names):
            self.inside(name, "tc", "qdisc", "replace", "dev", "cable", "root", *limit)
            self.inside(f"{NAME}-bridge", "tc", "qdisc", "replace", "dev", f"port{rank}", "root", *limit)

    def agent(self, folder):
        """What mpirun starts its helpers with on other machines: the namespace of that address, a name and a core."""
        path = folder / "agent"
        lines = ["#!/bin/sh", "host=$1; shift", "case $host in"]
        for rank, name in enumerate(self.names):
            lines.append(f"{self.address(rank)}) exec {shlex.join(self.shell(rank))} sh -c \"$*\" ;;")
        path.write_text("\n".join([*lines, "esac", ""]))
        path.chmod(0o755)
        return path

    def shell(self, rank):
        core = rank % len(os.sched_getaffinity(0))
        named = ["unshare", "--uts", "sh", "-c", f'hostname rank{rank}; exec "$@"', "sh"]
        return ["ip", "netns", "exec", self.names[rank], "taskset", "-c", str(core), *named]

    def on(self, rank, command, **options):
        """Starts a command as if on the machine of that rank."""
        words = [*self.shell(rank), *map(str, command)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def finish(processes):
    """Waits for all; their outputs."""
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs):
        if process.returncode != 0:
            sys.exit(f"{process.args}:\n{output}")
    return outputs


def step_seconds(run, batch):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [batch / line["images_per_second"] for line in lines if line["kind"] == "step"]
    return statistics.median(steps[WARM_UP:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2, help="more than cores are slower than predicted")
    parser.add_argument("--batch", type=int, default=128, help="of all processes together")
    parser.add_argument("--steps", type=int, default=5, help="steps that count")
    parser.add_argument("--gbit", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--latency-us", type=float, default=50)
    parser.add_argument("--cpu-ns-per-byte", type=float, help="what a byte takes of a core, if that is known")
    parser.add_argument("--config", default=ROOT / "configs/ilsvrc2012.toml")
    parser.add_argument("--alexnet", type=pathlib.Path, default=ROOT / "target/release/alexnet", help="the program")
    parser.add_argument("--mpirun", default=shutil.which("mpirun.openmpi") or "mpirun", help="Open MPI's")
    parser.add_argument("--no-torch", action="store_true", help="without PyTorch")
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with tempfile.TemporaryDirectory() as folder, Network(options.ranks) as network:
        measure(options, network, pathlib.Path(folder))


def measure(options, network, folder):
    ranks, batch = options.ranks, options.batch
    alexnet = options.alexnet.resolve()
    images = (WARM_UP + options.steps) * batch
    # As many classes as the paper's, so that the work is its.
    for split, count in [("train", images), ("val", 2)]:
        for number in range(count):
            of_class = folder / "photos" / split / f"class{number % min(images, 1000)}"
            of_class.mkdir(parents=True, exist_ok=True)
            png(of_class / f"{number}.png", number)
    call(alexnet, "prepare", "image-folder", "photos", "--out", "set", cwd=folder)
    train = training(alexnet, pathlib.Path(options.config).resolve())
    share = batch // ranks
    alone = alone_seconds(network, folder, [*train, "--set", f"train.batch={share}"], ranks, share, "alone")
    speed = share / alone
    print(f"{speed:.1f} images/s each, {share} images a step; ", end="", flush=True)
    cost = options.cpu_ns_per_byte
    if cost is None:
        cost = byte_cost(options, network, folder, alexnet)
    print(f"a byte that travels takes {cost:.2f} ns of a core\n")

    print("| Gbit/s | what | step, ms | predicted, ms | measured / predicted | images/s | more than alone, ms | "
          "predicted, ms | of it waits, ms |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for gbit in options.gbit:
        network.speed(gbit)
        asked = ["--ranks", ranks, "--gbit-per-second", gbit * PAYLOAD, "--latency-us", options.latency_us,
                 "--images-per-second", speed, "--cpu-ns-per-byte", cost, "--set", f"train.batch={batch}",
                 "--set", OUTPUTS, "--data", "set"]
        rows = json.loads(call(alexnet, "inspect", pathlib.Path(options.config).resolve(), "--json", *asked,
                               cwd=folder))["ranks"]
        for way in ["data", "hybrid"]:
            predicted = rows[-1] if way == "data" else rows[-1]["hybrid"]
            run = f"{way}-{gbit}"
            command = [*train, "--profile", "--set", f"train.batch={batch}", "--set", f"train.distribute={way}",
                       "--run", run]
            said = together(options, network, folder, command)
            seconds = step_seconds(folder / run, batch)
            line = next(line for line in said.splitlines() if "waited for the other" in line)
            waited = line.split(": ")[1].split()[0]
            ms, foretold = 1e3 * seconds, 1e3 * predicted["step_seconds"]
            print(f"| {gbit:g} | {way} | {ms:.0f} | {foretold:.0f} | {ms / foretold:.2f} | {batch / seconds:.1f} | "
                  f"{ms - 1e3 * alone:.0f} | {1e3 * predicted['exposed_seconds']:.0f} | {waited} |", flush=True)
        if not options.no_torch:
            peer = torch(options, network)
            print(f"| {gbit:g} | PyTorch, DDP over gloo | {1e3 * batch / peer['images_per_second']:.0f} | | | "
                  f"{peer['images_per_second']:.1f} | {peer['exposed_ms']:.0f} | | |", flush=True)


def training(alexnet, config):
    command = [alexnet, "train", "--device", "cpu", "--config", config, "--data", "set"]
    for setting in ["train.epochs=1", "train.tensorboard=false", "train.checkpoint_minutes=0", "data.workers=1",
                    OUTPUTS]:
        command += ["--set", setting]
    return command


def alone_seconds(network, folder, train, ranks, share, name):
    """A step of `share` images in each of so many processes at once that know nothing of each other."""
    print(f"each of {ranks} processes by itself, {share} images a step …", file=sys.stderr)
    finish([network.on(rank, [*train, "--run", f"{name}-{rank}"], cwd=folder) for rank in range(ranks)])
    return statistics.mean(step_seconds(folder / f"{name}-{rank}", share) for rank in range(ranks))


def byte_cost(options, network, folder, alexnet):
    """Nanoseconds of a core for a byte that is sent while one comes, over cables that nothing limits."""
    (folder / "flat.toml").write_text(FLAT)
    ranks, batch = options.ranks, FLAT_BATCH * options.ranks
    train = training(alexnet, "flat.toml")
    own = [*train, "--set", f"train.batch={FLAT_BATCH}"]
    alone = alone_seconds(network, folder, own, ranks, FLAT_BATCH, "flat-alone")
    together(options, network, folder, [*train, "--set", f"train.batch={batch}", "--run", "flat"])
    rows = json.loads(call(alexnet, "inspect", "flat.toml", "--json", "--ranks", ranks, "--set",
                           f"train.batch={batch}", "--set", OUTPUTS, "--data", "set", cwd=folder))["ranks"]
    return 1e9 * max(0, step_seconds(folder / "flat", batch) - alone) / rows[-1]["bytes_sent"]


def together(options, network, folder, command):
    """The command under mpirun, a process a machine; what it says."""
    hosts = ",".join(network.address(rank) for rank in range(options.ranks))
    tcp = ["--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", "cable",
           "--mca", "oob_tcp_if_include", "cable", "--mca", "plm_rsh_agent", network.agent(folder)]
    launched = [options.mpirun, "--allow-run-as-root", "--bind-to", "none", "--host", hosts, "-n", options.ranks,
                *tcp, "--wdir", folder, *command]
    return finish([network.on(0, launched, cwd=folder)])[0]


def torch(options, network):
    """PyTorch's figures. Its processes find each other by these variables, as torchrun would set them; gloo is told
    which cable to take, or it waits on the address that the machine's name has outside."""
    command = [options.python, HERE / "ddp_torch.py", "--batch", options.batch, "--steps", options.steps,
               "--warm-up", 1]
    processes = []
    for rank in range(options.ranks):
        variables = {"RANK": rank, "WORLD_SIZE": options.ranks, "LOCAL_RANK": 0, "MASTER_ADDR": network.address(0),
                     "MASTER_PORT": 29500, "GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": 1}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        processes.append(network.on(rank, command, env=environment))
    output = finish(processes)[0]
    return json.loads(output[output.index("{"):output.rindex("}") + 1])


if __name__ == "__main__":
    main()
