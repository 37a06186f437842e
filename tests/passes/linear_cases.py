"""Networks of one linear operator each: with weights, without, and of several outputs or inputs."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

IMAGE = "float[N,4,6,6] x"
ROWS = "float[N,3,4] x"

# name: (operator, model)
WEIGHTED = {
    "conv": (
        "Conv",
        f"g ({IMAGE}) => (float[N,5,3,3] y) <float[5,4,3,3] W, float[5] b> {{ y = Conv <pads = [1,1,1,1], strides = [2,2]> (x, W, b) }}",
    ),
    "conv without bias": (
        "Conv",
        f"g ({IMAGE}) => (float[N,5,2,2] y) <float[5,4,3,3] W> {{ y = Conv <dilations = [2,2]> (x, W) }}",
    ),
    "grouped conv": (
        "Conv",
        f"g ({IMAGE}) => (float[N,6,4,4] y) <float[6,2,3,3] W, float[6] b> {{ y = Conv <group = 2> (x, W, b) }}",
    ),
    "depthwise conv": (
        "Conv",
        f"g ({IMAGE}) => (float[N,8,4,4] y) <float[8,1,3,3] W> {{ y = Conv <group = 4> (x, W) }}",
    ),
    "conv 1d": (
        "Conv",
        "g (float[N,4,7] x) => (float[N,5,5] y) <float[5,4,3] W, float[5] b> { y = Conv (x, W, b) }",
    ),
    "conv 3d": (
        "Conv",
        "g (float[N,2,4,4,4] x) => (float[N,3,3,3,3] y) <float[3,2,2,2,2] W> { y = Conv (x, W) }",
    ),
    "transposed conv": (
        "ConvTranspose",
        f"g ({IMAGE}) => (float[N,3,13,13] y) <float[4,3,3,3] W, float[3] b> {{ y = ConvTranspose <strides = [2,2]> (x, W, b) }}",
    ),
    "grouped transposed conv": (
        "ConvTranspose",
        f"g ({IMAGE}) => (float[N,6,12,12] y) <float[4,3,2,2] W, float[6] b> {{ y = ConvTranspose <group = 2, strides = [2,2]> (x, W, b) }}",
    ),
    "gemm": (
        "Gemm",
        "g (float[N,4] x) => (float[N,5] y) <float[4,5] W, float[5] b> { y = Gemm <alpha = 0.3, beta = 1.7> (x, W, b) }",
    ),
    "gemm transposed": (
        "Gemm",
        "g (float[N,4] x) => (float[N,5] y) <float[5,4] W, float[1,5] b> { y = Gemm <transB = 1> (x, W, b) }",
    ),
    "gemm with one number": (
        "Gemm",
        "g (float[N,4] x) => (float[N,5] y) <float[5,4] W, float[1] b> { y = Gemm <transB = 1> (x, W, b) }",
    ),
    "gemm without C": ("Gemm", "g (float[N,4] x) => (float[N,5] y) <float[4,5] W> { y = Gemm (x, W) }"),
    "matmul": ("MatMul", "g (float[N,4] x) => (float[N,5] y) <float[4,5] W> { y = MatMul(x, W) }"),
    "matmul of rows": ("MatMul", f"g ({ROWS}) => (float[N,3,5] y) <float[4,5] W> {{ y = MatMul(x, W) }}"),
    "stacked matmul": (
        "MatMul",
        "g (float[N,2,3,4] x) => (float[N,2,3,5] y) <float[2,4,5] W> { y = MatMul(x, W) }",
    ),
    "matmul from the left": (
        "MatMul",
        f"g ({ROWS}) => (float[N,5,4] y) <float[5,3] W> {{ y = MatMul(W, x) }}",
    ),
}

PLAIN = {
    "add a constant": ("Add", f"g ({IMAGE}) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Add(x, c) }}"),
    "add to a constant": ("Add", f"g ({IMAGE}) => (float[N,4,6,6] y) <float[1,4,6,6] c> {{ y = Add(c, x) }}"),
    "subtract a constant": ("Sub", f"g ({IMAGE}) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Sub(x, c) }}"),
    "subtract from a constant": (
        "Sub",
        f"g ({IMAGE}) => (float[N,4,6,6] y) <float[6] c> {{ y = Sub(c, x) }}",
    ),
    "sum with a constant": ("Sum", f"g ({IMAGE}) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Sum(x, c) }}"),
    "multiply": ("Mul", f"g ({IMAGE}) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Mul(x, c) }}"),
    "divide": ("Div", f"g ({IMAGE}) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Div(x, c) }}"),
    "negate": ("Neg", f"g ({IMAGE}) => (float[N,4,6,6] y) {{ y = Neg(x) }}"),
    "average pool": (
        "AveragePool",
        f"g ({IMAGE}) => (float[N,4,3,3] y) {{ y = AveragePool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (x) }}",
    ),
    "average pool counting padding": (
        "AveragePool",
        f"g ({IMAGE}) => (float[N,4,3,3] y) {{ y = AveragePool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], count_include_pad = 1> (x) }}",
    ),
    "plain average pool": (
        "AveragePool",
        f"g ({IMAGE}) => (float[N,4,3,3] y) {{ y = AveragePool <kernel_shape = [2,2], strides = [2,2]> (x) }}",
    ),
    "global average pool": (
        "GlobalAveragePool",
        f"g ({IMAGE}) => (float[N,4,1,1] y) {{ y = GlobalAveragePool(x) }}",
    ),
    "mean over space": (
        "ReduceMean",
        f"g ({IMAGE}) => (float[N,4] y) <int64[2] a = {{2, -1}}> {{ y = ReduceMean <keepdims = 0> (x, a) }}",
    ),
    "sum over channels": (
        "ReduceSum",
        f"g ({IMAGE}) => (float[N,1,6,6] y) <int64[1] a = {{1}}> {{ y = ReduceSum(x, a) }}",
    ),
    "sum over nothing": (
        "ReduceSum",
        f"g ({IMAGE}) => (float[N,4,6,6] y) {{ y = ReduceSum <noop_with_empty_axes = 1> (x) }}",
    ),
    "resize nearest": (
        "Resize",
        f'g ({IMAGE}) => (float[N,4,12,12] y) <float[4] s = {{1, 1, 2, 2}}> {{ y = Resize <mode = "nearest"> (x, , s) }}',
    ),
    "resize linear": (
        "Resize",
        f'g ({IMAGE}) => (float[N,4,9,12] y) <float[4] s = {{1, 1, 1.5, 2}}> {{ y = Resize <mode = "linear"> (x, , s) }}',
    ),
    "blocks side by side": (
        "Col2Im",
        "g (float[N,12,4] x) => (float[N,3,4,4] y) <int64[2] i = {4,4}, int64[2] b = {2,2}> { y = Col2Im <strides = [2,2]> (x, i, b) }",
    ),
    "blocks that overlap": (
        "Col2Im",
        "g (float[N,12,9] x) => (float[N,3,4,4] y) <int64[2] i = {4,4}, int64[2] b = {2,2}> { y = Col2Im(x, i, b) }",
    ),
    "transpose": (
        "Transpose",
        f"g ({IMAGE}) => (float[N,6,6,4] y) {{ y = Transpose <perm = [0, 2, 3, 1]> (x) }}",
    ),
    "transpose rows": (
        "Transpose",
        f"g ({ROWS}) => (float[N,4,3] y) {{ y = Transpose <perm = [0, 2, 1]> (x) }}",
    ),
    "reshape": (
        "Reshape",
        f"g ({IMAGE}) => (float[N,144] y) <int64[2] s = {{-1, 144}}> {{ y = Reshape(x, s) }}",
    ),
    "flatten": ("Flatten", f"g ({IMAGE}) => (float[N,144] y) {{ y = Flatten(x) }}"),
    "slice": (
        "Slice",
        f"g ({IMAGE}) => (float[N,2,6,6] y) <int64[1] a = {{1}}, int64[1] b = {{3}}> {{ y = Slice(x, a, b, a) }}",
    ),
    "gather": (
        "Gather",
        f"g ({IMAGE}) => (float[N,2,6,6] y) <int64[2] i = {{3, 0}}> {{ y = Gather <axis = 1> (x, i) }}",
    ),
    "pad": (
        "Pad",
        f"g ({IMAGE}) => (float[N,4,8,8] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}> {{ y = Pad(x, p) }}",
    ),
    "pad with axes": (
        "Pad",
        f"g ({IMAGE}) => (float[N,4,8,6] y) <int64[2] p = {{1,1}}, int64[1] a = {{2}}> {{ y = Pad(x, p, , a) }}",
    ),
    "pad by reflection": (
        "Pad",
        f'g ({IMAGE}) => (float[N,4,8,8] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}> {{ y = Pad <mode = "reflect"> (x, p) }}',
    ),
    "depth to space": (
        "DepthToSpace",
        f"g ({IMAGE}) => (float[N,1,12,12] y) {{ y = DepthToSpace <blocksize = 2> (x) }}",
    ),
    "space to depth": (
        "SpaceToDepth",
        f"g ({IMAGE}) => (float[N,16,3,3] y) {{ y = SpaceToDepth <blocksize = 2> (x) }}",
    ),
    "unsqueeze": (
        "Unsqueeze",
        f"g ({ROWS}) => (float[N,3,1,4] y) <int64[1] a = {{2}}> {{ y = Unsqueeze(x, a) }}",
    ),
    "split": (
        "Split",
        f"g ({IMAGE}) => (float[N,2,6,6] y, float[N,2,6,6] z) {{ y, z = Split <axis = 1, num_outputs = 2> (x) }}",
    ),
    "dropout": ("Dropout", f"g ({IMAGE}) => (float[N,4,6,6] y) {{ y = Dropout(x) }}"),
}

MANY = {
    "sum of two": ("Add", f"g ({IMAGE}, float[N,4,6,6] x2) => (float[N,4,6,6] y) {{ y = Add(x, x2) }}"),
    "difference": ("Sub", f"g ({IMAGE}, float[N,4,6,6] x2) => (float[N,4,6,6] y) {{ y = Sub(x, x2) }}"),
    "sum that repeats": ("Add", f"g ({IMAGE}, float[N,4,1,1] x2) => (float[N,4,6,6] y) {{ y = Add(x, x2) }}"),
    "sum of three": (
        "Sum",
        f"g ({IMAGE}, float[N,4,6,6] x2, float[N,4,6,6] x3) => (float[N,4,6,6] y) {{ y = Sum(x, x2, x3) }}",
    ),
    "sum of a constant and two": (
        "Sum",
        f"g ({IMAGE}, float[N,4,6,6] x2) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Sum(c, x, x2) }}",
    ),
    "sum of two and a constant": (
        "Sum",
        f"g ({IMAGE}, float[N,4,6,6] x2) => (float[N,4,6,6] y) <float[4,1,1] c> {{ y = Sum(x, x2, c) }}",
    ),
    "concat of channels": (
        "Concat",
        f"g ({IMAGE}, float[N,2,6,6] x2) => (float[N,6,6,6] y) {{ y = Concat <axis = 1> (x, x2) }}",
    ),
    "concat from the end": (
        "Concat",
        f"g ({IMAGE}, float[N,2,6,6] x2) => (float[N,6,6,6] y) {{ y = Concat <axis = -3> (x, x2) }}",
    ),
    "concat over space": (
        "Concat",
        f"g ({IMAGE}, float[N,4,2,6] x2) => (float[N,4,8,6] y) {{ y = Concat <axis = 2> (x, x2) }}",
    ),
}
ALL = WEIGHTED | PLAIN | MANY
