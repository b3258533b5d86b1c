#ifndef TFSAC_KERNELS_TO_WORKERS_H_
#define TFSAC_KERNELS_TO_WORKERS_H_

#include <functional>
#include <utility>

#include "parallel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace tfsac {

// The threads that TensorFlow's own ops share.
inline Workers ToWorkers(tensorflow::OpKernelContext* context) {
  const auto* threads = context->device()->tensorflow_cpu_worker_threads();
  return {threads->num_threads, [threads](std::function<void()> work) {
            threads->workers->Schedule(std::move(work));
          }};
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_TO_WORKERS_H_
