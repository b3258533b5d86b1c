#ifndef TFSAC_KERNELS_TO_ABSL_H_
#define TFSAC_KERNELS_TO_ABSL_H_

#include "absl/status/status.h"
#include "status.h"

namespace tfsac {

// The core's status as the TensorFlow error of the same name.
inline absl::Status ToAbsl(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
      return absl::OkStatus();
    case Code::kInvalidArgument:
      return absl::InvalidArgumentError(status.message());
    case Code::kNotFound:
      return absl::NotFoundError(status.message());
    case Code::kPermissionDenied:
      return absl::PermissionDeniedError(status.message());
    case Code::kResourceExhausted:
      return absl::ResourceExhaustedError(status.message());
    case Code::kDataLoss:
      return absl::DataLossError(status.message());
    case Code::kUnavailable:
      return absl::UnavailableError(status.message());
  }
  return absl::InternalError(status.message());
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_TO_ABSL_H_
