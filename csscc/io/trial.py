"""Try a stranger's model in a child process, before this one relies on it.

onnx and onnxruntime are C++, and their checks have holes: there are constants and shapes on which shape inference, an
optimiser or an operator ends the process, takes all memory or does not come back. No exception reports that. So a
fork of this process does first what is done with every model: check it, infer its shapes, open a session, and run it
once, on ones. Without large weights it takes milliseconds. Only Linux forks safely; elsewhere nothing is tried.
Where onnxruntime refuses what is in the file, `load` has the network tried again as csscc reads it.
"""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import math
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from csscc import limits
from csscc.errors import RefusedError
from csscc.io.weights import without_weights

OPSET = 20  # to which the version converter is to raise older models
OUT_OF_MEMORY, NOT_OPENED = 3, 4  # exit codes of a child
PATIENCE = 6  # seconds to wait for a second of computing: others may use the machine, too
_opened: dict[bytes, bool] = {}  # digests of the models that were tried: whether onnxruntime opened them


def try_out(model: onnx.ModelProto, *, runs: bool) -> None:
    """Refuse what onnx or onnxruntime do not survive.

    Args:
        model: any model.
        runs: whether to run it, too.

    Raises:
        RefusedError: the child was ended by a signal, or took too much time or memory.
    """
    if sys.platform != "linux":
        return
    light, weights = _light(model)
    content = light.SerializeToString()
    digest = hashlib.sha256(content).digest()
    if digest in _opened:
        return
    import onnxruntime  # noqa: F401 (here once, and not in every child)

    runs = runs and sum(t.ByteSize() for t in weights.values()) <= limits.TRIAL_WEIGHTS
    code = _in_child(lambda: _try(light, content, runs))
    if code in (None, -signal.SIGXCPU):
        _refuse(f"they work on it for more than {limits.TRIAL_SECONDS:g} seconds")
    elif code == OUT_OF_MEMORY:
        _refuse(f"they need more than {limits.TRIAL_BYTES / 2**30:g} GiB of memory for it, without its weights")
    elif code < 0:
        _refuse(f"it ends the process that opens it ({signal.Signals(-code).name})")
    assert code in (0, NOT_OPENED), f"the trial of a model ended with {code}"
    _opened[digest] = code == 0


def was_not_opened(model: onnx.ModelProto) -> bool:
    """Whether the model was tried and onnxruntime refused it, so that nothing of it has run."""
    return bool(_opened) and not _opened.get(hashlib.sha256(_light(model)[0].SerializeToString()).digest(), True)


def _light(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    """The model with its large weights as inputs, and these."""
    light, weights = without_weights(model)
    _as_inputs(light, [(t.name, t.data_type, tuple(t.dims)) for t in weights.values()])
    return light, weights


def _refuse(what: str) -> None:
    raise RefusedError(
        f"onnx and onnxruntime cannot work with the model: {what}; a constant, an attribute or a size in it is "
        "wrong: export it again"
    )


def _as_inputs(model: onnx.ModelProto, given: list[tuple[str, int, tuple[int, ...]]]) -> None:
    """Let a model that lacks the values of some initializers have these as inputs (in place)."""
    lacking = {name for name, *_ in given}
    kept = [t for t in model.graph.initializer if t.name not in lacking]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    declared = {v.name for v in model.graph.input}
    missing = [(name, kind, shape) for name, kind, shape in given if name not in declared]
    model.graph.input.extend(helper.make_tensor_value_info(*each) for each in missing)


def _in_child(action: Callable[[], int]) -> int | None:
    """Exit code of a fork that runs `action`, negative for a signal; None where it did not come back in time."""
    ended, end = os.pipe()
    collects = gc.isenabled()
    gc.disable()  # a child that frees a session of this process waits for its threads, which a fork does not have
    try:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _prepare()
                code = action()
            finally:
                os._exit(code)
    finally:
        if collects:
            gc.enable()
    os.close(end)
    in_time = bool(select.select([ended], [], [], PATIENCE * limits.TRIAL_SECONDS)[0])
    os.close(ended)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if in_time else None


def _prepare() -> None:
    """A child that prints nothing, ends on Ctrl-C at once, and has bounds."""
    import resource

    faulthandler.disable()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + limits.TRIAL_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = max(1, math.ceil(limits.TRIAL_SECONDS))
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _try(model: onnx.ModelProto, content: bytes, runs: bool) -> int:
    """What is done with every model; exceptions of these steps come again, where they are handled."""
    infer, raised = onnx.shape_inference.infer_shapes, onnx.version_converter.convert_version
    opened: list[Any] = []
    older = any(o.version < OPSET for o in model.opset_import if o.domain in ("", "ai.onnx"))
    steps: tuple[Callable[[], Any], ...] = (
        lambda: onnx.checker.check_model(model),
        lambda: infer(model, data_prop=True),
        lambda: infer(model, strict_mode=True, data_prop=True),
        lambda: infer(model, check_type=True, strict_mode=True),
        *((lambda: raised(model, OPSET),) if older else ()),
        lambda: opened.append(_session(content)),
        lambda: _run(opened[0]) if opened and runs else None,
    )
    for step in steps:
        try:
            step()
        except MemoryError:
            return OUT_OF_MEMORY
        except Exception as error:
            if any(words in str(error) for words in ("bad_alloc", "Failed to allocate", "bad allocation")):
                return OUT_OF_MEMORY
    return 0 if opened else NOT_OPENED


def _session(content: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: Any) -> None:
    shapes = {i: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
    if any(math.prod(shape) > limits.MADE_UP for shape in shapes.values()):
        return
    session.run(None, {i.name: np.ones(shape, _type(i.type)) for i, shape in shapes.items()})


def _type(kind: str) -> np.dtype[Any]:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64", "string": "object"}.get(name, name))
