// The compiled file in C++. With an onnxruntime release in the folder onnxruntime:
//   g++ -std=c++17 -Ionnxruntime/include run.cpp -Lonnxruntime/lib -lonnxruntime -Wl,-rpath,onnxruntime/lib -o run
//   ./run snn.onnx
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: run snn.onnx\n";
    return 2;
  }
  std::vector<float> pixels(64);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = i % 8 == 3 || i % 8 == 4;  // a vertical bar

  Ort::Env env;
  Ort::Session session(env, argv[1], Ort::SessionOptions());
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::vector<std::int64_t> shape{1, 1, 8, 8};
  const auto image = Ort::Value::CreateTensor<float>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const char* inputs[] = {"image"};
  const char* outputs[] = {"logits"};
  const auto values = session.Run(Ort::RunOptions(), inputs, &image, 1, outputs, 1);

  const float* logits = values[0].GetTensorData<float>();
  const auto classes = values[0].GetTensorTypeAndShapeInfo().GetElementCount();
  std::cout << "digit " << std::max_element(logits, logits + classes) - logits << "\n";
}
