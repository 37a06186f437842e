class OnnxGraphSurgeonException(Exception): ...  # noqa: N818
