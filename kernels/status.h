#ifndef TFSAC_KERNELS_STATUS_H_
#define TFSAC_KERNELS_STATUS_H_

#include <string>
#include <utility>

namespace tfsac {

// The error categories that the core reports; the op bindings turn each into
// the TensorFlow error of the same name.
enum class Code {
  kOk,
  kInvalidArgument,
  kNotFound,
  kPermissionDenied,
  kResourceExhausted,
  kDataLoss,
  kUnavailable,
};

// What a fallible call returns: success, or a category and a sentence that
// says what was expected and what was found.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message)
      : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

}  // namespace tfsac

#endif  // TFSAC_KERNELS_STATUS_H_
