"""Where the batch of a tensor is, and the tensor's counterpart with the batch in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant_tensor, insert_node, is_output, replace_readers
from csscc.passes.canonical.known_sizes import from_inputs, reshape_target
from csscc.passes.canonical.sizes import ONE, Size, Sizes, divided, is_constant, times


class UnfitError(Exception):
    """No counterpart with the batch in front is known for what the node makes or reads."""


@dataclass(frozen=True)
class Place:
    """The batch within one axis of a tensor, which is ``outer * batch * inner`` long, batch index in the middle."""

    axis: int
    outer: Size = ONE
    inner: Size = ONE

    @property
    def rest(self) -> tuple[Size, ...]:
        """What else the axis holds, as axes of the counterpart."""
        return tuple(s for s in (self.outer, self.inner) if s != ONE)

    def after_batch(self, rank: int) -> list[list[int]]:
        """For each axis of the tensor, the axes of its counterpart that hold it; the batch itself is left out."""
        found, free = [], 1
        for axis in range(rank):
            count = len(self.rest) if axis == self.axis else 1
            found.append(list(range(free, free + count)))
            free += count
        return found

    def front_shape(self, shape: Sequence[Size], batch: Size) -> tuple[Size, ...]:
        """The counterpart's shape."""
        return batch, *shape[: self.axis], *self.rest, *shape[self.axis + 1 :]


FRONT = Place(0)


def place_after_reshape(before: Sequence[Size], place: Place, after: Sequence[Size], batch: Size) -> Place:
    """Where a Reshape puts the batch: the axis whose elements lie as far apart, and hold as many.

    A batch of one may be in several axes: then in one of its own, or else in front of others, as heads are folded.

    Raises:
        UnfitError: the batch ends up in several axes.
    """
    distance = times(place.inner, *before[place.axis + 1 :])
    found = []
    for axis, size in enumerate(after):
        step = times(*after[axis + 1 :])
        inner, outer = divided(distance, step), divided(times(step, size), times(distance, batch))
        if inner is not None and outer is not None:
            found.append(Place(axis, outer, inner))
    if not found:
        raise UnfitError
    return min(found, key=lambda p: (len(p.rest), p.outer != ONE))


class Fronts:
    """The counterparts of a graph's tensors, as they are made.

    Args:
        graph: the graph; new nodes are appended to it.
        sizes: its sizes.
        batch: the size of the batch.
    """

    def __init__(self, graph: gs.Graph, sizes: Sizes, batch: Size) -> None:
        self.graph, self.sizes, self.batch = graph, sizes, batch
        self._places: dict[int, Place | None] = {}
        self._unknown: set[int] = set()
        self._made: dict[int, tuple[gs.Tensor, gs.Tensor]] = {}
        self._replaced: dict[int, gs.Node] = {}

    def shape(self, tensor: gs.Tensor) -> tuple[Size, ...]:
        """The tensor's shape.

        Raises:
            UnfitError: it is not known.
        """
        shape = self.sizes.shape(tensor)
        if shape is None:
            raise UnfitError
        return shape

    def place(self, tensor: gs.Tensor) -> Place | None:
        """Where the tensor's batch is; None where it has none.

        Raises:
            UnfitError: it is not known.
        """
        if not tensor.name or isinstance(tensor, gs.Constant):
            return None
        if id(tensor) not in self._places:
            self.assume(tensor)
        if id(tensor) in self._unknown:
            raise UnfitError
        return self._places[id(tensor)]

    def assume(self, tensor: gs.Tensor, *, batched: bool = True) -> None:
        """The place of a tensor that no rule made from its shape."""
        shape = self.sizes.shape(tensor)
        self._places[id(tensor)] = None
        if shape is None:
            self._unknown.add(id(tensor))
        elif is_constant(self.batch):
            if batched and shape and shape[0] == self.batch:
                self._places[id(tensor)] = FRONT
            elif batched:
                self._unknown.add(id(tensor))
        else:
            holds = [i for i, d in enumerate(shape) if divided(d, self.batch) is not None]
            if holds:
                self._places[id(tensor)] = Place(holds[0])
            if len(holds) > 1 or any(shape[i] != self.batch for i in holds):
                self._unknown.add(id(tensor))

    def reads_batch(self, node: gs.Node) -> bool:
        """Whether an input of the node has a batch, or may have one."""
        try:
            return any(self.place(t) is not None for t in node.inputs)
        except UnfitError:
            return True

    def comes_to_front(self, node: gs.Node) -> bool:
        """Whether a node, as it is, brings the batch of a tensor without counterpart to the front."""
        place = self.place(node.inputs[0]) if node.op == "Transpose" else None
        if place is None or place == FRONT or id(node.inputs[0]) in self._made:
            return False
        return attribute(node, "perm", [0])[0] == place.axis

    def front(self, tensor: gs.Tensor) -> gs.Tensor:
        """The counterpart of a tensor that has a place."""
        if id(tensor) in self._made:
            return self._made[id(tensor)][1]
        place = self.place(tensor)
        assert place is not None
        assert not place.rest
        if place == FRONT:
            return tensor
        rank = len(self.shape(tensor))
        order = [place.axis, *(a for a in range(rank) if a != place.axis)]
        made = self.node("Transpose", f"{tensor.name}_front", [tensor], perm=order)
        self._made[id(tensor)] = tensor, made
        return made

    def node(self, op: str, name: str, inputs: Sequence[gs.Tensor], **attrs: object) -> gs.Variable:
        """A new node's output, of the type of its first input."""
        output = insert_node(self.graph, op, name, inputs, domain=None, **attrs)
        output.dtype = inputs[0].dtype
        return output

    def vector(self, name: str, numbers: Sequence[int]) -> gs.Constant:
        """A new constant vector."""
        return constant_tensor(self.graph, name, np.array(numbers, np.int64))

    def reshaped(self, name: str, tensor: gs.Tensor, before: Sequence[Size], after: Sequence[Size]) -> gs.Tensor:
        """A tensor ``[batch, ...]`` of another shape ``[batch, ...]``.

        Raises:
            UnfitError: the shape is not known.
        """
        if list(before) == list(after):
            return tensor
        numbers = reshape_target(before, after)
        if numbers is not None:
            return self.node("Reshape", name, [tensor, self.vector(f"{name}_shape", numbers)])
        target = from_inputs(self.graph, name, self.sizes, [(0,) * len(ONE), *after[1:]])
        if target is None:
            raise UnfitError
        return self.node("Reshape", name, [tensor, target])

    def take(self, node: gs.Node, made: Sequence[tuple[gs.Tensor, Place]], start: int) -> None:
        """Accept what a rule made of a node; the nodes from `start` on are dropped if it changed nothing.

        Raises:
            UnfitError: the node has outputs that the rule knows nothing of.
        """
        if len(made) != len(node.outputs):
            raise UnfitError
        read = [self._places.get(id(t)) for t in node.inputs if t.name and not isinstance(t, gs.Constant)]
        moved = any(p not in (None, FRONT) for p in read) or any(p != FRONT for _, p in made)
        for tensor, (_, place) in zip(node.outputs, made, strict=True):
            self._places[id(tensor)] = place
        if not moved:
            for new in self.graph.nodes[start:]:
                new.inputs.clear()
            del self.graph.nodes[start:]
            return
        for tensor, (counterpart, _) in zip(node.outputs, made, strict=True):
            self._made[id(tensor)] = tensor, counterpart
        self._replaced[id(node)] = node

    def keep(self, core: set[int]) -> int:
        """Drop counterparts that no others need; return the number of nodes whose counterparts stay.

        That is what moves the batch for a reader that needs it there, or outside the core.
        """
        for node in reversed(list(self._replaced.values())):
            readers = [r for t in node.outputs for r in t.outputs]
            moves = all(self._places.get(id(t)) in (None, FRONT) for t in node.inputs)
            if (moves or id(node) not in core) and all(id(r) not in self._replaced for r in readers):
                del self._replaced[id(node)]
                for tensor in node.outputs:
                    del self._made[id(tensor)]
        return len(self._replaced)

    def hand_back(self) -> None:
        """Let what still reads a tensor that has a counterpart read one made of it.

        Raises:
            UnfitError: one cannot be made.
        """
        backs = []
        for tensor, counterpart in list(self._made.values()):
            replaced = tensor.inputs and id(tensor.inputs[0]) in self._replaced
            read = any(id(n) not in self._replaced for n in tensor.outputs) or is_output(self.graph, tensor)
            if replaced and read:
                place = self.place(tensor)
                assert place is not None
                backs.append((tensor, self.moved_back(tensor, counterpart, place)))
        for tensor, back in backs:
            replace_readers(tensor, back)
            if is_output(self.graph, tensor):
                self._name_output(tensor, back)
        for node in self._replaced.values():
            node.inputs.clear()
            node.outputs.clear()

    def _name_output(self, tensor: gs.Tensor, new: gs.Tensor) -> None:
        """Let the graph's output `tensor` be `new`, by the same name."""
        if not new.inputs or is_output(self.graph, new):
            new = self.node("Identity", f"{tensor.name}_output", [new])
        new.name, tensor.name = tensor.name, new.name
        self.graph.outputs[next(i for i, t in enumerate(self.graph.outputs) if t is tensor)] = new

    def moved_back(self, tensor: gs.Tensor, counterpart: gs.Tensor, place: Place) -> gs.Tensor:
        """What a tensor is that has the batch in a place, made of its counterpart.

        Raises:
            UnfitError: its shape is not known, or cannot be stated.
        """
        shape = self.shape(tensor)
        if place == FRONT:
            return counterpart
        order = []
        for axis, axes in enumerate(place.after_batch(len(shape))):
            own = [0] if axis == place.axis else []
            order += own + axes if place.outer == ONE or not own else [axes[0], *own, *axes[1:]]
        back = counterpart
        if order != sorted(order):
            back = self.node("Transpose", f"{tensor.name}_back", [counterpart], perm=order)
        if not place.rest:
            return back
        numbers = [d if axis != place.axis else (-1,) * len(ONE) for axis, d in enumerate(shape)]
        target = from_inputs(self.graph, tensor.name, self.sizes, numbers)
        if target is None:
            raise UnfitError
        return self.node("Reshape", f"{tensor.name}_folded", [back, target])
