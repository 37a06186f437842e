"""Which outputs of whole numbers count or measure something, so that they may be close: all others number classes."""

from __future__ import annotations

import onnx

NUMBERS_CLASSES = frozenset(
    [
        *("ArgMax", "ArgMin", "TopK", "NonZero", "NonMaxSuppression", "Multinomial", "Unique", "Hardmax"),
        *("LabelEncoder", "LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier", "CategoryMapper"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"),
    ]
)
KEEPS_VALUES: dict[str, slice] = {  # what moves values about, or chooses among them, and which inputs hold them
    **dict.fromkeys(("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), slice(1)),
    **dict.fromkeys(("Slice", "Split", "Expand", "Tile", "Pad", "OneHot"), slice(1)),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "ArrayFeatureExtractor"), slice(2)),
    "Concat": slice(None),
    "Where": slice(1, 3),
}
KNOWN_DOMAINS = frozenset(["", "ai.onnx", "csscc", "csscc.steps", "csscc.stream"])


def counting_outputs(model: onnx.ModelProto) -> frozenset[str]:
    """Outputs that arithmetic makes, that is no number of a class: sums, sizes, rounded values.

    Of interest are those of whole numbers. What operators of other domains make is not known to count.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    return frozenset(o.name for o in model.graph.output if _counts(o.name, makers))


def _counts(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    seen, asked, computed = set[str](), [name], False
    while asked:
        name = asked.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in NUMBERS_CLASSES or node.domain not in KNOWN_DOMAINS:
            return False
        if node.op_type in KEEPS_VALUES:
            asked += node.input[KEEPS_VALUES[node.op_type]]
        elif node.op_type not in ("Constant", "ConstantOfShape"):
            computed = True
    return computed
