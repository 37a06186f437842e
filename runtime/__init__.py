"""Everything that executes: sessions of onnxruntime, the NumPy reference, runs layer by layer, native kernels."""
