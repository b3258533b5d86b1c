// Stands between a process and the C library, by LD_PRELOAD: from a given call
// on, whatever would change a folder fails. Nothing of it is in the library.
//
// A process that is killed at its nth such call leaves what one leaves whose
// calls from the nth on all fail, so that one process can try each n.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <string>

namespace {

std::mutex mutex;
std::string folder;  // empty: nothing is looked at
long count = 0;      // calls so far that change the folder
long first = 0;      // the call that fails, from 1 on; 0 is none
bool for_ever = false;
int error = 0;
std::string trace;

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

std::string PathOf(int descriptor) {
  char path[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t size = readlink(link.c_str(), path, sizeof(path));
  return size < 0 ? "" : std::string(path, size);
}

std::string PathAt(int directory, const char* path) {
  if (path[0] == '/') return path;
  if (directory != AT_FDCWD) return PathOf(directory) + "/" + path;
  char here[PATH_MAX];
  return std::string(getcwd(here, sizeof(here))) + "/" + path;
}

// Counts and notes a call; returns whether it is to fail, with errno set.
bool Fails(const char* call, const std::string& path,
           const std::string& to = "") {
  std::lock_guard<std::mutex> lock(mutex);
  if (folder.empty() || path.rfind(folder, 0) != 0) return false;
  ++count;
  const bool fails = first > 0 && (for_ever ? count >= first : count == first);
  trace += std::string(call) + " " + path + (to.empty() ? "" : " " + to);
  trace += fails ? " fails\n" : "\n";
  if (fails) errno = error;
  return fails;
}

int Open(const char* name, int at, const char* path, int flags, mode_t mode) {
  const bool changes = (flags & (O_CREAT | O_TRUNC)) != 0;
  if (changes && Fails("open", PathAt(at, path))) return -1;
  return Next<int (*)(int, const char*, int, ...)>(name)(at, path, flags, mode);
}

}  // namespace

extern "C" {

void faults_arm(const char* new_folder, long new_first, int new_error,
                int new_for_ever) {
  std::lock_guard<std::mutex> lock(mutex);
  folder = new_folder;
  first = new_first;
  error = new_error;
  for_ever = new_for_ever != 0;
  count = 0;
  trace.clear();
}

long faults_count() { return count; }
const char* faults_trace() { return trace.c_str(); }

#define OPEN(name, next)                            \
  int name(const char* path, int flags, ...) {      \
    va_list arguments;                              \
    va_start(arguments, flags);                     \
    const mode_t mode = va_arg(arguments, mode_t);  \
    va_end(arguments);                              \
    return Open(next, AT_FDCWD, path, flags, mode); \
  }
#define OPENAT(name)                                   \
  int name(int at, const char* path, int flags, ...) { \
    va_list arguments;                                 \
    va_start(arguments, flags);                        \
    const mode_t mode = va_arg(arguments, mode_t);     \
    va_end(arguments);                                 \
    return Open(#name, at, path, flags, mode);         \
  }
OPEN(open, "openat")
OPEN(open64, "openat64")
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void* data, size_t size) {
  const auto next = Next<ssize_t (*)(int, const void*, size_t)>("write");
  if (descriptor > 2 && Fails("write", PathOf(descriptor))) {
    const int failed = errno;
    next(descriptor, data, size / 2);  // torn
    errno = failed;
    return -1;
  }
  return next(descriptor, data, size);
}

int fsync(int descriptor) {
  if (Fails("fsync", PathOf(descriptor))) return -1;
  return Next<int (*)(int)>("fsync")(descriptor);
}

int rename(const char* from, const char* to) {
  if (Fails("rename", PathAt(AT_FDCWD, from), PathAt(AT_FDCWD, to))) return -1;
  return Next<int (*)(const char*, const char*)>("rename")(from, to);
}

int mkdir(const char* path, mode_t mode) {
  if (Fails("mkdir", PathAt(AT_FDCWD, path))) return -1;
  return Next<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}

#define REMOVE(name)                                        \
  int name(const char* path) {                              \
    if (Fails("unlink", PathAt(AT_FDCWD, path))) return -1; \
    return Next<int (*)(const char*)>(#name)(path);         \
  }
REMOVE(unlink)
REMOVE(remove)

}  // extern "C"
