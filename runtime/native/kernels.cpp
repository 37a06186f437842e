// The csscc operators as onnxruntime custom operators: same domain, names and spikes as the functions in the file.
//
// Time is folded into the batch, so the slabs of an element lie far apart. A kernel goes through memory once, in
// blocks small enough that membranes stay in the first-level cache, and onnxruntime's threads share the blocks.

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>

#include "neuron.h"
#include "ort_abi.h"

namespace csscc {
namespace {

using Dims = std::vector<int64_t>;

const ort::Api* api = nullptr;

constexpr int kDomainVersion = 9;        // in which units a node's currents are, see docs/format.md
constexpr int kStepsDomainVersion = 8;
constexpr std::size_t kBlock = 512;      // elements of one recurrence
constexpr std::size_t kTask = 16;        // blocks of one task for the thread pool
constexpr std::size_t kStrip = 1 << 14;  // elements that come into one recurrence with windows, about
constexpr std::size_t kMostSteps = 512;  // coding steps, as csscc.limits has it
constexpr int64_t kLargest = 1 << 30;    // of a window's numbers, so that no sum of products of them overflows

void check(ort::Status* status) {
  if (status == nullptr) return;
  const std::string message = api->message(status);
  api->release(status);
  throw std::runtime_error(message);
}

template <class Call>
ort::Status* guarded(Call&& call) {
  try {
    call();
    return nullptr;
  } catch (const std::exception& error) {
    return api->create_status(ort::kFail, error.what());
  }
}

std::size_t product(const Dims& dims, std::size_t from = 0) {
  std::size_t total = 1;
  for (std::size_t i = from; i < dims.size(); ++i) total *= static_cast<std::size_t>(dims[i]);
  return total;
}

// ---- attributes

template <class Value>
Value attribute(const ort::KernelInfo* info, const char* name, Value otherwise) {
  Value value = otherwise;
  if (ort::Status* missing = api->attribute(info, name, &value)) {
    api->release(missing);
    return otherwise;
  }
  return value;
}

template <class Value>
std::vector<Value> attributes(const ort::KernelInfo* info, const char* name, std::vector<Value> otherwise = {}) {
  std::size_t size = 0;
  if (ort::Status* missing = api->attributes(info, name, static_cast<Value*>(nullptr), &size)) {
    api->release(missing);
    return otherwise;
  }
  std::vector<Value> values(size);
  check(api->attributes(info, name, values.data(), &size));
  return values;
}

std::string text(const ort::KernelInfo* info, const char* name) {
  std::size_t size = 0;
  if (ort::Status* missing = api->attribute(info, name, nullptr, &size)) {
    api->release(missing);
    return "";
  }
  std::string value(size, '\0');
  check(api->attribute(info, name, value.data(), &size));
  return value.c_str();
}

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(std::string("a csscc node has an attribute that cannot be: ") + what);
}

// A count that an attribute states, within bounds: it comes as 64 bits and is kept as 32.
int count(const ort::KernelInfo* info, const char* name, int64_t otherwise, std::size_t most) {
  const int64_t value = attribute<int64_t>(info, name, otherwise);
  require(0 <= value && value <= static_cast<int64_t>(most), name);
  return static_cast<int>(value);
}

// Channels that lie side by side.
std::size_t lanes_of(const ort::KernelInfo* info) {
  const int64_t lanes = attribute<int64_t>(info, "lanes", 1);
  require(lanes == 1 || lanes == 8 || lanes == 16, "channels come in blocks of 8 or 16");
  return static_cast<std::size_t>(lanes);
}

bool all(const std::vector<float>& values, bool (*holds)(float)) {
  return std::all_of(values.begin(), values.end(), holds);
}

// See `Coding::top`: the sum of the spikes from `shared` on, if they are digits that can be told from their number.
float top_of(const Coding& coding, std::size_t shared) {
  const std::size_t T = coding.spikes.size(), summed = coding.sends.size();
  const float base = T > 1 ? coding.q(static_cast<int>(T) - 1) : 3.0f;
  if (summed <= shared || (base != 3.0f && summed < T)) return 0.0f;
  float q = 1.0f, top = 0.0f;
  for (std::size_t k = T; k-- > shared; q *= base) {
    if (coding.spikes[k].q != q || (k < summed && coding.spikes[k].weight * coding.q(static_cast<int>(summed)) != q))
      return 0.0f;
    top += q;
  }
  return top < 1 << 21 ? top : 0.0f;
}

Coding coding_of(const ort::KernelInfo* info) {
  const bool negative = attribute<int64_t>(info, "negative", 1) != 0;
  const auto positive = [](float q) { return std::isfinite(q) && q > 0; };
  const auto finite = [](float q) { return std::isfinite(q); };
  const std::vector<float> weights = attributes<float>(info, "weights"), given = attributes<float>(info, "thresholds", {});
  require(!weights.empty() && weights.size() <= kMostSteps && all(weights, positive), "it needs one weight a step, positive, 512 at most");
  require(given.empty() || (given.size() == weights.size() && all(given, positive)), "thresholds, one a step, positive");
  Coding coding;
  coding.bursts = attribute<int64_t>(info, "burst", 0) != 0;
  require(negative || !coding.bursts, "bursts without negative spikes");
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const float threshold = given.empty() ? weights[k] / 2 : given[k];
    coding.spikes.emplace_back(weights[k], threshold, negative);
    if (coding.bursts) coding.spikes.back().burst(threshold);
  }
  coding.silent = count(info, "silent", 0, weights.size());
  coding.rounded = attribute<int64_t>(info, "rounded", 0) != 0;
  coding.constant = attribute<int64_t>(info, "constant", 0) != 0;
  coding.most = attribute<float>(info, "most", coding.most);
  coding.merged = attributes<float>(info, "merged", {1.0f});
  coding.reads = count(info, "reads", 1, weights.size());
  coding.sends = attributes<float>(info, "sends", {1.0f});
  require(coding.most >= 0, "most, which is negative or no number");
  require(coding.merged.size() <= weights.size(), "more merged steps than there are");
  require(!coding.merged.empty() && all(coding.merged, finite) && coding.merged.back() == 1.0f,
          "merged, finite numbers of which the last is 1");
  require(!coding.sends.empty() && coding.sends.size() <= weights.size() && all(coding.sends, finite) &&
              coding.sends.back() == 1.0f,
          "sends, one to T finite numbers of which the last is 1");
  require(coding.reads >= 1 && coding.reads <= coding.received(), "reads, which is none of the merged steps");
  const std::size_t summed = coding.sends.size();
  for (std::size_t k = 0; k < coding.spikes.size(); ++k) {
    Spike& spike = coding.spikes[k];
    spike.slab = k < summed ? 0 : static_cast<int>(k - summed + 1);
    spike.weight = k < summed ? coding.sends[k] : 1.0f;
    spike.begins = k == 0 || k >= summed;
  }
  const int shared = std::max(coding.T() - coding.silent - 1, 0);  // the first spike decided behind the last input
  if (coding.rounded) coding.top = top_of(coding, static_cast<std::size_t>(shared));
  return coding;
}

// ---- tensors

struct Tensor {
  const float* data = nullptr;
  Dims dims;
};

Tensor input(const ort::KernelContext* context, std::size_t index) {
  std::size_t count = 0;
  check(api->input_count(context, &count));
  const ort::Value* value = nullptr;
  if (index < count) check(api->input(context, index, &value));
  Tensor tensor;
  if (value == nullptr) return tensor;  // has no data, which its reader must see to
  ort::ShapeInfo* info = nullptr;
  check(api->shape_info(value, &info));
  std::size_t rank = 0;
  ort::Status* status = api->rank(info, &rank);
  if (status == nullptr) {
    tensor.dims.resize(rank);
    status = api->dimensions(info, tensor.dims.data(), rank);
  }
  api->release(info);
  check(status);
  void* data = nullptr;
  check(api->data(const_cast<ort::Value*>(value), &data));
  tensor.data = static_cast<const float*>(data);
  return tensor;
}

float* output(ort::KernelContext* context, std::size_t index, const Dims& dims) {
  std::size_t count = 0;
  check(api->output_count(context, &count));
  if (index >= count) return nullptr;
  ort::Value* value = nullptr;
  check(api->output(context, index, dims.data(), dims.size(), &value));
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  check(api->data(value, &data));
  return static_cast<float*>(data);
}

// The same where there has to be one, with a batch axis.
Tensor batch_input(const ort::KernelContext* context, std::size_t index) {
  const Tensor tensor = input(context, index);
  if (tensor.data == nullptr && tensor.dims.empty()) throw std::runtime_error("an input of a csscc node is missing");
  if (tensor.dims.empty()) throw std::runtime_error("an input of a csscc node has no batch");
  return tensor;
}

// A tensor read as if broadcast to the shape behind the batch axis: element p of sample b is
// data[b * sample + p / repeat % count]. Where channels come in blocks (see csscc.passes.lower.nchwc) it is
// data[p / (repeat * lanes) * lanes + p % lanes].
class Operand {
 public:
  Operand() = default;
  explicit Operand(float scalar) : owned_{scalar} { data_ = owned_.data(); }

  // `batched` says that the first axis is the batch; the other axes are aligned at the right.
  Operand(const Tensor& tensor, const Dims& shape, std::size_t batch, bool batched, std::size_t lanes = 1)
      : data_(tensor.data), lanes_(lanes) {
    if (tensor.data == nullptr && tensor.dims.empty()) throw std::runtime_error("an input of a csscc node is missing");
    Dims dims = tensor.dims;
    if (batched || dims.size() > shape.size()) {
      if (dims.size() != shape.size() + 1) throw std::runtime_error("the inputs of a csscc node differ in rank");
      const bool each = batched || dims[0] != 1;
      if (each && dims[0] != static_cast<int64_t>(batch))
        throw std::runtime_error("the inputs of a csscc node differ in their batch");
      dims.erase(dims.begin());
      if (each) sample_ = product(dims);
    }
    dims.insert(dims.begin(), shape.size() - dims.size(), 1);
    std::size_t first = dims.size(), last = 0;
    for (std::size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] != 1 && dims[i] != shape[i]) throw std::runtime_error("an input of a csscc node does not broadcast");
      if (dims[i] == 1) continue;
      first = std::min(first, i);
      last = i + 1;
    }
    for (std::size_t i = first; i < last; ++i) count_ *= static_cast<std::size_t>(shape[i]);
    if (first < last) repeat_ = product(shape, last);
    if (lanes > 1 && repeat_ > 1 && count_ % lanes != 0)
      throw std::runtime_error("channels of a csscc node do not fill their blocks");
    if (first < last && count_ != product(dims)) write_out(dims, shape, sample_ ? tensor.dims[0] : 1);
  }

  // Elements p .. p + n of sample b, in place or in `scratch`.
  const float* at(std::size_t b, std::size_t p, std::size_t n, float* scratch) const {
    const float* from = data_ + b * sample_;
    if (count_ == 1) {
      std::fill_n(scratch, n, from[0]);
      return scratch;
    }
    if (repeat_ == 1 && p % count_ + n <= count_) return from + p % count_;
    if (lanes_ > 1 && repeat_ > 1) {
      lanes_ == 16 ? blocks<16>(from, p, n, scratch) : blocks<8>(from, p, n, scratch);
      return scratch;
    }
    for (std::size_t done = 0; done < n;) {
      const std::size_t run = std::min(repeat_ - (p + done) % repeat_, n - done);
      std::fill_n(scratch + done, run, from[(p + done) / repeat_ % count_]);
      done += run;
    }
    return scratch;
  }

 private:
  // Both p and n are whole positions, since blocks of elements are.
  template <std::size_t lanes>
  void blocks(const float* from, std::size_t p, std::size_t n, float* scratch) const {
    for (std::size_t j = 0; j < n; j += lanes) {
      const float* channels = from + (p + j) / (repeat_ * lanes) * lanes;
      for (std::size_t k = 0; k < lanes; ++k) scratch[j + k] = channels[k];
    }
  }

  // Axes that repeat lie between others, as in a mask that is the same for all heads but not for all samples.
  void write_out(const Dims& dims, const Dims& shape, int64_t samples) {
    if (lanes_ > 1) throw std::runtime_error("an input of a csscc node has gaps");
    const std::size_t size = product(shape), own = product(dims);
    owned_.resize(static_cast<std::size_t>(samples) * size);
    for (std::size_t i = 0; i < owned_.size(); ++i) {
      std::size_t left = i % size, step = 1, from = i / size * own;
      for (std::size_t axis = dims.size(); axis-- > 0;) {
        const auto length = static_cast<std::size_t>(shape[axis]);
        if (dims[axis] != 1) {
          from += left % length * step;
          step *= length;
        }
        left /= length;
      }
      owned_[i] = data_[from];
    }
    data_ = owned_.data();
    sample_ = sample_ ? size : 0;
    repeat_ = 1;
    count_ = size;
  }

  std::vector<float> owned_;
  const float* data_ = nullptr;
  std::size_t sample_ = 0, repeat_ = 1, count_ = 1, lanes_ = 1;
};

float* scratch(std::size_t size) {
  thread_local std::vector<float> memory;
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

template <class Task>
void parallel(const ort::KernelContext* context, std::size_t tasks, const Task& task) {
  const auto call = [](void* argument, std::size_t index) { (*static_cast<const Task*>(argument))(index); };
  if (tasks == 1) {
    task(0);
  } else if (tasks > 1) {
    check(api->parallel_for(context, call, tasks, tasks, const_cast<Task*>(&task)));
  }
}

// ---- windows

// Max over windows of the axes behind the channel, one axis after the other: exact, since max does not round.
struct MaxPool : Elementwise {
  static constexpr bool window = true;
  Dims kernel, strides, dilations, pads;
  std::string auto_pad;
  bool ceil = false, whole = false, relu = false;
  Dims in, out;           // spatial, of the input at hand
  std::size_t lanes = 1;  // channels that lie side by side at each position

  void read(const ort::KernelInfo* info) {
    kernel = attributes<int64_t>(info, "kernel_shape");
    strides = attributes<int64_t>(info, "strides");
    dilations = attributes<int64_t>(info, "dilations");
    pads = attributes<int64_t>(info, "pads");
    auto_pad = text(info, "auto_pad");
    ceil = attribute<int64_t>(info, "ceil_mode", 0) != 0;
    const auto within = [](const Dims& values, int64_t least) {
      return std::all_of(values.begin(), values.end(), [=](int64_t v) { return v >= least && v <= kLargest; });
    };
    require(whole || !kernel.empty(), "kernel_shape, which is not stated");
    require(within(kernel, 1), "kernel_shape");
    require(within(strides, 1), "strides");
    require(within(dilations, 1), "dilations");
    require(within(pads, 0), "pads");
    require(auto_pad.empty() || auto_pad == "NOTSET" || auto_pad == "VALID" || auto_pad == "SAME_UPPER" ||
                auto_pad == "SAME_LOWER",
            "auto_pad");
  }

  // The pool for an input of these spatial dimensions.
  MaxPool sized(const Dims& spatial, std::size_t lanes) const {
    MaxPool pool = *this;
    pool.lanes = lanes;
    const std::size_t n = spatial.size();
    if (whole) pool.kernel = spatial;
    const auto fill = [](Dims* values, std::size_t size, int64_t usual) {
      require(values->empty() || values->size() == size, "a window's, which has not one number an axis");
      values->resize(size, usual);
    };
    fill(&pool.kernel, n, 0);
    fill(&pool.strides, n, 1);
    fill(&pool.dilations, n, 1);
    fill(&pool.pads, 2 * n, 0);
    for (std::size_t i = 0; i < 2 * n; ++i)
      require(pool.pads[i] < pool.kernel[i % n] || pool.pads[i] == 0, "pads, which are no smaller than the window");
    pool.in = pool.out = spatial;
    for (std::size_t i = 0; i < n; ++i) pool.out[i] = pool.size(i);
    return pool;
  }

  // The pool of output lines first .. last of the first axis alone; `from` is the input line it begins at.
  MaxPool strip(int64_t first, int64_t last, int64_t* from) const {
    MaxPool part = *this;
    const int64_t start = first * strides[0] - pads[0];
    const int64_t end = (last - 1) * strides[0] - pads[0] + (kernel[0] - 1) * dilations[0] + 1;
    *from = std::max<int64_t>(0, std::min(start, in[0]));
    part.in[0] = std::max<int64_t>(0, std::min(end, in[0]) - *from);
    part.out[0] = last - first;
    part.pads[0] = *from - start;
    return part;
  }

  void operator()(const float* plane, float* result) const {
    thread_local std::vector<float> one, two;
    std::vector<float>* target = &one;
    const float* from = plane;
    std::size_t outer = 1;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const std::size_t inner = product(in, i + 1) * lanes, made = static_cast<std::size_t>(out[i]);
      float* to = result;
      if (i + 1 < in.size()) {
        target->resize(outer * made * inner);
        to = target->data();
        target = target == &one ? &two : &one;
      }
      axis(i, from, to, outer, inner);
      outer *= made;
      from = to;
    }
    if (relu) {
      const std::size_t n = product(out) * lanes;
#pragma omp simd
      for (std::size_t j = 0; j < n; ++j) result[j] = result[j] <= 0 ? 0.0f : result[j];
    }
  }

 private:
  int64_t size(std::size_t i) {
    const std::size_t n = in.size();
    const int64_t reach = (kernel[i] - 1) * dilations[i] + 1;
    if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      const int64_t made = (in[i] + strides[i] - 1) / strides[i];
      const int64_t missing = std::max<int64_t>(0, (made - 1) * strides[i] + reach - in[i]);
      pads[i] = auto_pad == "SAME_UPPER" ? missing / 2 : missing - missing / 2;
      pads[n + i] = missing - pads[i];
      return made;
    }
    if (auto_pad == "VALID") pads[i] = pads[n + i] = 0;
    const int64_t free = in[i] + pads[i] + pads[n + i] - reach;
    if (free < 0) throw std::runtime_error("the window of a MaxPool is larger than its input");
    int64_t made = (ceil ? free + strides[i] - 1 : free) / strides[i] + 1;
    if (ceil && (made - 1) * strides[i] >= in[i] + pads[i]) --made;  // no window begins behind the input
    return made;
  }

  void axis(std::size_t i, const float* from, float* to, std::size_t outer, std::size_t inner) const {
    for (std::size_t o = 0; o < outer; ++o) {
      if (inner == 1) {
        line(i, from, to);
      } else {
        rows(i, from, to, inner);
      }
      from += static_cast<std::size_t>(in[i]) * inner;
      to += static_cast<std::size_t>(out[i]) * inner;
    }
  }

  // Windows over an axis whose elements are `inner` numbers in a row.
  void rows(std::size_t i, const float* from, float* to, std::size_t inner) const {
    for (int64_t w = 0; w < out[i]; ++w, to += inner) {
      std::fill_n(to, inner, std::numeric_limits<float>::lowest());
      for (int64_t k = 0; k < kernel[i]; ++k) {
        const int64_t at = w * strides[i] - pads[i] + k * dilations[i];
        if (at < 0 || at >= in[i]) continue;
        const float* row = from + static_cast<std::size_t>(at) * inner;
#pragma omp simd
        for (std::size_t j = 0; j < inner; ++j) to[j] = row[j] > to[j] ? row[j] : to[j];
      }
    }
  }

  // The same for few numbers in a row, which stay in registers.
  template <std::size_t inner>
  void positions(std::size_t i, const float* from, float* to) const {
    for (int64_t w = 0; w < out[i]; ++w, to += inner) {
      float most[inner];
      for (std::size_t j = 0; j < inner; ++j) most[j] = std::numeric_limits<float>::lowest();
      for (int64_t k = 0; k < kernel[i]; ++k) {
        const int64_t at = w * strides[i] - pads[i] + k * dilations[i];
        if (at < 0 || at >= in[i]) continue;
        const float* row = from + static_cast<std::size_t>(at) * inner;
        for (std::size_t j = 0; j < inner; ++j) most[j] = row[j] > most[j] ? row[j] : most[j];
      }
      for (std::size_t j = 0; j < inner; ++j) to[j] = most[j];
    }
  }

  // Windows over the last axis, all of them together, one element of the window at a time.
  void line(std::size_t i, const float* from, float* to) const {
    const int64_t step = strides[i], gap = dilations[i];
    std::fill_n(to, out[i], std::numeric_limits<float>::lowest());
    for (int64_t k = 0; k < kernel[i]; ++k) {
      const int64_t offset = k * gap - pads[i];  // of the element that window 0 takes
      const int64_t first = offset < 0 ? (-offset + step - 1) / step : 0;
      const int64_t last = std::min(out[i], in[i] > offset ? (in[i] - 1 - offset) / step + 1 : 0);
      const float* row = from + offset;
      if (step == 1) {
        take<1>(row, to, first, last);
      } else if (step == 2) {
        take<2>(row, to, first, last);
      } else {
        for (int64_t w = first; w < last; ++w) to[w] = row[w * step] > to[w] ? row[w * step] : to[w];
      }
    }
  }

  template <int64_t step>
  static void take(const float* row, float* to, int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t w = first; w < last; ++w) to[w] = row[w * step] > to[w] ? row[w * step] : to[w];
  }
};

struct GlobalMaxPool : MaxPool {
  GlobalMaxPool() { whole = true; }
};
struct ReluMaxPool : MaxPool {
  ReluMaxPool() { relu = true; }
};

// ---- kernels

struct Kernel {
  virtual ~Kernel() = default;
  virtual void compute(ort::KernelContext* context) const = 0;
};

// Calls `task(sample, first element in it, elements)` for all blocks of `samples` times `size` elements.
template <class Task>
void each_block(const ort::KernelContext* context, std::size_t samples, std::size_t size, const Task& task) {
  const std::size_t each = (size + kBlock - 1) / kBlock, total = samples * each;
  parallel(context, (total + kTask - 1) / kTask, [&](std::size_t index) {
    for (std::size_t i = index * kTask; i < std::min(total, (index + 1) * kTask); ++i) {
      const std::size_t p = i % each * kBlock;
      task(i / each, p, std::min(kBlock, size - p));
    }
  });
}

// The shape of one slab of a tensor that holds `count` of them.
Dims batch_of(Dims dims, int count) {
  if (dims.empty() || dims[0] % count != 0)
    throw std::runtime_error("the first axis of a csscc node's input is no multiple of T - reads + 1");
  dims[0] /= count;
  return dims;
}

// Where the slabs of a tensor begin whose first axis holds `count` times a batch.
template <class Value>
std::vector<Value*> slabs_of(Value* data, int count, std::size_t size) {
  std::vector<Value*> slabs;
  for (int i = 0; i < count; ++i) slabs.push_back(data + static_cast<std::size_t>(i) * size);
  return slabs;
}

class Encode : public Kernel {
 public:
  explicit Encode(const ort::KernelInfo* info) : coding_(coding_of(info)) {}

  void compute(ort::KernelContext* context) const override {
    const Tensor x = batch_input(context, 0);
    const Dims rest(x.dims.begin() + 1, x.dims.end());
    const auto batch = static_cast<std::size_t>(x.dims[0]);
    const Operand theta(input(context, 1), rest, batch, false);
    Dims dims = x.dims;
    dims[0] *= coding_.slabs_out();
    const auto slabs = slabs_of(output(context, 0, dims), coding_.slabs_out(), product(x.dims));
    const std::size_t size = product(rest);
    each_block(context, batch, size, [&](std::size_t b, std::size_t p, std::size_t n) {
      float* space = scratch(2 * kBlock);
      const std::size_t at = b * size + p;
      encode(coding_, x.data + at, theta.at(b, p, n, space + kBlock), n, slabs.data(), at, space);
    });
  }

 private:
  Coding coding_;
};

// More of a train's first steps in one slab: for those who receive them as one sum.
class Merge : public Kernel {
 public:
  explicit Merge(const ort::KernelInfo* info) : coding_(coding_of(info)) {}

  void compute(ort::KernelContext* context) const override {
    const Tensor train = batch_input(context, 0);
    const int count = coding_.slabs_in(), sum = coding_.received() - coding_.reads, made = count - sum;
    Dims dims = batch_of(train.dims, count);
    const std::size_t size = product(dims);
    dims[0] *= made;
    const auto from = slabs_of(train.data, count, size);
    const auto to = slabs_of(output(context, 0, dims), made, size);
    each_block(context, 1, size, [&](std::size_t, std::size_t p, std::size_t n) {
      for (int i = 0; i <= sum; ++i)
        add(from[i] + p, coding_.merged[static_cast<std::size_t>(coding_.reads + i) - 1], i == 0, n, to[0] + p);
      for (int i = 1; i < made; ++i) std::copy_n(from[sum + i] + p, n, to[i] + p);
    });
  }

 private:
  Coding coding_;
};

template <class F>
void configure(F&, const ort::KernelInfo*) {}
void configure(LeakyRelu& f, const ort::KernelInfo* info) { f.alpha = attribute(info, "alpha", f.alpha); }
void configure(ThresholdedRelu& f, const ort::KernelInfo* info) { f.alpha = attribute(info, "alpha", f.alpha); }
void configure(HardSigmoid& f, const ort::KernelInfo* info) {
  f.alpha = attribute(info, "alpha", f.alpha);
  f.beta = attribute(info, "beta", f.beta);
}
void configure(MaxPool& f, const ort::KernelInfo* info) { f.read(info); }
void configure(ReluMaxPool& f, const ort::KernelInfo* info) { f.read(info); }

// What stands for a parameter that a node leaves out.
template <class F>
float otherwise(int) {
  throw std::runtime_error("a parameter of a csscc node is missing");
}
template <>
float otherwise<Clip>(int index) {
  return index == 0 ? std::numeric_limits<float>::lowest() : std::numeric_limits<float>::max();
}

// Where an element of a plane stands in each slab.
struct PlaneOf {
  const std::vector<Tensor>& slabs;
  std::size_t from;

  const float* operator()(int, int slab) const { return slabs[static_cast<std::size_t>(slab)].data + from; }
};

// A neuron of a layer, whose tensors hold all slabs, or one in steps, with a tensor for each slab (see
// csscc.passes.lower.stepwise).
template <class F>
class Tsa : public Kernel {
 public:
  explicit Tsa(const ort::KernelInfo* info, bool stepped = false)
      : coding_(coding_of(info)), lanes_(lanes_of(info)), stepped_(stepped) {
    if (coding_.received() > coding_.silent + 1)
      throw std::runtime_error("a neuron fires before it received all merged steps");
    configure(f_, info);
  }

  void compute(ort::KernelContext* context) const override {
    std::vector<Tensor> z[2];
    Tensor bias[2];
    std::size_t index = 0;
    for (int i = 0; i < F::inputs; ++i) {
      z[i] = slabs(context, &index);
      bias[i] = input(context, index++);
    }
    const Tensor theta = input(context, index++);
    Tensor parameters[2];
    for (int i = 0; i < F::parameters; ++i) parameters[i] = input(context, index++);
    const auto batch = static_cast<std::size_t>(z[0][0].dims[0]);
    const Dims rest(z[0][0].dims.begin() + 1, z[0][0].dims.end());
    if constexpr (F::window) {
      if (rest.size() < 2) throw std::runtime_error("a MaxPool needs spatial axes");
      windows(context, z[0], Operand(bias[0], rest, batch, false, lanes_), batch, rest);
    } else {
      elements(context, z, bias, theta, parameters, batch, rest);
    }
  }

 private:
  // The tensors of each slab from input `*index` on, which is moved behind them.
  std::vector<Tensor> slabs(const ort::KernelContext* context, std::size_t* index) const {
    const int count = coding_.slabs_in();
    std::vector<Tensor> made;
    if (stepped_) {
      for (int i = 0; i < count; ++i) made.push_back(batch_input(context, (*index)++));
      for (const Tensor& slab : made)
        if (slab.dims != made[0].dims) throw std::runtime_error("the slabs of a csscc node's input differ in shape");
      return made;
    }
    const Tensor whole = batch_input(context, (*index)++);
    const Dims dims = batch_of(whole.dims, count);
    for (const float* data : slabs_of(whole.data, count, product(dims))) made.push_back({data, dims});
    return made;
  }

  // Let a shape broadcast to another, whose axes are aligned at the right.
  static void widen(Dims& shape, const Dims& other) {
    if (other.size() > shape.size()) return;  // the batch axis is there too, or the operand will say what is wrong
    const std::size_t first = shape.size() - other.size();
    for (std::size_t i = 0; i < other.size(); ++i)
      if (shape[first + i] == 1) shape[first + i] = other[i];
  }

  void elements(ort::KernelContext* context, const std::vector<Tensor>* z, const Tensor* bias,
                const Tensor& given_theta, const Tensor* given, std::size_t batch, Dims rest) const {
    if (F::inputs == 2) {
      const Dims& other = z[1][0].dims;
      if (other.size() != rest.size() + 1) throw std::runtime_error("the inputs of a csscc node differ in rank");
      widen(rest, Dims(other.begin() + 1, other.end()));
    }
    for (int i = 0; i < F::parameters; ++i) widen(rest, given[i].dims);
    const std::size_t size = product(rest);
    std::vector<Operand> currents[2];
    Operand biases[2], parameters[2];
    for (int i = 0; i < F::inputs; ++i) {
      for (const Tensor& slab : z[i]) currents[i].emplace_back(slab, rest, batch, true);
      biases[i] = Operand(bias[i], rest, batch, false, lanes_);
    }
    for (int i = 0; i < F::parameters; ++i)
      parameters[i] = given[i].data ? Operand(given[i], rest, batch, false, lanes_) : Operand(otherwise<F>(i));
    const Operand theta = F::homogeneous ? Operand() : Operand(given_theta, rest, batch, false, lanes_);
    float* residual = nullptr;
    const std::vector<float*> spikes = outputs(context, batch, rest, &residual);
    each_block(context, batch, size, [&](std::size_t b, std::size_t p, std::size_t n) {
      float* space = scratch(11 * kBlock);
      float* spare = space + 4 * kBlock;
      const auto current = [&](int k, int slab) {
        return currents[k][static_cast<std::size_t>(slab)].at(b, p, n, spare + k * kBlock);
      };
      Block<F, decltype(current)> block{current, {}, nullptr, {}, n, n, spikes.data(), b * size + p, nullptr};
      for (int k = 0; k < F::inputs; ++k) block.bias[k] = biases[k].at(b, p, n, spare + (2 + k) * kBlock);
      for (int k = 0; k < F::parameters; ++k)
        block.parameter[k] = parameters[k].at(b, p, n, spare + (4 + k) * kBlock);
      if (!F::homogeneous) block.theta = theta.at(b, p, n, spare + 6 * kBlock);
      if (residual) block.residual = residual + b * size + p;
      tsa(f_, coding_, block, space);
    });
  }

  // A plane is a channel, or a block of channels; it is done in strips, which share the lines that windows overlap in.
  void windows(ort::KernelContext* context, const std::vector<Tensor>& z, const Operand& bias, std::size_t batch,
               Dims rest) const {
    if (rest[0] % static_cast<int64_t>(lanes_) != 0)
      throw std::runtime_error("channels of a csscc node do not fill their blocks");
    const MaxPool pool = f_.sized(Dims(rest.begin() + 1, rest.end()), lanes_);
    const std::size_t in = product(pool.in) * lanes_, out = product(pool.out) * lanes_;
    const std::size_t line_in = product(pool.in, 1) * lanes_, line_out = product(pool.out, 1) * lanes_;
    const std::size_t channels = static_cast<std::size_t>(rest[0]) / lanes_;
    std::copy(pool.out.begin(), pool.out.end(), rest.begin() + 1);
    float* residual = nullptr;
    const std::vector<float*> spikes = outputs(context, batch, rest, &residual);

    struct Strip {
      MaxPool pool;
      std::size_t from, to;  // in elements of the plane
    };
    std::vector<Strip> strips;
    std::size_t space = 1;
    const std::size_t fresh = line_in * static_cast<std::size_t>(pool.strides[0]);  // that one more output line reads
    const auto lines = static_cast<int64_t>(std::max<std::size_t>(1, kStrip / std::max<std::size_t>(1, fresh)));
    for (int64_t first = 0; first < pool.out[0]; first += lines) {
      int64_t from = 0;
      MaxPool part = pool.strip(first, std::min(pool.out[0], first + lines), &from);
      space = std::max({space, whole_chunks(product(part.in) * lanes_), whole_chunks(product(part.out) * lanes_)});
      strips.push_back({part, static_cast<std::size_t>(from) * line_in, static_cast<std::size_t>(first) * line_out});
    }
    parallel(context, batch * channels * strips.size(), [&](std::size_t task) {
      const std::size_t plane = task / strips.size();
      const Strip& strip = strips[task % strips.size()];
      const std::size_t size = product(strip.pool.in) * lanes_, to = plane * out + strip.to;
      float* memory = scratch(5 * space);
      const PlaneOf current{z, plane * in + strip.from};
      Block<MaxPool, PlaneOf> block{current, {}, nullptr, {}, size, product(strip.pool.out) * lanes_,
                                              spikes.data(), to, residual ? residual + to : nullptr};
      block.bias[0] = bias.at(plane / channels, plane % channels * in + strip.from, size, memory + 4 * space);
      tsa(strip.pool, coding_, block, memory);
    });
  }

  // Where the spikes of each slab go.
  std::vector<float*> outputs(ort::KernelContext* context, std::size_t batch, const Dims& rest,
                              float** residual) const {
    const int count = coding_.slabs_out();
    Dims dims(1, static_cast<int64_t>(batch));
    dims.insert(dims.end(), rest.begin(), rest.end());
    if (stepped_) {
      std::vector<float*> spikes;
      for (int i = 0; i < count; ++i) spikes.push_back(output(context, static_cast<std::size_t>(i), dims));
      return spikes;
    }
    *residual = output(context, 1, dims);
    const std::size_t size = product(dims);
    dims[0] *= count;
    return slabs_of(output(context, 0, dims), count, size);
  }

  F f_;
  Coding coding_;
  std::size_t lanes_;
  bool stepped_;
};

template <class F>
struct Stepped : Tsa<F> {
  explicit Stepped(const ort::KernelInfo* info) : Tsa<F>(info, true) {}
};

// Product of spikes in blocks of channels with a factor a channel: a diagonal synapse (see csscc.passes.lower.nchwc).
class Scale : public Kernel {
 public:
  explicit Scale(const ort::KernelInfo* info) : lanes_(lanes_of(info)) {}

  void compute(ort::KernelContext* context) const override {
    const Tensor x = batch_input(context, 0);
    const Dims rest(x.dims.begin() + 1, x.dims.end());
    const auto batch = static_cast<std::size_t>(x.dims[0]);
    const Operand factor(input(context, 1), rest, batch, false, lanes_);
    float* y = output(context, 0, x.dims);
    const std::size_t size = product(rest);
    each_block(context, batch, size, [&](std::size_t b, std::size_t p, std::size_t n) {
      const float *from = x.data + b * size + p, *by = factor.at(b, p, n, scratch(kBlock));
      float* to = y + b * size + p;
#pragma omp simd
      for (std::size_t j = 0; j < n; ++j) to[j] = from[j] * by[j];
    });
  }

 private:
  std::size_t lanes_;
};

// ---- registration

struct Operator : ort::CustomOp {
  const char* op;
  std::size_t required, optional, results;
  std::unique_ptr<Kernel> (*make)(const ort::KernelInfo*);
};

const Operator& self(const ort::CustomOp* op) { return *static_cast<const Operator*>(op); }

// Whether a node's output has the shape of its input.
bool as_many_slabs(const ort::ShapeContext* context) {
  const ort::Attribute* found = nullptr;
  int64_t reads = 1;
  std::size_t bytes = 0, sends = sizeof(float);
  const auto there = [&](const char* name) {
    ort::Status* missing = api->inferred_attribute(context, name, &found);
    if (missing) api->release(missing);
    return missing == nullptr && found != nullptr;
  };
  if (there("reads")) check(api->read(found, ort::kInteger, &reads, sizeof reads, &bytes));
  if (there("sends")) {
    if (ort::Status* longer = api->read(found, ort::kFloats, nullptr, 0, &sends)) api->release(longer);
  }
  return static_cast<std::size_t>(reads) * sizeof(float) == sends;
}

template <class K>
Operator operator_of(const char* name, std::size_t required, std::size_t optional, std::size_t results, bool inplace) {
  Operator made{};
  made.op = name;
  made.required = required;
  made.optional = optional;
  made.results = results;
  made.make = [](const ort::KernelInfo* info) -> std::unique_ptr<Kernel> { return std::make_unique<K>(info); };
  made.version = ort::kApiVersion;
  made.name = [](const ort::CustomOp* op) { return self(op).op; };
  made.provider = [](const ort::CustomOp*) -> const char* { return nullptr; };
  made.input_type = [](const ort::CustomOp*, std::size_t) { return ort::kFloat; };
  made.input_count = [](const ort::CustomOp* op) { return self(op).required + self(op).optional; };
  made.output_type = made.input_type;
  made.output_count = [](const ort::CustomOp* op) { return self(op).results; };
  made.input_characteristic = [](const ort::CustomOp* op, std::size_t i) {
    return i < self(op).required ? ort::kRequired : ort::kOptional;
  };
  made.output_characteristic = [](const ort::CustomOp*, std::size_t i) {
    return i == 0 ? ort::kRequired : ort::kOptional;
  };
  made.input_memory = [](const ort::CustomOp*, std::size_t) { return ort::kDefaultMemory; };
  made.variadic_input_arity = [](const ort::CustomOp*) { return 1; };
  made.variadic_input_homogeneity = made.variadic_input_arity;
  made.variadic_output_arity = made.variadic_input_arity;
  made.variadic_output_homogeneity = made.variadic_input_arity;
  made.create_kernel_v2 = [](const ort::CustomOp* op, const ort::Api*, const ort::KernelInfo* info, void** kernel) {
    return guarded([&] { *kernel = self(op).make(info).release(); });
  };
  made.compute_v2 = [](void* kernel, ort::KernelContext* context) {
    return guarded([&] { static_cast<const Kernel*>(kernel)->compute(context); });
  };
  made.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  made.start_version = [](const ort::CustomOp*) { return kDomainVersion; };
  made.end_version = made.start_version;
  made.may_inplace = [](int**, int**) -> std::size_t { return 0; };
  made.alias = made.may_inplace;
  made.release_may_inplace = made.release_alias = [](int*, int*) {};
  if (inplace) {  // a slab is read before its place is written, if as many come in as go out
    made.infer_shape = [](const ort::CustomOp*, ort::ShapeContext* context) -> ort::Status* {
      if (!as_many_slabs(context)) return nullptr;  // not known
      ort::ShapeInfo* info = nullptr;
      ort::Status* status = api->inferred_input(context, 0, &info);
      std::size_t rank = 0;
      if (status == nullptr) status = api->rank(info, &rank);
      return status == nullptr && rank > 0 ? api->infer_output(context, 0, info) : status;  // 0: not known
    };
    made.may_inplace = [](int** inputs, int** outputs) -> std::size_t {
      static int zero[] = {0};
      *inputs = *outputs = zero;
      return 1;
    };
  }
  return made;
}

template <class F, bool stepped>
Operator neuron(const char* name) {
  // With parameters, the output may be larger than the input.
  const bool pointwise = F::inputs == 1 && F::parameters == 0 && !F::window;
  if (!stepped) return operator_of<Tsa<F>>(name, 2 * F::inputs + 1, F::parameters, 2, pointwise);
  Operator made = operator_of<Stepped<F>>(name, 1, 0, 1, false);  // as many inputs and outputs as slabs
  made.input_characteristic = [](const ort::CustomOp*, std::size_t) { return ort::kVariadic; };
  made.output_characteristic = made.input_characteristic;
  made.start_version = made.end_version = [](const ort::CustomOp*) { return kStepsDomainVersion; };
  return made;
}

// The operators of a network by layer, or the neurons of one in steps.
template <bool stepped>
const std::vector<Operator>& operators() {
  static const std::vector<Operator> all = [] {
    std::vector<Operator> made = {
        neuron<Linear, stepped>("TSALinear"),
        neuron<Relu, stepped>("TSARelu"),
        neuron<LeakyRelu, stepped>("TSALeakyRelu"),
        neuron<PRelu, stepped>("TSAPRelu"),
        neuron<Abs, stepped>("TSAAbs"),
        neuron<Max, stepped>("TSAMax"),
        neuron<Min, stepped>("TSAMin"),
        neuron<MaxPool, stepped>("TSAMaxPool"),
        neuron<GlobalMaxPool, stepped>("TSAGlobalMaxPool"),
        neuron<ReluMaxPool, stepped>("TSAReluMaxPool"),
        neuron<AtLeast, stepped>("TSAAtLeast"),
        neuron<AtMost, stepped>("TSAAtMost"),
        neuron<ThresholdedRelu, stepped>("TSAThresholdedRelu"),
        neuron<Clip, stepped>("TSAClip"),
        neuron<HardSigmoid, stepped>("TSAHardSigmoid"),
        neuron<HardSwish, stepped>("TSAHardSwish"),
        neuron<Sqrt, stepped>("TSASqrt"),
        neuron<DividedInto, stepped>("TSADividedInto"),
        neuron<Mul, stepped>("TSAMul"),
        neuron<Div, stepped>("TSADiv"),
    };
    if (!stepped) {
      made.push_back(operator_of<Encode>("Encode", 2, 0, 1, false));
      made.push_back(operator_of<Merge>("Merge", 1, 0, 1, false));
      made.push_back(operator_of<Scale>("Scale", 2, 0, 1, true));
    }
    return made;
  }();
  return all;
}

template <bool stepped>
ort::CustomOpDomain* domain(const char* name) {
  static ort::CustomOpDomain* const all = [name] {
    ort::CustomOpDomain* made = nullptr;
    check(api->create_domain(name, &made));
    for (const Operator& op : operators<stepped>()) check(api->add_operator(made, &op));
    return made;
  }();
  return all;
}

}  // namespace
}  // namespace csscc

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Names of the operators that have a kernel, separated by spaces.
EXPORT const char* csscc_operators() {
  static const std::string names = [] {
    std::string joined;
    for (const csscc::Operator& op : csscc::operators<false>()) joined += std::string(op.op) + " ";
    return joined;
  }();
  return names.c_str();
}

// What onnxruntime calls when the library is registered with a session's options.
EXPORT ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base) {
  using namespace csscc;
  const ort::Api* offered = base->get_api(ort::kApiVersion);
  if (offered == nullptr) {
    const std::string message = std::string("csscc's kernels need onnxruntime 1.18 or newer, not ") + base->version();
    return base->get_api(1)->create_status(ort::kFail, message.c_str());
  }
  api = offered;
  return guarded([&] {
    check(api->add_domain(options, domain<false>("csscc")));
    check(api->add_domain(options, domain<true>("csscc.steps")));
  });
}
