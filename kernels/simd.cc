#include "simd.h"

#include <cstdlib>
#include <cstring>

namespace tfsac {

extern const Simd kAmx, kPortable;
#if defined(__x86_64__)
extern const Simd kAvx2, kAvx512;
#endif

const std::vector<const Simd*>& AllSimd() {
  static const std::vector<const Simd*> all = {
      &kAmx,
#if defined(__x86_64__)
      &kAvx512,
      &kAvx2,
#endif
      &kPortable,
  };
  return all;
}

const Simd& BestSimd() {
  static const Simd& best = []() -> const Simd& {
    const char* wanted = std::getenv("TFSAC_SIMD");
    for (const Simd* simd : AllSimd()) {
      const bool is_wanted = !wanted || std::strcmp(wanted, simd->name) == 0;
      if (is_wanted && simd->is_supported()) return *simd;
    }
    return kPortable;
  }();
  return best;
}

}  // namespace tfsac

extern "C" __attribute__((visibility("default"))) const char* tfsac_simd() {
  return tfsac::BestSimd().name;
}
