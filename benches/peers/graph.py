"""Writes an ONNX model as JSON beside its weights, as `rust/src/graph.rs` reads them: for engines that read no ONNX."""

import json

import numpy
import onnx
from onnx import numpy_helper, shape_inference


def write_graph(source, target):
    """`source`'s network to `target`, and its weights, raw f32, to the file beside it that ends in `.weights`."""
    graph = shape_inference.infer_shapes(onnx.load(source)).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in [*graph.value_info, *graph.input, *graph.output]}
    nodes, same = [], {}
    for node in graph.node:
        inputs = [same.get(name, name) for name in node.input]
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        kind, output = node.op_type, node.output[0]
        if kind == "Constant":
            weights[output] = numpy_helper.to_array(attributes["value"])
        elif kind == "Identity" or kind == "AveragePool" and set(attributes["kernel_shape"]) == {1}:
            same[output] = inputs[0]
        else:
            if kind == "BatchNormalization":
                inputs = inputs[:1] + scale_and_shift(output, inputs[1:], attributes["epsilon"], weights)
            elif kind == "ReduceMean":
                inputs = inputs[:1]
            sizes = [shapes[name][2].dim_value for name in (inputs[0], output)] if "Pool" in kind else []
            nodes.append({"operation": operation(kind, attributes, *sizes), "inputs": inputs, "output": output})
    nodes = join_silu(nodes)
    used = {name for node in nodes for name in node["inputs"]} & weights.keys()
    places, at = {}, 0
    with open(target.with_suffix(".weights"), "wb") as file:
        for name in sorted(used):
            places[name] = {"shape": weights[name].shape, "offset": at}
            at += weights[name].size
            file.write(weights[name].astype(numpy.float32).tobytes())
    output = graph.output[0].name
    whole = {"input": graph.input[0].name, "output": same.get(output, output), "nodes": nodes, "weights": places}
    target.write_text(json.dumps(whole))


def operation(kind, attributes, height=None, output_height=None):
    """What `Operation` in graph.rs calls it. All kernels, strides and paddings of the networks are square."""
    if kind == "Conv":
        assert set(attributes["dilations"]) == {1}
        (stride,), (padding,) = set(attributes["strides"]), set(attributes["pads"])
        return {"Conv": {"stride": stride, "padding": padding, "groups": attributes["group"]}}
    if kind in ("MaxPool", "AveragePool"):
        (kernel,), (stride,) = set(attributes["kernel_shape"]), set(attributes["strides"])
        (padding,) = set(attributes.get("pads", [0]))
        further = max(0, (output_height - 1) * stride + kernel - height - 2 * padding)
        return {kind: {"kernel": kernel, "stride": stride, "padding": padding, "further": further}}
    return {"BatchNormalization": "Affine", "ReduceMean": "GlobalAveragePool"}.get(kind, kind)


def scale_and_shift(name, parameters, epsilon, weights):
    """The names of what a batch normalization's four parameters amount to, which join the weights."""
    weight, bias, mean, variance = (weights[parameter].astype(numpy.float64) for parameter in parameters)
    scale = weight / numpy.sqrt(variance + epsilon)
    weights[f"{name}.scale"], weights[f"{name}.shift"] = scale, bias - mean * scale
    return [f"{name}.scale", f"{name}.shift"]


def join_silu(nodes):
    """A sigmoid that only scales its own input, and the product, as one node."""
    users = {}
    for node in nodes:
        for name in node["inputs"]:
            users.setdefault(name, []).append(node)
    joined = []
    for node in nodes:
        if node["operation"] == "Sigmoid":
            product, *others = users[node["output"]]
            if not others and product["operation"] == "Mul" and node["inputs"][0] in product["inputs"]:
                product.update(operation="Silu", inputs=node["inputs"])
                continue
        joined.append(node)
    return joined
