// The arithmetic of csscc.coding.oracle on blocks of elements. Nothing here knows onnxruntime.
//
// Every operation is one IEEE float32 operation in the order that docs/format.md states, so the spikes are those of the
// ONNX functions bit for bit. The compiler must not contract a product and a sum (-ffp-contract=off).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

namespace csscc {

// What a spike is worth at its step, and from which potential on it is sent.
struct Worth {
  float q = 0;
  float highest = 0;  // the potential from which on a spike of +1 is sent
  float lowest = 0;   // down from which one of -1 is sent; NaN, which nothing reaches, for never

  Worth(float q, bool negative, bool whole) : q(q) {
    highest = whole ? q : std::nextafter(q / 2, std::numeric_limits<float>::infinity());  // above half of it
    lowest = negative ? -highest : std::numeric_limits<float>::quiet_NaN();
  }

  float fire(float potential) const {
    return (potential >= highest ? 1.0f : 0.0f) - (potential <= lowest ? 1.0f : 0.0f);
  }
};

// What a node states of its coding.
struct Coding {
  int T = 0;
  int silent = 0;
  bool constant = false;     // rate coding: the encoder sends the same current at each step
  std::vector<Worth> worth;  // of a spike at step t = 1..T, at index t - 1

  Coding() = default;
  // `whole` neurons send no negative spikes, and a positive one once all of its worth is there.
  Coding(int T, float beta32, int silent, bool negative, bool whole) : T(T), silent(silent) {
    const double beta = shortest(beta32);
    for (int t = 1; t <= T; ++t)
      worth.emplace_back(static_cast<float>(std::pow(beta, static_cast<double>(T - t))), negative, whole);
    constant = beta32 == 1.0f;
  }

  // The shortest decimal that gives the float32 an attribute holds: 1.3, not 1.2999999523.
  static double shortest(float value) {
    char text[32];
    for (int digits = 1; digits < 9; ++digits) {
      std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
      if (std::strtof(text, nullptr) == value) return std::strtod(text, nullptr);
    }
    return value;
  }
};

// An activation of single elements: f(x, y, a, b) of one or two accumulated inputs and constant parameters.
struct Elementwise {
  static constexpr bool homogeneous = true, partial = false, window = false;
  static constexpr int inputs = 1, parameters = 0;
};

struct Relu : Elementwise {
  float operator()(float x, float, float, float) const { return x > 0 ? x : 0.0f; }
};
struct LeakyRelu : Elementwise {
  float alpha = 0.01f;
  float operator()(float x, float, float, float) const { return x >= 0 ? x : alpha * x; }
};
struct PRelu : Elementwise {
  static constexpr int parameters = 1;
  float operator()(float x, float, float slope, float) const { return x > 0 ? x : slope * x; }
};
struct Abs : Elementwise {
  float operator()(float x, float, float, float) const { return std::fabs(x); }
};
struct Max : Elementwise {
  static constexpr int inputs = 2;
  float operator()(float x, float y, float, float) const { return x > y ? x : y; }
};
struct Min : Elementwise {
  static constexpr int inputs = 2;
  float operator()(float x, float y, float, float) const { return x < y ? x : y; }
};
struct AtLeast : Elementwise {
  static constexpr bool homogeneous = false;
  static constexpr int parameters = 1;
  float operator()(float x, float, float bound, float) const { return x > bound ? x : bound; }
};
struct AtMost : Elementwise {
  static constexpr bool homogeneous = false;
  static constexpr int parameters = 1;
  float operator()(float x, float, float bound, float) const { return x < bound ? x : bound; }
};
struct ThresholdedRelu : Elementwise {
  static constexpr bool homogeneous = false;
  float alpha = 1.0f;
  float operator()(float x, float, float, float) const { return x > alpha ? x : 0.0f; }
};
struct Clip : Elementwise {
  static constexpr bool homogeneous = false;
  static constexpr int parameters = 2;
  float operator()(float x, float, float low, float high) const {
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
  }
};
struct HardSigmoid : Elementwise {
  static constexpr bool homogeneous = false;
  float alpha = 0.2f, beta = 0.5f;
  float operator()(float x, float, float, float) const {
    const float line = alpha * x + beta;
    const float low = line < 1.0f ? line : 1.0f;
    return low > 0.0f ? low : 0.0f;
  }
};
struct HardSwish : Elementwise {
  static constexpr bool homogeneous = false;
  float operator()(float x, float, float, float) const {
    const float gate = HardSigmoid{{}, 1.0f / 6, 0.5f}(x, 0, 0, 0);
    return x * gate;
  }
};
struct Sqrt : Elementwise {
  static constexpr bool homogeneous = false, partial = true;
  float operator()(float x, float, float, float) const { return std::sqrt(x); }
};
struct DividedInto : Elementwise {
  static constexpr bool homogeneous = false, partial = true;
  static constexpr int parameters = 1;
  float operator()(float x, float, float whole, float) const { return whole / x; }
};
struct Mul : Elementwise {
  static constexpr bool homogeneous = false;
  static constexpr int inputs = 2;
  float operator()(float x, float y, float, float) const { return x * y; }
};
struct Div : Elementwise {
  static constexpr bool homogeneous = false, partial = true;
  static constexpr int inputs = 2;
  float operator()(float x, float y, float, float) const { return x / y; }
};

// A block's data: currents of step t at `current(input, t)`, everything else per element of the block.
template <class F, class Currents>
struct Block {
  const Currents& currents;
  const float* bias[2];
  const float* theta;
  const float* parameter[2];
  std::size_t in, out;   // elements that come in and go out: different for windows
  float* const* spikes;  // of each step, where they begin
  std::size_t at;        // the block's first element there
  float* residual;       // or null
};

// Bring what the next block reads towards the second-level cache: the processor does not foresee T short runs.
inline void fetch(const float* next, std::size_t size) {
#if defined(__GNUC__)
  for (std::size_t j = 0; j < size; j += 16) __builtin_prefetch(next + j, 0, 2);
#endif
}

// Recurrence of csscc.coding.oracle.tsa on one block. `scratch` holds 4 * max(in, out) floats.
template <class F, class Currents>
void tsa(const F& f, const Coding& coding, const Block<F, Currents>& block, float* scratch) {
  const std::size_t in = block.in, out = block.out, space = in > out ? in : out;
  float* membrane[2] = {scratch, scratch + space};
  float* sent = scratch + 2 * space;
  float* value = scratch + 3 * space;
  const int T = coding.T, L = coding.silent;
  for (int t = 1; t <= T + L; ++t) {
    for (int i = 0; i < F::inputs; ++i) {
      if (t > T) break;
      const float *z = block.currents(i, t - 1), *before = t == 1 ? block.bias[i] : membrane[i];
      const float q = coding.worth[t - 1].q;
      float* h = membrane[i];
      if constexpr (!F::window) fetch(z + in, in);
#pragma omp simd
      for (std::size_t j = 0; j < in; ++j) h[j] = before[j] + z[j] * q;
    }
    if (t <= L) continue;
    const int k = t - L;
    if constexpr (F::window) {
      if (t <= T || k == 1) f(membrane[0], value);
    }
    const Worth worth = coding.worth[k - 1];
    const float *h = membrane[0], *g = membrane[1], *theta = block.theta;
    const float *a = block.parameter[0], *b = block.parameter[1];
    float* spikes = block.spikes[k - 1] + block.at;
    if (k == 1) std::fill_n(sent, out, 0.0f);
    const auto step = [&](std::size_t j) {
      float target;
      if constexpr (F::window) {
        target = value[j];
      } else if constexpr (F::homogeneous) {
        target = f(h[j], F::inputs > 1 ? g[j] : 0, F::parameters > 0 ? a[j] : 0, F::parameters > 1 ? b[j] : 0);
      } else {
        target = f(h[j], F::inputs > 1 ? g[j] : 0, F::parameters > 0 ? a[j] : 0, F::parameters > 1 ? b[j] : 0) / theta[j];
      }
      float o = target - sent[j];
      if constexpr (F::partial) o = std::isfinite(o) ? o : 0.0f;
      const float s = worth.fire(o), paid = worth.q * s;
      sent[j] = sent[j] + paid;
      spikes[j] = s;
      return o - paid;
    };
    if (k < T || block.residual == nullptr) {
#pragma omp simd
      for (std::size_t j = 0; j < out; ++j) step(j);
    } else {
#pragma omp simd
      for (std::size_t j = 0; j < out; ++j) block.residual[j] = step(j);
    }
  }
}

// Recurrence of csscc.coding.oracle.encode on `size` elements; `potential` is scratch of that size.
inline void encode(const Coding& coding, const float* x, const float* theta, std::size_t size, float* spikes,
                   std::size_t stride, float* potential) {
#pragma omp simd
  for (std::size_t j = 0; j < size; ++j) potential[j] = x[j] / theta[j];
  const float part = static_cast<float>(1.0 / coding.T);
  for (int t = 0; t < coding.T; ++t, spikes += stride) {
    if (coding.constant) {
#pragma omp simd
      for (std::size_t j = 0; j < size; ++j) spikes[j] = potential[j] * part;
      continue;
    }
    const Worth worth = coding.worth[t];
#pragma omp simd
    for (std::size_t j = 0; j < size; ++j) {
      const float s = worth.fire(potential[j]);
      potential[j] = potential[j] - worth.q * s;
      spikes[j] = s;
    }
  }
}

}  // namespace csscc
