#include "file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tfsac {
namespace {

// Files below are read, whatever they are.
constexpr uint64_t kSmall = 16 << 20;

// The error of the system call that just failed.
Status SystemError(const std::string& action, const std::string& path) {
  const int error = errno;
  Code code = Code::kUnavailable;
  if (error == ENOENT) code = Code::kNotFound;
  if (error == EACCES || error == EPERM || error == EROFS) {
    code = Code::kPermissionDenied;
  }
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    code = Code::kResourceExhausted;
  }
  return {code, path + ": cannot " + action + ": " + std::strerror(error)};
}

std::string Parent(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return "/";
  const size_t slash = path.find_last_of('/', end);
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Opens a new file to write to; what others planted or left there goes, and no
// link is followed. Returns -1, and errno, on an error.
int Create(const std::string& path) {
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  const int descriptor = open(path.c_str(), flags, 0666);
  if (descriptor >= 0 || errno != EEXIST) return descriptor;
  if (unlink(path.c_str()) != 0) return -1;
  return open(path.c_str(), flags, 0666);
}

// Whether a file is a hundred times as large as the data in it: a disk that is
// nearly empty holds any length of holes, and who reads them takes the time.
bool IsHollow(int descriptor, uint64_t size) {
  const off_t enough = size / 100;
  off_t held = 0, begin = 0, end = 0;
  while (held < enough) {
    begin = lseek(descriptor, end, SEEK_DATA);
    if (begin < 0) break;
    end = lseek(descriptor, begin, SEEK_HOLE);
    if (end < 0) break;
    held += end - begin;
  }
  const bool is_at_end = held < enough && errno == ENXIO;
  lseek(descriptor, 0, SEEK_SET);
  return is_at_end;
}

Status WriteAll(int descriptor, const ByteSpan& piece,
                const std::string& path) {
  const auto* data = static_cast<const char*>(piece.data);
  size_t left = piece.size;
  while (left > 0) {
    const ssize_t written = write(descriptor, data, left);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("write", path);
    data += written;
    left -= written;
  }
  return {};
}

Status WriteAndSync(int descriptor, const std::vector<ByteSpan>& pieces,
                    const std::string& path) {
  for (const ByteSpan& piece : pieces) {
    Status status = WriteAll(descriptor, piece, path);
    if (!status.ok()) return status;
  }
  return fsync(descriptor) == 0 ? Status() : SystemError("fsync", path);
}

}  // namespace

Status MakeDirectory(const std::string& directory) {
  int result = mkdir(directory.c_str(), 0777);
  if (result != 0 && errno == ENOENT && Parent(directory) != directory) {
    Status status = MakeDirectory(Parent(directory));
    if (!status.ok()) return status;
    result = mkdir(directory.c_str(), 0777);
  }
  if (result == 0) return SyncDirectory(Parent(directory));
  const Status error = SystemError("make the directory", directory);
  struct stat info;
  const bool exists =
      stat(directory.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  if (!exists) return error;
  // Who made it may not have synced its name; who may not read the directory
  // above, or where the system cannot, does without.
  static_cast<void>(SyncDirectory(Parent(directory)));
  return {};
}

Status WriteFile(const std::string& directory, const std::string& name,
                 const std::vector<ByteSpan>& pieces) {
  const std::string path = directory + "/" + name;
  const std::string aside = path + ".tmp";
  const int descriptor = Create(aside);
  if (descriptor < 0) return SystemError("create", aside);
  Status status = WriteAndSync(descriptor, pieces, aside);
  if (close(descriptor) != 0 && status.ok()) {
    status = SystemError("close", aside);
  }
  if (status.ok() && rename(aside.c_str(), path.c_str()) != 0) {
    status = SystemError("rename to " + path, aside);
  }
  if (!status.ok()) unlink(aside.c_str());
  return status;
}

bool IsFileOfSize(const std::string& path, uint64_t size) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         static_cast<uint64_t>(info.st_size) == size;
}

Status SyncDirectory(const std::string& directory) {
  const int descriptor =
      open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError("open", directory);
  Status status;
  if (fsync(descriptor) != 0) status = SystemError("fsync", directory);
  close(descriptor);
  return status;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

Status InputFile::Open(const std::string& path) {
  path_ = path;
  // Without O_NONBLOCK, opening a pipe would wait for somebody to write.
  descriptor_ = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor_ < 0) return SystemError("open", path);
  struct stat info;
  if (fstat(descriptor_, &info) != 0) return SystemError("stat", path);
  if (!S_ISREG(info.st_mode)) {
    return {Code::kDataLoss, path + ": expected a regular file"};
  }
  size_ = info.st_size;
  if (size_ > kSmall && IsHollow(descriptor_, size_)) {
    return {Code::kDataLoss, path + ": declares " + std::to_string(size_) +
                                 " bytes, of which the disk holds next to "
                                 "none"};
  }
  return {};
}

Status InputFile::Read(void* data, size_t size) {
  auto* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = read(descriptor_, to, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("read", path_);
    if (got == 0) return {Code::kDataLoss, path_ + ": ends too early"};
    to += got;
    size -= got;
  }
  return {};
}

}  // namespace tfsac
