#ifndef TFSAC_KERNELS_EXPECT_H_
#define TFSAC_KERNELS_EXPECT_H_

#include <cstdio>
#include <cstdlib>

// Ends a test, and says where, unless the condition holds.
#define EXPECT(condition)                                              \
  do {                                                                 \
    if (!(condition)) {                                                \
      std::fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, \
                   #condition);                                        \
      std::exit(1);                                                    \
    }                                                                  \
  } while (false)

#endif  // TFSAC_KERNELS_EXPECT_H_
