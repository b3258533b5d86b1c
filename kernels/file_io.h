#ifndef TFSAC_KERNELS_FILE_IO_H_
#define TFSAC_KERNELS_FILE_IO_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "status.h"

namespace tfsac {

// Bytes of a file to be; a file is written from several such pieces.
struct ByteSpan {
  const void* data;
  size_t size;
};

// Makes `directory` and what is missing above it, durably.
Status MakeDirectory(const std::string& directory);

// Writes directory/name so that after a crash the name stands for the old
// content or for the new, whole: write `name`.tmp, fsync it, rename it. The
// name itself is durable after SyncDirectory.
Status WriteFile(const std::string& directory, const std::string& name,
                 const std::vector<ByteSpan>& pieces);

// Whether `path` is a regular file of so many bytes.
bool IsFileOfSize(const std::string& path, uint64_t size);

// Makes the names in `directory` durable.
Status SyncDirectory(const std::string& directory);

// Reads a regular file from its begin to its end.
class InputFile {
 public:
  InputFile() = default;
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  Status Open(const std::string& path);

  // DataLoss: the file ends before `size` bytes.
  Status Read(void* data, size_t size);

  // Length of the file when it was opened.
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace tfsac

#endif  // TFSAC_KERNELS_FILE_IO_H_
