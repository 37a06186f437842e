// The compiled file in JavaScript: npm install onnxruntime-node; node run.mjs snn.onnx
import ort from "onnxruntime-node";

const file = process.argv[2];
const pixels = Float32Array.from({ length: 64 }, (_, i) => (i % 8 === 3 || i % 8 === 4 ? 1 : 0)); // a vertical bar

const session = await ort.InferenceSession.create(file);
const image = new ort.Tensor("float32", pixels, [1, 1, 8, 8]);
const { logits } = await session.run({ image });

console.log(`digit ${logits.data.indexOf(Math.max(...logits.data))}`);
