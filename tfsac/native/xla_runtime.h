// What the headers that XLA generates need, in place of TensorFlow and absl.
//
// XLA compiles a computation ahead of time to kernels, which are in the object
// file, and to a class with the order in which they run. That class expects
// TensorFlow's `XlaCompiledCpuFunction` for its base, which lends the kernels
// memory. This is one for computations that need nothing else: no threads, no
// state and no routines of XLA's own.

#ifndef TFSAC_NATIVE_XLA_RUNTIME_H_
#define TFSAC_NATIVE_XLA_RUNTIME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#define ABSL_PREDICT_FALSE(condition) (condition)

// How kernels are called: XLA's kernel_c_api.h.
extern "C" {
struct XLA_CPU_NumWorkGroups {
  std::uint64_t x, y, z;
};
struct XLA_CPU_WorkGroupId {
  std::uint64_t x, y, z;
};
struct XLA_CPU_KernelArg {
  void* data;
  std::size_t size;
};
struct XLA_CPU_KernelCallFrame {
  const XLA_CPU_NumWorkGroups* num_workgroups;
  const XLA_CPU_WorkGroupId* workgroup_id;
  std::size_t num_args;
  const XLA_CPU_KernelArg* args;
};
struct XLA_CPU_KernelError;
}

namespace absl {
template <typename Key, typename Value>
using flat_hash_map = std::unordered_map<Key, Value>;
}  // namespace absl

namespace xla {

class ExecutableRunOptions {};
class ProgramShapeProto;

namespace cpu {

class RngState {};
class CompilationResultProto;

// The kind of a buffer is in the two lower bits, its size in the others.
struct EncodedBufferAllocationInfo {
  std::uint64_t packed_kind_and_size;
  std::uint32_t entry_param_number;
  std::uint32_t result_number;
};

class BufferAllocationInfo {
 public:
  explicit BufferAllocationInfo(const EncodedBufferAllocationInfo& encoded)
      : packed_(encoded.packed_kind_and_size) {}
  bool is_constant() const { return (packed_ & 3) == 0; }
  std::uint64_t size() const { return packed_ >> 2; }

 private:
  std::uint64_t packed_;
};

}  // namespace cpu
}  // namespace xla

namespace tensorflow {

using int32 = std::int32_t;
using int64 = std::int64_t;
using uint8 = std::uint8_t;

// The memory of one run at a time: let each thread have an object of its own.
class XlaCompiledCpuFunction {
 public:
  enum class AllocMode { ARGS_VARIABLES_RESULTS_PROFILES_AND_TEMPS };
  struct ShapeInfo {
    const std::int32_t* dimensions;
    std::int32_t num_dimensions;
  };
  using RunImpl =
      std::function<bool(void**, xla::ExecutableRunOptions*,
                         std::vector<std::unique_ptr<xla::cpu::RngState>>&)>;
  struct StaticData {
    RunImpl run;
    std::vector<std::pair<std::uint64_t, char*>> constants;
    const xla::cpu::BufferAllocationInfo* buffers = nullptr;
    std::size_t num_buffers = 0;
    const std::int32_t* arguments = nullptr;
    const std::int32_t* results = nullptr;
  };

  XlaCompiledCpuFunction(const StaticData& data, AllocMode)
      : data_(data), buffers_(data.num_buffers) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < data.num_buffers; ++i) size += Room(i);
    memory_.reset(
        static_cast<char*>(::operator new(size, std::align_val_t{kAlignment})));
    char* free = memory_.get();
    auto constant = data.constants.begin();
    for (std::size_t i = 0; i < data.num_buffers; ++i) {
      const bool is_constant = data.buffers[i].is_constant();
      buffers_[i] = is_constant ? constant++->second : free;
      free += Room(i);
    }
  }
  virtual ~XlaCompiledCpuFunction() = default;

  // Returns false if a kernel failed.
  bool Run() { return data_.run(buffers_.data(), &options_, rng_states_); }

  void set_arg_data(std::size_t index, const void* data) {
    buffers_[data_.arguments[index]] = const_cast<void*>(data);
  }
  void* arg_data(std::size_t index) { return buffers_[data_.arguments[index]]; }
  const void* arg_data(std::size_t index) const {
    return buffers_[data_.arguments[index]];
  }
  void* result_data(std::size_t index) {
    return buffers_[data_.results[index]];
  }
  const void* result_data(std::size_t index) const {
    return buffers_[data_.results[index]];
  }

 protected:
  virtual bool is_thunk_mode() const = 0;

  static void set_static_data_thunk_run_impl(StaticData* data, RunImpl run) {
    data->run = std::move(run);
  }
  static void set_static_data_embedded_constant_buffers(
      StaticData* data,
      std::vector<std::pair<std::uint64_t, char*>> constants) {
    data->constants = std::move(constants);
  }
  static void set_static_data_buffer_infos(
      StaticData* data, const xla::cpu::BufferAllocationInfo* buffers) {
    data->buffers = buffers;
  }
  static void set_static_data_num_buffers(StaticData* data, std::size_t count) {
    data->num_buffers = count;
  }
  static void set_static_data_arg_index_table(StaticData* data,
                                              const std::int32_t* arguments) {
    data->arguments = arguments;
  }
  static void set_static_data_result_index_table(StaticData* data,
                                                 const std::int32_t* results) {
    data->results = results;
  }

  // What nobody here asks for.
  static void set_static_data_function_library_symbol_map(
      StaticData*, const absl::flat_hash_map<std::string, void*>&) {}
  static void set_static_data_num_args(StaticData*, std::size_t) {}
  static void set_static_data_num_variables(StaticData*, std::size_t) {}
  static void set_static_data_num_results(StaticData*, std::size_t) {}
  static void set_static_data_temp_allocation_index(
      StaticData*, std::optional<std::size_t>) {}
  static void set_static_data_arg_shape_infos(StaticData*, const ShapeInfo*) {}
  static void set_static_data_result_shape_infos(StaticData*,
                                                 const ShapeInfo*) {}
  static void set_static_data_arg_names(StaticData*, const char**) {}
  static void set_static_data_variable_names(StaticData*, const char**) {}
  static void set_static_data_result_names(StaticData*, const char**) {}
  static void set_static_data_program_shape(StaticData*,
                                            const xla::ProgramShapeProto*) {}
  static void set_static_data_rng_state_deltas(
      StaticData*, const std::vector<std::int64_t>&) {}
  static void set_static_data_compilation_result_proto(
      StaticData*, const xla::cpu::CompilationResultProto*) {}

 private:
  static constexpr std::size_t kAlignment = 64;  // what the kernels rely on

  struct Delete {
    void operator()(char* memory) const {
      ::operator delete(memory, std::align_val_t{kAlignment});
    }
  };

  // What a buffer takes of the memory; constants lie in the object file.
  std::size_t Room(std::size_t index) const {
    const auto& buffer = data_.buffers[index];
    if (buffer.is_constant()) return 0;
    return (buffer.size() + kAlignment - 1) / kAlignment * kAlignment;
  }

  const StaticData& data_;
  std::vector<void*> buffers_;
  std::unique_ptr<char[], Delete> memory_;
  std::vector<std::unique_ptr<xla::cpu::RngState>> rng_states_;
  xla::ExecutableRunOptions options_;
};

}  // namespace tensorflow

#endif  // TFSAC_NATIVE_XLA_RUNTIME_H_
