"""Compares Ocelli's inference with that of eight other engines on this machine's CPU: PyTorch (eager in both layouts, and
compiled), ONNX Runtime, OpenVINO, ncnn, and, in Rust, tract, RTen, Candle and Burn.

    pip install torch torchvision timm onnx onnxscript onnxruntime openvino ncnn pnnx     (and a compiler of C++)
    python inference.py                                      the nine models, batch 1, all cores
    python inference.py resnet50 efficientnet_b0 --batch 16 --threads 2

Every engine runs in a process of its own, in turns; a table of the medians' best of all rounds, in ms, follows, and
Ocelli's time divided by the best peer's (below 1: Ocelli is faster). Weights are random: the time does not depend on
them. A peer whose logits differ from ONNX Runtime's by more than 1e-3 of the largest is an error (Ocelli's weights are
others); what it cannot run is left out. The peers' files are made once, in --cache, where the engines in Rust are compiled,
too, which takes cargo a quarter of an hour. Times are those of at least 10 runs and 3 s (--min-seconds, but for Ocelli), after
3 for warming up.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = [
    "alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "densenet121", "legacy_seresnet50", "efficientnet_b0",
    "deformable_resnet50",
]
PYTORCH = ["nchw", "channels_last", "compiled"]
RUST = ["tract", "rten", "candle", "burn"]
ENGINES = PYTORCH + ["onnxruntime", "openvino", "ncnn"] + RUST
SIZE = 224
WIDTH = 14

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--rounds", type=int, default=1)
parser.add_argument("--engines", nargs="*", choices=ENGINES, default=ENGINES)
parser.add_argument("--ocelli", default=Path(__file__).parents[2] / "target/release/ocelli", help="its release binary")
parser.add_argument("--ocelli-options", default="", help="further options of `ocelli bench`, in one string")
parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ocelli-peers")
parser.add_argument("--min-seconds", type=float, default=3.0)
parser.add_argument("--engine", choices=ENGINES + ["prepare"], help=argparse.SUPPRESS)
args = parser.parse_args()
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = str(args.threads)
# Weights are constants to `torch.compile`, which packs them and folds normalisations: faster than without.
os.environ["TORCHINDUCTOR_FREEZING"] = "1"


def build(name):
    """The model as PyTorch has it, ready to infer."""
    import torch
    import torchvision

    torch.manual_seed(0)
    if name.startswith("legacy_"):
        import timm

        model = timm.create_model(name)
    elif name == "deformable_resnet50":
        model = torchvision.models.resnet50(weights=None)
        for stage in (model.layer2, model.layer3, model.layer4):
            for block in stage:
                block.conv2 = deformable(block.conv2)
    else:
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, weights=None, **options)
    return model.eval().requires_grad_(False)


def deformable(conv):
    """The 3x3 convolution `conv` with learnt offsets (Dai et al. 2017)."""
    import torch
    from torchvision.ops import DeformConv2d

    class Deformable(torch.nn.Module):
        def __init__(self):
            super().__init__()
            geometry = {"kernel_size": 3, "stride": conv.stride, "padding": conv.padding}
            self.offset = torch.nn.Conv2d(conv.in_channels, 18, **geometry)
            self.conv = DeformConv2d(conv.in_channels, conv.out_channels, bias=False, **geometry)

        def forward(self, x):
            return self.conv(x, self.offset(x))

    return Deformable()


def prepare(name):
    """Writes the files from which the other engines read the model, where they are not yet."""
    import torch

    args.cache.mkdir(parents=True, exist_ok=True)
    x = torch.zeros(args.batch, 3, SIZE, SIZE)
    model = build(name)
    with torch.no_grad():
        onnx = path(name, "onnx")
        if not onnx.exists():
            torch.onnx.register_custom_op_symbolic("torchvision::deform_conv2d", deformable_symbol, 19)
            part = onnx.with_suffix(".part")
            torch.onnx.export(model, (x,), part, dynamo=False, opset_version=19, input_names=["x"], output_names=["y"])
            part.rename(onnx)
        if not path(name, "expected").exists():
            images().tofile(path(name, "images"))
            runner("onnxruntime", name)().tofile(path(name, "expected"))
        if not path(name, "xml").exists() and "deformable" in name:
            # OpenVINO's reader of ONNX does not know deformable convolution; its reader of PyTorch does.
            import openvino

            openvino.save_model(openvino.convert_model(model, example_input=x), path(name, "xml"), compress_to_fp16=False)
        wants_ncnn = "ncnn" in args.engines and "deformable" not in name and args.batch == 1
        if wants_ncnn and not path(name, "ncnn.bin").exists():
            traced = path(name, "pt")
            torch.jit.trace(model, x).save(traced)
            pnnx = Path(sys.executable).with_name("pnnx")
            shape = f"inputshape=[{args.batch},3,{SIZE},{SIZE}]"
            subprocess.run([pnnx, traced.name, shape, "fp16=0"], cwd=args.cache, check=True, stdout=subprocess.DEVNULL)
    if not path(name, "json").exists() and "deformable" not in name:
        from graph import write_graph

        write_graph(onnx, path(name, "json"))


def deformable_symbol(g, x, weight, offset, mask, bias, *numbers):
    from torch.onnx import symbolic_helper

    *pairs, groups, offset_groups, modulated = (symbolic_helper._maybe_get_const(n, "i") for n in numbers)
    stride, padding, dilation = pairs[0:2], pairs[2:4], pairs[4:6]
    return g.op(
        "DeformConv", x, weight, offset, *([bias, mask] if modulated else []),
        kernel_shape_i=[3, 3], strides_i=stride, pads_i=padding * 2, dilations_i=dilation, group_i=groups,
        offset_group_i=offset_groups,
    )


def path(name, suffix):
    return args.cache / f"{name}_b{args.batch}.{suffix}"


def images():
    import numpy

    return numpy.random.default_rng(0).standard_normal((args.batch, 3, SIZE, SIZE), dtype=numpy.float32)


def runner(engine, name):
    """A function that infers once and returns the logits."""
    x = images()
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
        session = onnxruntime.InferenceSession(path(name, "onnx"), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": x})[0]
    if engine == "openvino":
        import openvino

        source = next(file for file in (path(name, "xml"), path(name, "onnx")) if file.exists())
        options = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads, "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(source, "CPU", options).create_infer_request()
        return lambda: request.infer([x], share_inputs=True)[0]
    if engine == "ncnn":
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = args.threads
        net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
        net.load_param(str(path(name, "ncnn.param")))
        net.load_model(str(path(name, "ncnn.bin")))

        def run():
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(x[0]))
            return extractor.extract("out0")[1].numpy()

        return run
    import torch

    torch.set_num_threads(args.threads)
    layout = torch.channels_last if engine == "channels_last" else torch.contiguous_format
    model, x = build(name).to(memory_format=layout), torch.from_numpy(x).contiguous(memory_format=layout)
    mode = torch.inference_mode
    if engine == "compiled":
        # Weights are constants to it only where none could have a gradient.
        model, mode = torch.compile(model), torch.no_grad

    def run():
        with mode():
            return model(x).numpy()

    return run


def measure(run, expected):
    """The median time of `run`, whose logits must be as expected, in ms."""
    for _ in range(3):
        difference = abs(run().flatten() - expected).max()
        # Of a NaN, too.
        if not difference <= 1e-3 * abs(expected).max():
            sys.exit(f"the logits differ by {difference}")
    times = []
    while len(times) < 10 or sum(times) < args.min_seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def in_process(engine, name):
    """The median of `engine`, from a process of its own; nothing if it cannot run the model."""
    needed = {"ncnn": "ncnn.bin"} | dict.fromkeys(RUST, "json")
    if engine in needed and not path(name, needed[engine]).exists():
        return None
    if engine == "ocelli":
        options = ["--batch", str(args.batch), "--threads", str(args.threads), *args.ocelli_options.split()]
        return json.loads(subprocess.check_output([args.ocelli, "bench", name, "--json", *options]))["median_ms"]
    batch, threads, seconds = str(args.batch), str(args.threads), str(args.min_seconds)
    if engine in RUST:
        model = path(name, "onnx" if engine in ("tract", "rten") else "json")
        files = [model, path(name, "images"), path(name, "expected")]
        command = [args.cache / "rust/release" / engine, *files, batch, threads, seconds]
    else:
        command = [sys.executable, __file__, name, "--engine", engine, "--batch", batch, "--threads", threads]
        command += ["--min-seconds", seconds, "--cache", args.cache, "--engines", *args.engines]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1]) if engine != "prepare" else None


def build_rust():
    """Compiles the engines in Rust for this very processor, as some of them look for its instructions then."""
    manifest = Path(__file__).with_name("rust") / "Cargo.toml"
    command = ["cargo", "build", "--release", "--manifest-path", manifest, "--target-dir", args.cache / "rust"]
    subprocess.run(command, check=True, env=os.environ | {"RUSTFLAGS": "-C target-cpu=native"})


if args.engine == "prepare":
    prepare(args.models[0])
    sys.exit()
if args.engine:
    import numpy

    expected = numpy.fromfile(path(args.models[0], "expected"), dtype=numpy.float32)
    print(measure(runner(args.engine, args.models[0]), expected))
    sys.exit()

if set(RUST) & set(args.engines):
    build_rust()
print(f"batch {args.batch}, {args.threads} threads, {SIZE}x{SIZE}, f32, medians in ms")
print(f"{'':20}" + "".join(f"{engine:>{WIDTH}}" for engine in ["ocelli", *args.engines]) + f"{'ratio':>9}", flush=True)
ratios = []
for name in args.models:
    in_process("prepare", name)
    best = {}
    for _ in range(args.rounds):
        for engine in ["ocelli", *args.engines]:
            median = in_process(engine, name)
            if median is not None:
                best[engine] = min(median, best.get(engine, math.inf))
    ratios.append(best["ocelli"] / min(best[engine] for engine in args.engines if engine in best))
    cells = (f"{best[engine]:{WIDTH}.2f}" if engine in best else f"{'-':>{WIDTH}}" for engine in ["ocelli", *args.engines])
    print(f"{name:20}" + "".join(cells) + f"{ratios[-1]:9.2f}", flush=True)
print(f"geometric mean of the ratios: {math.exp(statistics.mean(map(math.log, ratios))):.2f}")
