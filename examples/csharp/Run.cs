// The compiled file in C#. In a new folder, with the .NET SDK:
//   dotnet new console && rm Program.cs && cp .../Run.cs .
//   dotnet add package Microsoft.ML.OnnxRuntime
//   dotnet run snn.onnx
using System;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

class Run
{
    static int Main(string[] args)
    {
        if (args.Length != 1)
        {
            Console.Error.WriteLine("usage: dotnet run snn.onnx");
            return 2;
        }
        string file = args[0];
        float[] pixels = Enumerable.Range(0, 64).Select(i => i % 8 == 3 || i % 8 == 4 ? 1f : 0f).ToArray(); // a bar

        using var session = new InferenceSession(file);
        var image = new DenseTensor<float>(pixels, new[] { 1, 1, 8, 8 });
        using var outputs = session.Run(new[] { NamedOnnxValue.CreateFromTensor("image", image) });
        float[] logits = outputs.First().AsEnumerable<float>().ToArray();

        Console.WriteLine($"digit {Array.IndexOf(logits, logits.Max())}");
        return 0;
    }
}
