"""Everything that executes: the neuron's numerics, its ONNX functions, the NumPy reference and onnxruntime."""
