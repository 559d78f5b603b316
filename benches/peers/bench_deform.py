"""Times torchvision's deformable convolution on the shape of `kernels deform`: 3x3, 64 to 64 channels at
56x56, offsets of up to two pixels, with a mask.

    pip install torch torchvision
    python bench_deform.py [BATCH] [THREADS]
"""

import os
import statistics
import sys
import time

batch = int(sys.argv[1]) if len(sys.argv) > 1 else 1
threads = int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count()
# Read by the thread pools below PyTorch when they are loaded, so before the import.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)

import torch
from torchvision.ops import deform_conv2d

RUNS, WARM_UP = 20, 3


def median_ms(run):
    times = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[WARM_UP:])


def uniform(*shape, reach=1.0):
    return (2 * torch.rand(shape) - 1) * reach


x, w = uniform(batch, 64, 56, 56), uniform(64, 64, 3, 3)
offset, mask = uniform(batch, 18, 56, 56, reach=2.0), uniform(batch, 9, 56, 56)
dy = uniform(batch, 64, 56, 56)


def forward():
    with torch.inference_mode():
        deform_conv2d(x, offset, w, padding=1, mask=mask)


def both():
    inputs = [t.detach().requires_grad_() for t in (x, offset, w, mask)]
    deform_conv2d(inputs[0], inputs[1], inputs[2], padding=1, mask=inputs[3]).backward(dy)


print(f"torchvision, {torch.get_num_threads()} threads, batch {batch}, ms (median)")
print(f"forward                 {median_ms(forward):8.3f}")
print(f"forward and backward    {median_ms(both):8.3f}")
