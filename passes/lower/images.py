"""Operators on the images of a folded network as convolutions, for sessions with native kernels.

Kernels work on folded trains, in the layout of onnxruntime's convolutions. Where onnxruntime has no such form of an
operator, it would bring an image out of that layout, and all that the image is added to after it.
"""

from __future__ import annotations

import onnx
from onnx import helper

from csscc.dialect.model import add_functions, opset_of
from csscc.dialect.spiking import STEPS_DOMAIN
from csscc.passes.lower.convolved import Convolved, Images
from csscc.passes.lower.step_functions import StepsSignature, convolution, convolved_in_steps, signature_in_steps


def images_convolved(model: onnx.ModelProto) -> None:
    """Make convolutions of operators on images of a folded spiking network (in place); a train is a single slab."""
    images = Images.of(model)
    functions: dict[tuple[StepsSignature, Convolved], onnx.FunctionProto] = {}
    for node in model.graph.node:
        if not images.trains.issuperset(node.output):
            continue
        signature = signature_in_steps(node, images.trains)
        convolved, channels = convolution(signature, images, node)
        if convolved is None:
            continue
        if (signature, convolved) not in functions:
            function = convolved_in_steps(signature, 1, opset_of(model), convolved)
            function.name += f"_{len(functions)}"
            functions[signature, convolved] = function
        node.op_type, node.domain = functions[signature, convolved].name, STEPS_DOMAIN
        node.input[:] = filter(None, node.input)
        more = {"slabs": 1, "stepped": signature.stepped, "channels": channels}
        node.attribute.extend(helper.make_attribute(name, value) for name, value in more.items())
    add_functions(model, functions.values())
