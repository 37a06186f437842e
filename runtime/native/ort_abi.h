// The part of onnxruntime's C interface that a custom operator needs.
//
// onnxruntime's header is in no Python package, so what is used of it is declared here. The interface is stable by
// contract: `OrtApi` is a table of function pointers that only grows, so an index never changes, and `OrtCustomOp`
// states in its first field up to which version of it the library filled it in. The indices are those of
// onnxruntime_c_api.h; tests/runtime/test_native.py calls every one of them in the onnxruntime that is installed.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t kApiVersion = 18;  // of onnxruntime 1.18: which completed OrtCustomOp

struct Status;
struct Value;
struct ShapeInfo;          // OrtTensorTypeAndShapeInfo
struct KernelInfo;
struct KernelContext;
struct ShapeContext;       // OrtShapeInferContext
struct Attribute;          // OrtOpAttr
struct SessionOptions;
struct CustomOpDomain;

enum ErrorCode : int { kFail = 1 };
enum AttributeType : int { kInteger = 1, kFloats = 4 };
enum ElementType : int { kFloat = 1 };
enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };
enum MemoryType : int { kDefaultMemory = 0 };

struct Api {
  const void* entry[276];

  template <class Function>
  Function at(std::size_t index) const {
    return reinterpret_cast<Function>(const_cast<void*>(entry[index]));
  }

  Status* create_status(ErrorCode code, const char* message) const {
    return at<Status* (*)(ErrorCode, const char*)>(0)(code, message);
  }
  const char* message(const Status* status) const { return at<const char* (*)(const Status*)>(2)(status); }
  Status* create_domain(const char* name, CustomOpDomain** domain) const {
    return at<Status* (*)(const char*, CustomOpDomain**)>(26)(name, domain);
  }
  Status* add_operator(CustomOpDomain* domain, const struct CustomOp* op) const {
    return at<Status* (*)(CustomOpDomain*, const CustomOp*)>(27)(domain, op);
  }
  Status* add_domain(SessionOptions* options, CustomOpDomain* domain) const {
    return at<Status* (*)(SessionOptions*, CustomOpDomain*)>(28)(options, domain);
  }
  Status* data(Value* value, void** data) const { return at<Status* (*)(Value*, void**)>(51)(value, data); }
  Status* rank(const ShapeInfo* info, std::size_t* rank) const {
    return at<Status* (*)(const ShapeInfo*, std::size_t*)>(61)(info, rank);
  }
  Status* dimensions(const ShapeInfo* info, int64_t* values, std::size_t rank) const {
    return at<Status* (*)(const ShapeInfo*, int64_t*, std::size_t)>(62)(info, values, rank);
  }
  Status* shape_info(const Value* value, ShapeInfo** info) const {
    return at<Status* (*)(const Value*, ShapeInfo**)>(65)(value, info);
  }
  Status* attribute(const KernelInfo* info, const char* name, float* value) const {
    return at<Status* (*)(const KernelInfo*, const char*, float*)>(85)(info, name, value);
  }
  Status* attribute(const KernelInfo* info, const char* name, int64_t* value) const {
    return at<Status* (*)(const KernelInfo*, const char*, int64_t*)>(86)(info, name, value);
  }
  Status* attribute(const KernelInfo* info, const char* name, char* text, std::size_t* size) const {
    return at<Status* (*)(const KernelInfo*, const char*, char*, std::size_t*)>(87)(info, name, text, size);
  }
  Status* input_count(const KernelContext* context, std::size_t* count) const {
    return at<Status* (*)(const KernelContext*, std::size_t*)>(88)(context, count);
  }
  Status* output_count(const KernelContext* context, std::size_t* count) const {
    return at<Status* (*)(const KernelContext*, std::size_t*)>(89)(context, count);
  }
  Status* input(const KernelContext* context, std::size_t index, const Value** value) const {
    return at<Status* (*)(const KernelContext*, std::size_t, const Value**)>(90)(context, index, value);
  }
  Status* output(KernelContext* context, std::size_t index, const int64_t* shape, std::size_t rank,
                 Value** value) const {
    return at<Status* (*)(KernelContext*, std::size_t, const int64_t*, std::size_t, Value**)>(91)(context, index,
                                                                                                  shape, rank, value);
  }
  void release(Status* status) const { at<void (*)(Status*)>(93)(status); }
  void release(ShapeInfo* info) const { at<void (*)(ShapeInfo*)>(99)(info); }
  Status* attributes(const KernelInfo* info, const char* name, float* values, std::size_t* size) const {
    return at<Status* (*)(const KernelInfo*, const char*, float*, std::size_t*)>(162)(info, name, values, size);
  }
  Status* attributes(const KernelInfo* info, const char* name, int64_t* values, std::size_t* size) const {
    return at<Status* (*)(const KernelInfo*, const char*, int64_t*, std::size_t*)>(163)(info, name, values, size);
  }
  Status* inferred_input(const ShapeContext* context, std::size_t index, ShapeInfo** info) const {
    return at<Status* (*)(const ShapeContext*, std::size_t, ShapeInfo**)>(268)(context, index, info);
  }
  Status* inferred_attribute(const ShapeContext* context, const char* name, const Attribute** attribute) const {
    return at<Status* (*)(const ShapeContext*, const char*, const Attribute**)>(269)(context, name, attribute);
  }
  Status* infer_output(const ShapeContext* context, std::size_t index, const ShapeInfo* info) const {
    return at<Status* (*)(const ShapeContext*, std::size_t, const ShapeInfo*)>(270)(context, index, info);
  }
  Status* read(const Attribute* attribute, AttributeType type, void* data, std::size_t bytes,
               std::size_t* needed) const {
    return at<Status* (*)(const Attribute*, AttributeType, void*, std::size_t, std::size_t*)>(272)(attribute, type,
                                                                                                   data, bytes, needed);
  }
  Status* parallel_for(const KernelContext* context, void (*task)(void*, std::size_t), std::size_t tasks,
                       std::size_t batches, void* argument) const {
    return at<Status* (*)(const KernelContext*, void (*)(void*, std::size_t), std::size_t, std::size_t, void*)>(274)(
        context, task, tasks, batches, argument);
  }
};

struct ApiBase {
  const Api* (*get_api)(uint32_t version);
  const char* (*version)();
};

struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  ElementType (*input_type)(const CustomOp*, std::size_t);
  std::size_t (*input_count)(const CustomOp*);
  ElementType (*output_type)(const CustomOp*, std::size_t);
  std::size_t (*output_count)(const CustomOp*);
  void (*compute)(void*, KernelContext*);
  void (*destroy)(void*);
  Characteristic (*input_characteristic)(const CustomOp*, std::size_t);
  Characteristic (*output_characteristic)(const CustomOp*, std::size_t);
  MemoryType (*input_memory)(const CustomOp*, std::size_t);
  int (*variadic_input_arity)(const CustomOp*);
  int (*variadic_input_homogeneity)(const CustomOp*);
  int (*variadic_output_arity)(const CustomOp*);
  int (*variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status* (*compute_v2)(void*, KernelContext*);
  Status* (*infer_shape)(const CustomOp*, ShapeContext*);
  int (*start_version)(const CustomOp*);
  int (*end_version)(const CustomOp*);
  std::size_t (*may_inplace)(int** inputs, int** outputs);
  void (*release_may_inplace)(int* inputs, int* outputs);
  std::size_t (*alias)(int** inputs, int** outputs);
  void (*release_alias)(int* inputs, int* outputs);
};

}  // namespace ort
