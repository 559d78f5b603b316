"""Times PyTorch eager on this machine's CPU and prints one JSON object with the keys of `ocelli bench --json`.

    pip install torch torchvision
    python bench_pytorch.py resnet50                               inference, batch 1, NCHW
    python bench_pytorch.py resnet50 --layout channels_last
    python bench_pytorch.py resnet18 --batch 16 --train            forward, cross-entropy, backward, SGD with momentum

    python bench_pytorch.py resnet18 --batch 16 --train --layout compiled      torch.compile (NCHW)

MODEL is any of torchvision's by name, `timm:NAME` (pip install timm), or `cifar:DEPTH` for the residual networks of 6n+2
layers. GoogLeNet trains with its auxiliary classifiers. Times are the median and the minimum of at
least 10 runs and 3 s, after 3 warm-up runs. compare.sh runs this and Ocelli in turns.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--input-size", type=int, default=224)
parser.add_argument("--layout", choices=["nchw", "channels_last", "compiled"], default="nchw")
parser.add_argument("--train", action="store_true")
parser.add_argument("--min-runs", type=int, default=10)
parser.add_argument("--min-seconds", type=float, default=3.0)
args = parser.parse_args()
# Read by the thread pools below PyTorch when they are loaded, so before the import.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)

import torch
import torch.nn.functional as F

WARM_UP = 3


def build(name):
    if name.startswith("timm:"):
        import timm

        return timm.create_model(name.removeprefix("timm:"))
    if name.startswith("cifar:"):
        sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures"))
        from cifar import CifarNet

        return CifarNet(int(name.removeprefix("cifar:")), shortcut=True)
    import torchvision

    # Its own initialisation takes a minute, and is of no account to the time.
    options = dict(init_weights=False) if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options)


def inference(model, x):
    model.eval()

    def run():
        with torch.inference_mode():
            model(x)

    return run


def loss_of(outputs, target):
    """GoogLeNet gives its auxiliary classifiers' logits, too, which have a weight of 0.3."""
    logits, *auxiliary = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return F.cross_entropy(logits, target) + 0.3 * sum(F.cross_entropy(head, target) for head in auxiliary)


def training_step(model, x):
    model.train()
    target = torch.randint(0, 10, (len(x),))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run():
        sgd.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        sgd.step()
        loss.item()

    return run


def measure(run):
    for _ in range(WARM_UP):
        run()
    times = []
    while len(times) < args.min_runs or sum(times) < args.min_seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def peak_rss_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


torch.manual_seed(0)
torch.set_num_threads(args.threads)
layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
model = build(args.model).to(memory_format=layout)
x = torch.randn(args.batch, 3, args.input_size, args.input_size).contiguous(memory_format=layout)
if args.layout == "compiled":
    model = torch.compile(model)
times = measure((training_step if args.train else inference)(model, x))
print(json.dumps({
    "engine": f"PyTorch {torch.__version__}, {args.layout if args.layout == 'compiled' else 'eager, ' + args.layout}",
    "model": args.model,
    "mode": "training" if args.train else "inference",
    "batch": args.batch,
    "threads": args.threads,
    "median_ms": round(statistics.median(times) * 1e3, 3),
    "min_ms": round(min(times) * 1e3, 3),
    "runs": len(times),
    "peak_rss_mib": peak_rss_mib(),
}))
