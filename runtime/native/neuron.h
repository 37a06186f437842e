// The arithmetic of csscc.coding.oracle on blocks of elements. Nothing here knows onnxruntime.
//
// Every operation is one IEEE float32 operation in the order that docs/format.md states, so the spikes are those of the
// ONNX functions bit for bit. The compiler must not contract a product and a sum (-ffp-contract=off).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace csscc {

// sum + count * spike. The product is exact, so one rounding or two make no difference, and one is faster.
inline float add_spike(float sum, float count, float spike) {
#ifdef FP_FAST_FMAF
  return std::fma(count, spike, sum);
#else
  return sum + count * spike;
#endif
}

// The least number that `holds`, as do all above it; infinity if there is none. Halves the numbers 32 times.
template <class Holds>
float first(Holds holds) {
  const auto number = [](std::int64_t place) {  // in order: place 0 is 0, those below it are negative
    const auto bits = static_cast<std::uint32_t>(place < 0 ? 0x80000000 - place : place);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  };
  std::int64_t low = -0x7f800001, high = 0x7f800000;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (holds(number(middle)) ? high : low) = middle;
  }
  return number(high);
}

// A spike of a train: its weight, from which potential on it is sent, and where to.
struct Spike {
  float q = 0;
  float highest = 0;  // the potential from which on it is 1
  float lowest = 0;   // the potential down from which it is `below`
  float below = 0;    // -1, or 0 without negative spikes
  float two = std::numeric_limits<float>::infinity();  // from it on it is `most`, and from minus that down `least`
  float most = 1;     // or 2 of a burst
  float least = 0;    // `below`, or -2 of a burst
  float unknown = 0;  // what is sent for NaN: `below`, or NaN by a burst, as the functions have it
  float weight = 1;   // how often it counts in its slab
  int slab = 0;
  bool begins = true;  // whether it is the first of its slab

  Spike() = default;
  Spike(float q, float threshold, bool negative) : q(q) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    highest = std::nextafter(threshold, infinity);  // above it
    lowest = negative ? -highest : -infinity;
    below = least = unknown = negative ? -1.0f : 0.0f;
  }

  // A burst: the number of spikes nearest to the potential's product with the reciprocal of twice the threshold.
  void burst(float threshold) {
    const float per = 1.0f / (2 * threshold);
    highest = first([=](float x) { return x * per > 0.5f; });
    lowest = -highest;
    two = first([=](float x) { return x * per >= 1.5f; });
    most = 2.0f;
    least = -2.0f;
    unknown = std::numeric_limits<float>::quiet_NaN();
  }

  float fire(float potential) const {
    const float up = potential >= highest ? 1.0f : 0.0f, more = potential >= two ? most : up;
    const float ends = potential <= -two ? least : unknown, down = potential > -two ? below : ends;
    return potential > lowest ? more : down;
  }
};

// Bounds that keep NaN, of either number.
inline float larger(float x, float y) {
  const float most = x > y ? x : y;
  return x == x ? most : x;
}
inline float smaller(float x, float y) {
  const float least = x < y ? x : y;
  return x == x ? least : x;
}

// A value without what a train cannot say; NaN stays.
inline float cut(float value, float most) { return value > most ? most : value < -most ? -most : value; }

// What a node states of its coding. A train comes in slabs: the first holds the weighted sum of its first steps, each
// other one holds one step.
struct Coding {
  int silent = 0;
  bool rounded = false;       // spikes decided behind the last input say together a number rounded to a whole one
  bool constant = false;      // of an encoder: it sends the same current at each step
  std::vector<Spike> spikes;  // of step t = 1..T, at index t - 1
  std::vector<float> merged;  // weights of the first steps, which are received as one sum
  int reads = 1;              // how many of them are one slab already
  std::vector<float> sends;   // weights of the first spikes, which leave in one slab
  // The largest number that spikes which share the last target can say, where that is rounded and their digits are
  // one: in base 3, or where all of them leave in one slab.
  float top = 0;
  bool bursts = false;
  float most = std::numeric_limits<float>::infinity();  // the largest magnitude that is sent

  int T() const { return static_cast<int>(spikes.size()); }
  int received() const { return static_cast<int>(merged.size()); }
  int slabs_in() const { return T() - reads + 1; }
  int slabs_out() const { return T() - static_cast<int>(sends.size()) + 1; }
  float q(int t) const { return spikes[static_cast<std::size_t>(t) - 1].q; }
};

// An activation of single elements: f(x, y, a, b) of one or two accumulated inputs and constant parameters.
struct Elementwise {
  static constexpr bool homogeneous = true, partial = false, window = false;
  static constexpr int inputs = 1, parameters = 0;
};

struct Linear : Elementwise {
  float operator()(float x, float, float, float) const { return x; }
};
struct Relu : Elementwise {
  float operator()(float x, float, float, float) const { return x <= 0 ? 0.0f : x; }
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
  float operator()(float x, float y, float, float) const { return larger(x, y); }
};
struct Min : Elementwise {
  static constexpr int inputs = 2;
  float operator()(float x, float y, float, float) const { return smaller(x, y); }
};
struct AtLeast : Elementwise {
  static constexpr bool homogeneous = false;
  static constexpr int parameters = 1;
  float operator()(float x, float, float bound, float) const { return larger(x, bound); }
};
struct AtMost : Elementwise {
  static constexpr bool homogeneous = false;
  static constexpr int parameters = 1;
  float operator()(float x, float, float bound, float) const { return smaller(x, bound); }
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
    const float low = line >= 1.0f ? 1.0f : line;
    return low <= 0.0f ? 0.0f : low;
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

// A block's data: the slabs of currents at `current(input, slab)`, everything else per element of the block.
template <class F, class Currents>
struct Block {
  const Currents& currents;
  const float* bias[2];
  const float* theta;
  const float* parameter[2];
  std::size_t in, out;  // elements that come in and go out: different for windows
  float* const* slabs;  // of spikes, where they begin
  std::size_t at;       // the block's first element there
  float* residual;      // or null
};

// Bring what the next block reads towards the second-level cache: the processor does not foresee T short runs.
inline void fetch(const float* next, std::size_t size) {
#if defined(__GNUC__)
  for (std::size_t j = 0; j < size; j += 16) __builtin_prefetch(next + j, 0, 2);
#endif
}

// sum = weight * slab for the first slab of a sum, sum = sum + weight * slab for the others.
inline void add(const float* slab, float weight, bool first, std::size_t size, float* sum) {
  if (first) {
#pragma omp simd
    for (std::size_t j = 0; j < size; ++j) sum[j] = weight * slab[j];
  } else {
#pragma omp simd
    for (std::size_t j = 0; j < size; ++j) sum[j] = sum[j] + weight * slab[j];
  }
}

// What is still to be sent.
template <bool partial>
float rest(float value, float sent) {
  const float o = value - sent;
  return !partial || std::isfinite(o) ? o : 0.0f;
}

// One spike of what `target` tells of each element; `sent` is what those before it sent.
template <bool partial, bool begins, class Target>
void fire_one(const Spike* from, const Target& given, float* sent, std::size_t size, float* slab) {
  const Target target = given;  // copies, which nothing that is written here can change
  const Spike spike = *from;
#pragma omp simd
  for (std::size_t j = 0; j < size; ++j) {
    const float fired = spike.fire(rest<partial>(target(j), sent[j]));
    slab[j] = add_spike(begins ? 0.0f : slab[j], spike.weight, fired);
    sent[j] = add_spike(sent[j], spike.q, fired);
  }
}

constexpr std::size_t kChunk = 64;  // elements whose numbers stay in registers from spike to spike

constexpr std::size_t whole_chunks(std::size_t size) { return (size + kChunk - 1) / kChunk * kChunk; }

// The numbers of one chunk, most often a whole one, whose size the compiler knows.
inline void copy(const float* from, std::size_t size, float* to) {
  if (size == kChunk) {
    std::copy_n(from, kChunk, to);
  } else {
    std::copy_n(from, size, to);
  }
}

// `n` spikes of one slab, of what `value` holds; it and `sent` have room for whole chunks.
template <bool partial, bool begins, std::size_t n>
void fire_some(const Spike* from, const float* value, float* sent, std::size_t size, float* slab) {
  Spike spikes[n];
  std::copy_n(from, n, spikes);
  for (std::size_t j = 0; j < size; j += kChunk) {
    const std::size_t here = std::min(kChunk, size - j);
    float paid[kChunk], sum[kChunk] = {};
    std::copy_n(sent + j, kChunk, paid);
    if (!begins) copy(slab + j, here, sum);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < n; ++k) {
      for (std::size_t i = 0; i < kChunk; ++i) {
        const float fired = spikes[k].fire(rest<partial>(value[j + i], paid[i]));
        sum[i] = add_spike(sum[i], spikes[k].weight, fired);
        paid[i] = add_spike(paid[i], spikes[k].q, fired);
      }
    }
    std::copy_n(paid, kChunk, sent + j);
    copy(sum, here, slab + j);
  }
}

// The spikes from .. end - 1, all of what `value` holds: together those of one slab, as many as fit in registers.
template <bool partial>
void fire(const Spike* from, const Spike* end, const float* value, float* sent, std::size_t size, float* const* slabs,
          std::size_t at) {
  const auto taken = [value](std::size_t j) { return value[j]; };
  while (from < end) {
    float* slab = slabs[from->slab] + at;
    std::ptrdiff_t n = 1;
    while (n < 4 && from + n < end && !from[n].begins) ++n;
    const auto send = [&](auto begins) {
      constexpr bool first = decltype(begins)::value;
      if (n == 1) fire_one<partial, first>(from, taken, sent, size, slab);
      if (n == 2) fire_some<partial, first, 2>(from, value, sent, size, slab);
      if (n == 3) fire_some<partial, first, 3>(from, value, sent, size, slab);
      if (n == 4) fire_some<partial, first, 4>(from, value, sent, size, slab);
    };
    from->begins ? send(std::true_type()) : send(std::false_type());
    from += n;
  }
}

// The spikes of a rounded target at once (see `Coding::top`), of what `value` holds of it; `sent` is what those before
// sent, whose weighted sum is in the first slab, unless there are none: `alone`. Those behind the first slab are the
// number's last digits in base 3.
template <bool partial>
void fire_number(const Coding& coding, const float* value, const float* sent, bool alone, std::size_t size,
                 float* const* slabs, std::size_t at) {
  constexpr float shift = 12582912.0f;  // 1.5 * 2^23: what is added to it becomes a whole number, halves an even one
  constexpr float third = 1.0f / 3;
  const float each = coding.bursts ? 2.0f : 1.0f, top = each * coding.top, bottom = -top;
  float* head = slabs[0] + at;
  float number[kChunk];
  for (std::size_t j = 0; j < size; j += kChunk) {
    const std::size_t here = std::min(kChunk, size - j);
#pragma omp simd
    for (std::size_t i = 0; i < here; ++i) {
      const float v = rest<partial>(value[j + i], sent[j + i]);
      const float raised = v < bottom ? bottom : v, cut = raised > top ? top : raised;
      number[i] = (cut + shift) - shift;
    }
    float most = top;
    for (int slab = coding.slabs_out() - 1; slab > 0; --slab) {
      float* digit = slabs[slab] + at + j;
      most = (most - each) / 3;
#pragma omp simd
      for (std::size_t i = 0; i < here; ++i) {
        const float nearest = (number[i] * third + shift) - shift, raised = nearest < -most ? -most : nearest;
        const float higher = raised > most ? most : raised;
        digit[i] = number[i] - 3.0f * higher;
        number[i] = higher;
      }
    }
#pragma omp simd
    for (std::size_t i = 0; i < here; ++i) head[j + i] = alone ? number[i] : head[j + i] + number[i];
  }
}

// What arrives at step t, which is the first received or a later one; the first is a sum, formed in `sum` if it has to be.
template <class F, class Currents>
const float* arriving(const Coding& coding, const Block<F, Currents>& block, int input, int t, float* sum) {
  const auto slab = [&](int index) {
    const float* z = block.currents(input, index);
    if constexpr (!F::window) fetch(z + block.in, block.in);
    return z;
  };
  if (t > coding.received() || coding.reads == coding.received()) return slab(t - coding.reads);
  add(slab(0), coding.merged[static_cast<std::size_t>(coding.reads) - 1], true, block.in, sum);
  for (int step = coding.reads; step < t; ++step)
    add(slab(step - coding.reads + 1), coding.merged[static_cast<std::size_t>(step)], false, block.in, sum);
  return sum;
}

// A step of a block's membranes, and what an element is to send in all after it.
template <class F>
struct Step {
  F f;
  float q, most;
  const float *before[2], *z[2];
  float* membrane[2];
  const float *parameter[2], *theta;

  float receive(int i, std::size_t j) const { return membrane[i][j] = before[i][j] + z[i][j] * q; }

  float operator()(std::size_t j) const {
    const float *a = parameter[0], *b = parameter[1];
    const float h = receive(0, j), g = F::inputs > 1 ? receive(1, j) : 0;
    const float y = f(h, g, F::parameters > 0 ? a[j] : 0, F::parameters > 1 ? b[j] : 0);
    return cut(F::homogeneous ? y : y / theta[j], most);
  }
};

// Recurrence of csscc.coding.oracle.tsa on one block. `scratch` holds 4 * whole_chunks(max(in, out)) floats.
template <class F, class Currents>
void tsa(const F& f, const Coding& coding, const Block<F, Currents>& block, float* scratch) {
  const std::size_t in = block.in, out = block.out, space = whole_chunks(std::max(in, out));
  float* membrane[2] = {scratch, scratch + space};
  float* sent = scratch + 2 * space;
  float* value = scratch + 3 * space;
  const bool number = coding.top > 0 && block.residual == nullptr;
  std::fill_n(sent, out, 0.0f);
  const Spike* next = coding.spikes.data();
  const Spike* const last = next + coding.T() - 1;
  for (int t = coding.received(); t <= coding.T(); ++t) {
    Step<F> step{f,  coding.q(t), coding.most, {}, {}, {membrane[0], membrane[1]},
                 {block.parameter[0], block.parameter[1]}, block.theta};
    for (int i = 0; i < F::inputs; ++i) {
      step.before[i] = t == coding.received() ? block.bias[i] : membrane[i];
      step.z[i] = arriving(coding, block, i, t, membrane[i]);
    }
    const Spike* const end = t == coding.T() ? last + 1 : next + (t > coding.silent);  // of those decided now
    const bool ends = t == coding.T(), rounds = ends && coding.rounded, shown = ends && block.residual != nullptr;
    if constexpr (!F::window) {
      if (end == next + 1 && !shown && !rounds) {
        const auto one = next->begins ? fire_one<F::partial, true, Step<F>> : fire_one<F::partial, false, Step<F>>;
        one(next, step, sent, out, block.slabs[next->slab] + block.at);
        next = end;
        continue;
      }
    }
    if (F::window || next == end) {
      for (int i = 0; i < F::inputs; ++i) {
#pragma omp simd
        for (std::size_t j = 0; j < in; ++j) step.receive(i, j);
      }
    }
    if (next == end) continue;
    if constexpr (F::window) {
      f(membrane[0], value);
      for (std::size_t j = 0; j < out; ++j) value[j] = cut(value[j], coding.most);
    } else {
#pragma omp simd
      for (std::size_t j = 0; j < in; ++j) value[j] = step(j);
    }
    if (rounds && number) {
      fire_number<F::partial>(coding, value, sent, next == coding.spikes.data(), out, block.slabs, block.at);
      return;
    }
    float* before = membrane[0];  // which nothing reads any more
    if (shown) std::copy_n(value, out, block.residual);
    if (rounds) {
#pragma omp simd
      for (std::size_t j = 0; j < out; ++j) {
        const float o = rest<F::partial>(value[j], sent[j]);
        value[j] = std::rint(o) * 0.5f + o * 0.5f;
        before[j] = sent[j];
        sent[j] = 0;
      }
    }
    fire<F::partial>(next, end, value, sent, out, block.slabs, block.at);
    if (shown) {
#pragma omp simd
      for (std::size_t j = 0; j < out; ++j)
        block.residual[j] = rest<F::partial>(block.residual[j], rounds ? before[j] + sent[j] : sent[j]);
    }
    next = end;
  }
}

// Recurrence of csscc.coding.oracle.encode on `size` elements; `potential` is scratch of that size.
inline void encode(const Coding& coding, const float* x, const float* theta, std::size_t size, float* const* slabs,
                   std::size_t at, float* potential) {
#pragma omp simd
  for (std::size_t j = 0; j < size; ++j) potential[j] = cut(x[j] / theta[j], coding.most);
  double levels = 0;
  for (const Spike& spike : coding.spikes) levels += spike.q;
  const float part = static_cast<float>(1.0 / levels);
  for (const Spike& spike : coding.spikes) {
    float* slab = slabs[spike.slab] + at;
    if (spike.begins) std::fill_n(slab, size, 0.0f);
    if (coding.constant) {
#pragma omp simd
      for (std::size_t j = 0; j < size; ++j) slab[j] = slab[j] + potential[j] * part * spike.weight;
    } else {
#pragma omp simd
      for (std::size_t j = 0; j < size; ++j) {
        const float sent = spike.fire(potential[j]);
        slab[j] = slab[j] + spike.weight * sent;
        potential[j] = potential[j] - spike.q * sent;
      }
    }
  }
}

}  // namespace csscc
