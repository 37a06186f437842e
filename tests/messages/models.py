"""Messages about models: files that are none, damaged ones, and what onnx and onnxruntime cannot work with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import sleep

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import csscc
from csscc.io.trial import OUT_OF_MEMORY
from csscc.runtime.session import Session
from tests.messages.given import Messages, X, ann, attribute, compiles, damaged, made, opens, run, stated, unchecked


def first(m: onnx.ModelProto) -> TensorProto:
    """The first constant."""
    return m.graph.initializer[0]


def kind(m: onnx.ModelProto) -> onnx.TypeProto.Tensor:
    """The type of the input."""
    return m.graph.input[0].type.tensor_type


def sparse(m: onnx.ModelProto) -> None:
    """A sparse constant."""
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    m.graph.sparse_initializer.add(values=values, indices=numpy_helper.from_array(np.zeros(1, np.int64)), dims=[2, 2])


def renamed(name: str) -> onnx.ModelProto:
    """A function that calls itself."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20, "own": 1]> g (float[N,2] x) => (float[N,2] y) { y = own.F(x) }'
        f'<domain: "own", opset_import: ["": 20, "own": 1]> F (a) => (b) {{ b = own.{name}(a) }}'
    )


def saved(model: onnx.ModelProto) -> str:
    """Its path."""
    Path("m.onnx").write_bytes(model.SerializeToString())
    return "m.onnx"


def elsewhere(m: onnx.ModelProto) -> None:
    """Weights in a file that is not there."""
    first(m).ClearField("raw_data")
    first(m).data_location = TensorProto.EXTERNAL
    first(m).external_data.add(key="location", value="absent.bin")


def added(**fields: object) -> object:
    """Compile a network whose Relu has an odd attribute."""
    return compiles(lambda m: m.graph.node[1].attribute.append(AttributeProto(**{"name": "axis", **fields})))


def no_text() -> None:
    """Inspect a network with an operator whose name is no text."""
    Path("m.onnx").write_bytes(Path("ann.onnx").read_bytes().replace(b"MatMul", b"MatMu\xff"))
    run("csscc inspect m.onnx")


def amplitude(value: float) -> Callable[[onnx.ModelProto], None]:
    """Another amplitude of the first layer of neurons."""

    def change(m: onnx.ModelProto) -> None:
        theta = next(n for n in m.graph.node if n.op_type == "TSARelu").input[2]
        tensor = next(t for t in m.graph.initializer if t.name == theta)
        tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, value, np.float32), theta))

    return change

NO_NAME = '[{"name": 1, "kind": "a", "neurons": 1, "depth": 1, "amplitude": 1, "clipping_range": 1}]'
MESSAGES: Messages = {
    "absent.onnx: no such file; give the path of an .onnx model": lambda p: run("csscc compile absent.onnx -o s.onnx"),
    "x.npy: these are samples, not a network; give the .onnx file here, and samples by --data or "
    "--calibration": lambda p: run("csscc compile x.npy -o s.onnx"),
    "notes.onnx: not a readable ONNX model (...); export it to ONNX": lambda p:
        (Path("notes.onnx").write_text("x"), run("csscc compile notes.onnx -o s.onnx")),
    "m.onnx: not an ONNX model (it has no graph or no opset); was it exported completely?": lambda p:
        compiles(lambda m: m.graph.ClearField("node")),
    "m.onnx: it imports the versions 20 and 13 of the operators of 'ai.onnx'; export it with one": lambda p:
        compiles(lambda m: setattr(m.opset_import.add(), "version", 13)),
    "m.onnx: its weights in other files cannot be read (...); keep these files beside it": lambda p:
        compiles(elsewhere),
    "the model is a spiking network already; compile the network that it was made from": lambda p:
        run("csscc compile snn.onnx -o s.onnx"),
    "the model is not valid ONNX: ...Frobnicate...; export it again": lambda p:
        compiles(lambda m: setattr(m.graph.node[0], "op_type", "Frobnicate")),
    "the model is not valid ONNX: node 'MatMul_0' reads what is computed from it; export it again": lambda p:
        compiles(lambda m: m.graph.node[0].input.__setitem__(0, "y")),
    "m.onnx: input 'x' of shape ['N', 0] takes no data; export with positive sizes": lambda p:
        compiles(lambda m: setattr(kind(m).shape.dim[1], "dim_value", 0)),
    "input 'x' of shape ['N', -2] takes no data; export with positive sizes": lambda p:
        csscc.compile(damaged(lambda m: setattr(kind(m).shape.dim[1], "dim_value", -2)), X),
    "the model's opset is 99, the installed onnx knows those up to ...; export it with one of those, or "
    "install newer versions of onnx and onnxruntime": lambda p:
        compiles(lambda m: setattr(m.opset_import[0], "version", 99)),
    "m.onnx: constant 'w' of shape [2, 2] takes 16 bytes, but 7 are there; export it again": lambda p:
        compiles(lambda m: setattr(first(m), "raw_data", b"1234567")),
    "the model's types and shapes contradict each other (...); export it again": lambda p:
        compiles(lambda m: first(m).CopyFrom(numpy_helper.from_array(np.ones((3, 5), np.float32), "w"))),
    "the model has weights that are not finite: 'w' of MatMul 'a' (4 of 4 values are NaN); train or export "
    "it again": lambda p:
        compiles(lambda m: first(m).CopyFrom(numpy_helper.from_array(np.full((2, 2), np.nan, np.float32), "w"))),
    "the model has weights that are too large: 'w' of MatMul 'a' (4 of 4 values are beyond 1e+30); train or "
    "export it again": lambda p:
        compiles(lambda m: first(m).CopyFrom(numpy_helper.from_array(np.full((2, 2), 3e38, np.float32), "w"))),
    "tensor 'r' of the network is NaN or infinite on calibration samples, so it has no amplitude; are the "
    "samples prepared as for the network?": lambda p:
        (
            np.save("x.npy", X * 1e20),
            compiles(lambda m: first(m).CopyFrom(numpy_helper.from_array(np.full((2, 2), 1e29, np.float32), "w"))),
        ),
    "m.onnx: constant 'w' is of data type 99, which ONNX lacks; export it again": lambda p:
        compiles(lambda m: setattr(first(m), "data_type", 99)),
    "m.onnx: constant 'w' has negative sizes, [-2, 2]; export it again": lambda p:
        compiles(lambda m: first(m).dims.__setitem__(0, -2)),
    "m.onnx: constant 'w' is one segment of a larger one; export it in one piece": lambda p:
        compiles(lambda m: setattr(first(m).segment, "begin", 1)),
    "m.onnx: its weights 's' are stored as a sparse tensor; export them as an initializer": lambda p: compiles(sparse),
    "m.onnx: input 'x' is of data type 99, which ONNX lacks; export it again": lambda p:
        compiles(lambda m: setattr(kind(m), "elem_type", 99)),
    "m.onnx: input 'x' is of data type FLOAT8E5M2, which NumPy lacks; make it FLOAT": lambda p:
        compiles(lambda m: setattr(kind(m), "elem_type", TensorProto.FLOAT8E5M2)),
    "m.onnx: input 'x' is of the kind optional_type; csscc feeds tensors: export it as one": lambda p:
        compiles(lambda m: m.graph.input[0].type.CopyFrom(helper.make_optional_type_proto(m.graph.input[0].type))),
    "m.onnx: output 'y' is of the kind optional_type; csscc reads tensors: export it as one": lambda p:
        compiles(lambda m: m.graph.output[0].type.CopyFrom(helper.make_optional_type_proto(m.graph.output[0].type))),
    "m.onnx: attribute 'axis' of Relu '' has no type; export the model again": lambda p: added(),
    "m.onnx: attribute 'axis' of Relu '' holds values of several types; export the model again": lambda p:
        added(type=AttributeProto.INT, i=1, f=2),
    "m.onnx: attribute 'a b' of Relu '' has a name that no attribute can have; export the model again": lambda p:
        added(type=AttributeProto.INT, i=1, name="a b"),
    "m.onnx: attribute 'axis' of Relu '' stands for one of a function, which the node is not in; export the model "
    "again": lambda p: added(ref_attr_name="axis", type=AttributeProto.INT),
    "m.onnx: attribute 'axis' of Relu '' is an empty list; leave it out, or give it values": lambda p:
        added(type=AttributeProto.INTS),
    "m.onnx: attribute 'axis' of Relu '' is no text (it is no UTF-8); export the model again": lambda p:
        added(type=AttributeProto.STRING, s=b"\xff"),
    "m.onnx: attribute 'axis' of Relu '' is a sparse tensor; export it as a tensor": lambda p:
        added(type=AttributeProto.SPARSE_TENSOR, sparse_tensor=onnx.SparseTensorProto()),
    "m.onnx: not a readable ONNX model (a name in it is no text); export the network again": lambda p: no_text(),
    "ann.onnx: it has more than 2 nodes, its functions put in place; use a part of it": lambda p:
        (p.setattr("csscc.limits.NODES", 2), run("csscc inspect ann.onnx")),
    "m.onnx: its function 'F' is called by 64 others in a row, or by itself; export it without such "
    "functions": lambda p: csscc.compile(saved(renamed("F")), X),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  own::G 'y': an operator of a "
    "foreign domain that no function in the model defines; export the model with standard operators, or add"
    " the operator as a model-local function": lambda p: csscc.compile(saved(renamed("G")), X),
    "ann.onnx: onnx and onnxruntime cannot work with the model: they work on it for more than 0 seconds; a "
    "constant, an attribute or a size in it is wrong: export it again": lambda p:
        (
            p.setattr("csscc.io.trial._opened", {}),
            p.setattr("csscc.limits.TRIAL_SECONDS", 0.0),
            p.setattr("csscc.io.trial._try", lambda *a: sleep(9)),
            run("csscc inspect ann.onnx"),
        ),
    "ann.onnx: onnx and onnxruntime cannot work with the model: they need more than 8 GiB of memory for it,"
    " without its weights; a constant, an attribute or a size in it is wrong: export it again": lambda p:
        (
            p.setattr("csscc.io.trial._opened", {}),
            p.setattr("csscc.io.trial._try", lambda *a: OUT_OF_MEMORY),
            run("csscc inspect ann.onnx"),
        ),
    "ann.onnx: onnx and onnxruntime cannot work with the model: it ends the process that opens it "
    "(SIGABRT); a constant, an attribute or a size in it is wrong: export it again": lambda p:
        (
            p.setattr("csscc.io.trial._opened", {}),
            p.setattr("csscc.io.trial._try", lambda *a: os.abort()),
            run("csscc inspect ann.onnx"),
        ),
    "the network has more than 2 GB in Constant nodes, too much for one model; export its weights as "
    "initializers": lambda p:
        (p.setattr("csscc.passes.canonical.load.fits", lambda m: False), run("csscc inspect ann.onnx")),
    "onnxruntime cannot load the model (...); export it again, or install a newer onnxruntime": lambda p:
        Session(b"no model"),
    "onnxruntime cannot run the model (...); are the samples prepared as for the network?": lambda p:
        Session(ann()).run({"x": X[0]}),
    "input 's' takes seq(tensor(float)); export it so that it takes a tensor": lambda p:
        Session(unchecked("g (seq(float[N]) s) => (float[N] y) { y = ConcatFromSequence <axis = 0> (s) }")).specs,
    "the model has no weighted layer (Conv, ConvTranspose, Gemm or MatMul with constant weights), so there "
    "is nothing to make spiking": lambda p: made("y = Relu(x)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  custom::F 'b': an operator of a "
    "foreign domain that no function in the model defines; export the model with standard operators, or add"
    " the operator as a model-local function": lambda p: made("a = MatMul(x, w) b = custom.F(a) y = MatMul(b, v)"),
    "the model cannot be compiled: 2 node(s) stand in the way (opset 20)\n  com.microsoft::Gelu 'Gelu_1', "
    "input Nx2: an operator of the foreign domain 'com.microsoft'; export the model with standard "
    "operators, before any optimiser of onnxruntime sees it\n  com.microsoft::FastGelu 'FastGelu_2', input "
    "Nx2: an operator of the foreign domain 'com.microsoft'; export the model with standard operators, "
    "before any optimiser of onnxruntime sees it": lambda p:
        made("a = MatMul(x, w) b = com.microsoft.Gelu(a) c = com.microsoft.FastGelu(b) y = MatMul(c, v)"),
    "ann.onnx: not a spiking network made by csscc; make one with: csscc compile ann.onnx -o snn.onnx": lambda p:
        run("csscc evaluate ann.onnx ann.onnx --data x.npy"),
    "m.onnx: contradicts itself: its metadata state a latency of 99 time steps, its nodes take 6; compile it "
    "again": lambda p: opens(stated("latency", "99")),
    "m.onnx: its csscc metadata is damaged (...); compile it again": lambda p: opens(stated("latency", "soon")),
    "m.onnx: its csscc metadata is damaged (its layers are no list); compile it again": lambda p:
        opens(stated("layers", "{}")),
    "m.onnx: its csscc metadata is damaged (NaN is no number); compile it again": lambda p:
        opens(stated("layers", "[NaN]")),
    "m.onnx: its csscc metadata is damaged (its source and its options are no mappings); compile it again": lambda p:
        opens(stated("options", "[]")),
    "m.onnx: its csscc metadata is damaged ('?' is no version); compile it again": lambda p:
        opens(stated("version", "?")),
    "m.onnx: its csscc metadata is damaged (of its layers, name is something else); compile it again": lambda p:
        opens(stated("layers", NO_NAME)),
    "node 'Relu_1' (TSARelu) does not state the weights of its spikes; compile the network again": lambda p:
        opens(attribute("TSARelu", "weights", None)),
    "node 'Relu_1' (TSARelu) states no coding: ...; compile the network again": lambda p:
        opens(attribute("TSARelu", "weights", 3)),
    "node 'Relu_1' (TSARelu) states no coding: 4 thresholds for 999 steps; compile the network again": lambda p:
        opens(attribute("TSARelu", "weights", [1.0] * 999)),
    "node 'Relu_1' (TSARelu) states no coding: 1 thresholds for 4 steps; compile the network again": lambda p:
        opens(attribute("TSARelu", "thresholds", [1.0])),
    "m.onnx: its nodes are damaged (IndexError: ...); compile it again": lambda p:
        opens(lambda m: next(n for n in m.graph.node if n.op_type == "TSARelu").ClearField("input")),
    "m.onnx: two of its constants are called 'w'; give each a name of its own": lambda p:
        compiles(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "m.onnx: all its inputs have values of their own, so that it takes no data; export it with an input": lambda p:
        compiles(lambda m: m.graph.initializer.add(name="x", data_type=1, dims=[1], raw_data=bytes(4))),
    "m.onnx: its function 'Relu' has the name of a standard operator; call it otherwise": lambda p:
        compiles(lambda m: m.functions.add(name="Relu")),
    "m.onnx: attribute 'axis' of Relu '' is NaN or infinite; train or export it again": lambda p:
        added(type=AttributeProto.FLOAT, f=float("inf")),
    "m.onnx: the scale 'w' of QuantizeLinear '' is not a positive number; export it again": lambda p:
        compiles(lambda m: setattr(m.graph.node[0], "op_type", "QuantizeLinear")),
    "tensor 'b' of the network has 50 axes; csscc takes up to 48": lambda p:
        made(f"s = Constant <value_ints = [{'1,' * 48}-1,2]> () b = Reshape(x, s) y = Flatten(b)"),
    "an amplitude of 'Relu_1' is not a positive number; compile the network again": lambda p: opens(amplitude(-1.0)),
    "m.onnx: its nodes are damaged (ValidationError: ...); compile it again": lambda p:
        opens(lambda m: next(n for n in m.graph.node if n.op_type == "TSARelu").input.__setitem__(2, "nowhere")),
    "the file's spiking operators are of version 99 of the domain csscc, this csscc knows version ...; "
    "compile the network again (onnxruntime runs the file as it is)": lambda p:
        opens(lambda m: next(o for o in m.opset_import if o.domain == "csscc").__setattr__("version", 99)),
    "the file's csscc metadata is damaged (...); compile it again": lambda p:
        opens(lambda m: m.metadata_props.add(key="csscc.sizes", value="?")),
}
