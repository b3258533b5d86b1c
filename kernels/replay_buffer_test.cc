// Tests of the core, without TensorFlow; README.md says how to run them.

#include "replay_buffer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "crc32.h"
#include "expect.h"
#include "philox.h"

namespace tfsac {
namespace {

namespace fs = std::filesystem;

// A batch of transitions that owns its columns. Observations are float.
struct Batch {
  Batch(int64_t count, const ReplayLayout& layout)
      : observation(count * layout.observation_size),
        action(count * layout.action_size),
        reward(count),
        next_observation(count * layout.observation_size),
        terminated(new bool[count]()),
        truncated(new bool[count]()),
        env_index(count) {}

  TransitionSource source() const {
    return {observation.data(),      action.data(),    reward.data(),
            next_observation.data(), terminated.get(), truncated.get(),
            env_index.data()};
  }
  TransitionSink sink() {
    return {observation.data(),      action.data(),    reward.data(),
            next_observation.data(), terminated.get(), truncated.get(),
            env_index.data()};
  }

  std::vector<float> observation, action, reward, next_observation;
  std::unique_ptr<bool[]> terminated, truncated;
  std::vector<int32_t> env_index;
};

// Every field of the transition that Numbered makes follows from its number.
bool Holds(const Batch& batch, int64_t i, int64_t number,
           const ReplayLayout& layout) {
  bool same = batch.reward[i] == number && batch.env_index[i] == number &&
              batch.terminated[i] == (number % 2 == 1) &&
              batch.truncated[i] == (number % 3 == 1);
  for (int64_t j = 0; j < layout.observation_size; ++j) {
    const int64_t at = i * layout.observation_size + j;
    same = same && batch.observation[at] == number + j &&
           batch.next_observation[at] == -number - j;
  }
  for (int64_t j = 0; j < layout.action_size; ++j) {
    same = same && batch.action[i * layout.action_size + j] == number * 10 + j;
  }
  return same;
}

Batch Numbered(int64_t first, int64_t count, const ReplayLayout& layout) {
  Batch batch(count, layout);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t number = first + i;
    batch.reward[i] = number;
    batch.env_index[i] = number;
    batch.terminated[i] = number % 2 == 1;
    batch.truncated[i] = number % 3 == 1;
    for (int64_t j = 0; j < layout.observation_size; ++j) {
      batch.observation[i * layout.observation_size + j] = number + j;
      batch.next_observation[i * layout.observation_size + j] = -number - j;
    }
    for (int64_t j = 0; j < layout.action_size; ++j) {
      batch.action[i * layout.action_size + j] = number * 10 + j;
    }
  }
  return batch;
}

std::unique_ptr<ReplayBuffer> MakeBuffer(const ReplayLayout& layout,
                                         int64_t capacity, uint64_t seed) {
  std::unique_ptr<ReplayBuffer> buffer;
  EXPECT(ReplayBuffer::Create(layout, capacity, seed, &buffer).ok());
  return buffer;
}

void Serially(int64_t n, const std::function<void(int64_t, int64_t)>& work) {
  work(0, n);
}

// The numbers of the transitions that the next draws give.
std::vector<int64_t> Draw(ReplayBuffer* buffer, int64_t count) {
  Batch batch(count, buffer->layout());
  EXPECT(buffer->Sample(count, batch.sink(), Serially).ok());
  return {batch.env_index.begin(), batch.env_index.end()};
}

int64_t Size(const ReplayBuffer& buffer) {
  int64_t size, inserted;
  buffer.Count(&size, &inserted);
  return size;
}

std::string TemporaryDirectory() {
  std::string name = fs::temp_directory_path() / "tfsac_test_XXXXXX";
  EXPECT(mkdtemp(name.data()) != nullptr);
  return name;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

void TestPhiloxGivesThePublishedVectors() {
  // kat_vectors of Random123 1.14, philox4x32 with 10 rounds.
  using Words = std::array<uint32_t, 4>;
  EXPECT(Philox4x32({0, 0, 0, 0}, {0, 0}) ==
         (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT(Philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
         (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                    {0xa4093822, 0x299f31d0}) ==
         (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

void TestUniformIndexCoversItsRange() {
  EXPECT(UniformIndex(0, 7) == 0);
  EXPECT(UniformIndex(UINT64_MAX, 7) == 6);
  EXPECT(UniformIndex(uint64_t{1} << 63, 10) == 5);
  EXPECT(UniformIndex(UINT64_MAX, uint64_t{1} << 40) == (1LL << 40) - 1);
}

void TestCrc32IsZlibs() {
  const std::string text = "123456789";
  EXPECT(Crc32(text.data(), text.size()) == 0xcbf43926);
  EXPECT(Crc32(nullptr, 0) == 0);
  std::string many(1000, '\0');
  for (size_t i = 0; i < many.size(); ++i) many[i] = i * 7;
  const uint32_t whole = Crc32(many.data(), many.size());
  for (size_t cut = 0; cut <= many.size(); ++cut) {
    const uint32_t head = Crc32(many.data(), cut);
    EXPECT(Crc32(many.data() + cut, many.size() - cut, head) == whole);
  }
}

void TestRowsStayWithinTheirBudget() {
  EXPECT((ReplayLayout{17, 6}).row_bytes() == 192);
  EXPECT((ReplayLayout{3, 1}).row_bytes() == 64);
  EXPECT((ReplayLayout{17, 6, ObservationType::kUint8}).row_bytes() == 128);
  // The flags of a row that its fields fill to the last byte.
  EXPECT((ReplayLayout{27, 1, ObservationType::kUint8}).row_bytes() == 128);
  EXPECT((ReplayLayout{25, 1, ObservationType::kUint8}).row_bytes() == 64);
}

void TestDrawsAreTheRecordedOnes() {
  // Computed by a program of its own, from the definition in the header.
  const std::vector<int64_t> zero{880, 605, 362, 37,  319, 271,
                                  415, 426, 693, 916, 27,  355};
  const std::vector<int64_t> forty_two{468, 340, 327, 454, 658, 773,
                                       670, 379, 839, 235, 293, 40};
  const ReplayLayout layout{1, 1};
  const Batch rows = Numbered(0, 1000, layout);
  auto buffer = MakeBuffer(layout, 1000, 0);
  buffer->Insert(1000, rows.source());
  EXPECT(Draw(buffer.get(), 12) == zero);
  // In pieces, which begin in the middle of a block of the generator too.
  buffer = MakeBuffer(layout, 5000, 42);
  buffer->Insert(1000, rows.source());
  std::vector<int64_t> drawn;
  for (const int64_t count : {1, 4, 2, 5}) {
    for (const int64_t i : Draw(buffer.get(), count)) drawn.push_back(i);
  }
  EXPECT(drawn == forty_two);
}

void TestTheRingKeepsTheLastRows() {
  const ReplayLayout layout{3, 2};
  for (const int64_t batch : {1, 3, 7, 10, 25}) {
    auto buffer = MakeBuffer(layout, 10, 1);
    int64_t inserted = 0;
    while (inserted < 50) {
      buffer->Insert(batch, Numbered(inserted, batch, layout).source());
      inserted += batch;
      const int64_t size = Size(*buffer);
      EXPECT(size == std::min<int64_t>(inserted, 10));
      Batch sample(200, layout);
      EXPECT(buffer->Sample(200, sample.sink(), Serially).ok());
      std::map<int64_t, int> seen;
      for (int64_t i = 0; i < 200; ++i) {
        const int64_t number = sample.env_index[i];
        EXPECT(Holds(sample, i, number, layout));
        ++seen[number];
      }
      EXPECT(seen.begin()->first >= inserted - size);
      EXPECT(seen.rbegin()->first < inserted);
      EXPECT(static_cast<int64_t>(seen.size()) == size);
    }
  }
}

void TestPartsOfASampleEqualTheWhole() {
  const ReplayLayout layout{5, 1};
  const Batch rows = Numbered(0, 777, layout);
  auto one = MakeBuffer(layout, 777, 9);
  auto other = MakeBuffer(layout, 777, 9);
  one->Insert(777, rows.source());
  other->Insert(777, rows.source());
  Batch parts(1001, layout);
  const auto backwards = [](int64_t n, const auto& work) {
    for (int64_t end = n; end > 0; end -= 37) {
      work(std::max<int64_t>(0, end - 37), end);
    }
  };
  EXPECT(other->Sample(1001, parts.sink(), backwards).ok());
  const auto whole = Draw(one.get(), 1001);
  EXPECT(std::equal(whole.begin(), whole.end(), parts.env_index.begin()));
}

void TestBadArgumentsAreRefused() {
  std::unique_ptr<ReplayBuffer> buffer;
  const auto code = [&](int64_t o, int64_t a, int64_t capacity) {
    return ReplayBuffer::Create({o, a}, capacity, 0, &buffer).code();
  };
  EXPECT(code(0, 1, 1) == Code::kInvalidArgument);
  EXPECT(code(1, -1, 1) == Code::kInvalidArgument);
  EXPECT(code(INT64_MAX, 1, 1) == Code::kInvalidArgument);
  EXPECT(code(1, 1, 0) == Code::kInvalidArgument);
  EXPECT(code(1, 1, INT64_MAX) == Code::kInvalidArgument);
  EXPECT(code(1, 1, INT64_MAX / 64) == Code::kResourceExhausted);
  buffer = MakeBuffer({1, 1}, 4, 0);
  Batch batch(1, {1, 1});
  const Status status = buffer->Sample(1, batch.sink(), Serially);
  EXPECT(status.code() == Code::kInvalidArgument);
  EXPECT(status.message().find("empty") != std::string::npos);
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total, resident;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

void TestMemoryGrowsAsTheBufferFills() {
  const ReplayLayout layout{17, 6};
  const int64_t before = ResidentBytes();
  auto buffer = MakeBuffer(layout, int64_t{1} << 28, 0);  // 48 GiB
  EXPECT(ResidentBytes() - before < 8 << 20);
  const Batch rows = Numbered(0, 1000, layout);
  for (int i = 0; i < 200; ++i) buffer->Insert(1000, rows.source());
  const int64_t filled = 200'000 * 192;
  EXPECT(buffer->MemoryUsed() == filled);
  EXPECT(ResidentBytes() - before > filled);
#ifndef __SANITIZE_THREAD__  // it keeps notes on each byte, in memory too
  EXPECT(ResidentBytes() - before < filled + (16 << 20));
#endif
}

void TestThreadsNeverSeeATornRow() {
  // Long rows in few slots, so that readers and writers meet often.
  const ReplayLayout layout{5000, 3};
  auto buffer = MakeBuffer(layout, 4, 3);
  buffer->Insert(2, Numbered(0, 2, layout).source());
  std::atomic<bool> torn{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        buffer->Insert(3, Numbered(1000 * t + i, 3, layout).source());
      }
    });
    threads.emplace_back([&] {
      Batch batch(20, layout);
      for (int i = 0; i < 100; ++i) {
        if (!buffer->Sample(20, batch.sink(), Serially).ok()) torn = true;
        for (int64_t j = 0; j < 20; ++j) {
          if (!Holds(batch, j, batch.env_index[j], layout)) torn = true;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  int64_t size, inserted;
  buffer->Count(&size, &inserted);
  EXPECT(!torn);
  EXPECT(size == 4 && inserted == 2 + 2 * 200 * 3);
}

void ExpectRestored(const ReplayLayout& layout, int64_t capacity,
                    int64_t inserted, const std::string& directory) {
  auto saved = MakeBuffer(layout, capacity, 5);
  for (int64_t i = 0; i < inserted; i += 50) {
    const int64_t count = std::min<int64_t>(50, inserted - i);
    saved->Insert(count, Numbered(i, count, layout).source());
  }
  if (inserted > 0) Draw(saved.get(), 11);
  EXPECT(saved->Save(directory, "replay").ok());
  auto restored = MakeBuffer(layout, capacity, 999);
  restored->Insert(40, Numbered(5, 40, layout).source());
  EXPECT(restored->Restore(directory, "replay").ok());
  EXPECT(Size(*restored) == std::min(inserted, capacity));
  for (auto* buffer : {saved.get(), restored.get()}) {
    buffer->Insert(2, Numbered(inserted, 2, layout).source());
  }
  EXPECT(Draw(saved.get(), 500) == Draw(restored.get(), 500));
}

void TestRestoreGoesOnWhereSaveStopped() {
  const std::string directory = TemporaryDirectory();
  const std::string place = directory + "/runs/one";
  for (const int64_t inserted : {0, 3, 300, 301, 700}) {
    ExpectRestored({2, 1}, 301, inserted, place);
  }
  // Rows of 65 KiB, 63 of them to a segment: several files, and a wrapped one.
  const ReplayLayout wide{8200, 4};
  ExpectRestored(wide, 301, 700, place);
  // Left are the files of the last save only, with each row once: the index
  // and the rows from 399, 441, 504, 567, 630 and 693 on.
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(place)) {
    bytes += entry.file_size();
  }
  EXPECT(bytes == 80 + 6 * (4 + 64) + 301 * wide.row_bytes());
  fs::remove_all(directory);
}

// Which file a path stands for: one that is written anew is another one.
std::map<std::string, ino_t> Files(const std::string& directory) {
  std::map<std::string, ino_t> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    struct stat info;
    EXPECT(stat(entry.path().c_str(), &info) == 0);
    files[entry.path().filename()] = info.st_ino;
  }
  return files;
}

int64_t CountOf(const std::map<std::string, ino_t>& files,
                const std::map<std::string, ino_t>& among) {
  int64_t count = 0;
  for (const auto& file : files) {
    const auto it = among.find(file.first);
    count += it != among.end() && it->second == file.second;
  }
  return count;
}

void TestASaveWritesWhatIsNewOnly() {
  const ReplayLayout wide{8200, 4};  // 63 rows to a segment
  const std::string directory = TemporaryDirectory();
  auto buffer = MakeBuffer(wide, 301, 5);
  buffer->Insert(200, Numbered(0, 200, wide).source());
  EXPECT(buffer->Save(directory, "a").ok());
  const auto first = Files(directory);
  EXPECT(first.size() == 1 + 4);  // rows from 0, 63, 126 and 189 on
  buffer->Insert(60, Numbered(200, 60, wide).source());
  EXPECT(buffer->Save(directory, "b").ok());
  const auto second = Files(directory);
  // Both have all their rows; the second wrote those from 189 and 252 on.
  EXPECT(CountOf(first, second) == 5 && second.size() == 5 + 1 + 2);
  for (const auto& [name, inserted] : {std::pair{"a", 200}, {"b", 260}}) {
    auto restored = MakeBuffer(wide, 301, 9);
    EXPECT(restored->Restore(directory, name).ok());
    EXPECT(Size(*restored) == inserted);
    // Who restores goes on like who saved.
    restored->Insert(1, Numbered(inserted, 1, wide).source());
    EXPECT(restored->Save(directory, "c").ok());
    EXPECT(CountOf(second, Files(directory)) == 8);
  }
  // The files of a save go when its index is gone, after the next save.
  fs::remove(directory + "/a.index");
  fs::remove(directory + "/c.index");
  EXPECT(buffer->Save(directory, "b").ok());
  EXPECT(Files(directory).size() == 1 + 5);
  // What is gone is written again.
  fs::remove_all(directory);
  EXPECT(buffer->Save(directory, "b").ok());
  auto restored = MakeBuffer(wide, 301, 9);
  EXPECT(restored->Restore(directory, "b").ok());
  fs::remove_all(directory);
}

void TestNothingIsRemovedWhileAnIndexCannotBeRead() {
  const std::string directory = TemporaryDirectory();
  auto buffer = MakeBuffer({2, 1}, 6, 1);
  for (int64_t i = 0; i < 3; ++i) {
    buffer->Insert(1, Numbered(i, 1, {2, 1}).source());
    EXPECT(buffer->Save(directory, "replay").ok());
    if (i == 0) WriteFile(directory + "/other.index", "damaged");
  }
  EXPECT(Files(directory).size() == 2 + 3);
  fs::remove(directory + "/other.index");
  EXPECT(buffer->Save(directory, "replay").ok());
  EXPECT(Files(directory).size() == 2);
  fs::remove_all(directory);
}

// Restores a damaged copy of a save; checks the error and that nothing changed.
void ExpectRefused(const std::string& directory, const fs::path& damaged) {
  auto buffer = MakeBuffer({2, 1}, 6, 1);
  buffer->Insert(2, Numbered(70, 2, {2, 1}).source());
  const Status status = buffer->Restore(directory, "replay");
  EXPECT(status.code() == Code::kDataLoss || status.code() == Code::kNotFound ||
         status.code() == Code::kInvalidArgument);
  EXPECT(status.message().find(damaged.filename()) != std::string::npos);
  EXPECT(Size(*buffer) == 2);
  const int64_t drawn = Draw(buffer.get(), 1)[0];
  EXPECT(drawn == 70 || drawn == 71);
}

void TestDamagedFilesAreRefused() {
  const std::string directory = TemporaryDirectory();
  auto buffer = MakeBuffer({2, 1}, 6, 1);
  buffer->Insert(8, Numbered(0, 8, {2, 1}).source());
  EXPECT(buffer->Save(directory, "replay").ok());
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(directory)) {
    paths.push_back(entry.path());
  }
  EXPECT(paths.size() == 2);
  for (const fs::path& path : paths) {
    const std::string good = ReadFile(path);
    for (size_t i = 0; i < good.size(); ++i) {
      for (const int flip : {1, 0x80, 0xff}) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ flip);
        WriteFile(path, bad);
        ExpectRefused(directory, path);
      }
      WriteFile(path, good.substr(0, i));
      ExpectRefused(directory, path);
    }
    WriteFile(path, good + "x");
    ExpectRefused(directory, path);
    fs::remove(path);
    ExpectRefused(directory, path);
    EXPECT(mkfifo(path.c_str(), 0600) == 0);
    ExpectRefused(directory, path);
    fs::remove(path);
    fs::create_directory(path);
    ExpectRefused(directory, path);
    fs::remove(path);
    WriteFile(path, good);
  }
  EXPECT(buffer->Restore(directory, "replay").ok());
  fs::remove_all(directory);
}

void TestOtherBuffersFilesAreRefused() {
  const std::string directory = TemporaryDirectory();
  EXPECT(MakeBuffer({2, 1}, 6, 1)->Save(directory, "replay").ok());
  const ReplayLayout bytes{2, 1, ObservationType::kUint8};
  const std::pair<ReplayLayout, int64_t> others[] = {
      {{3, 1}, 6}, {{2, 2}, 6}, {{2, 1}, 7}, {bytes, 6}};
  for (const auto& [layout, capacity] : others) {
    const Status status =
        MakeBuffer(layout, capacity, 1)->Restore(directory, "replay");
    EXPECT(status.code() == Code::kInvalidArgument);
    EXPECT(status.message().find("observation_size=2, action_size=1, "
                                 "observation_dtype=float32, capacity=6") !=
           std::string::npos);
  }
  fs::remove_all(directory);
}

void TestAFailedSaveLeavesTheEarlierOne() {
  const std::string directory = TemporaryDirectory();
  auto buffer = MakeBuffer({2, 1}, 6, 1);
  buffer->Insert(4, Numbered(0, 4, {2, 1}).source());
  EXPECT(buffer->Save(directory, "replay").ok());
  buffer->Insert(1, Numbered(4, 1, {2, 1}).source());
  fs::create_directory(directory + "/replay.index.tmp");  // cannot be opened
  const Status status = buffer->Save(directory, "replay");
  EXPECT(status.code() == Code::kUnavailable);
  EXPECT(status.message().find("replay.index.tmp") != std::string::npos);
  auto restored = MakeBuffer({2, 1}, 6, 1);
  EXPECT(restored->Restore(directory, "replay").ok());
  EXPECT(Size(*restored) == 4);
  fs::remove_all(directory);
  WriteFile(directory, "a file where the directory should be");
  EXPECT(!buffer->Save(directory, "replay").ok());
  fs::remove(directory);
}

void RunAll() {
  TestPhiloxGivesThePublishedVectors();
  TestUniformIndexCoversItsRange();
  TestCrc32IsZlibs();
  TestRowsStayWithinTheirBudget();
  TestDrawsAreTheRecordedOnes();
  TestTheRingKeepsTheLastRows();
  TestPartsOfASampleEqualTheWhole();
  TestBadArgumentsAreRefused();
  TestMemoryGrowsAsTheBufferFills();
  TestThreadsNeverSeeATornRow();
  TestRestoreGoesOnWhereSaveStopped();
  TestASaveWritesWhatIsNewOnly();
  TestNothingIsRemovedWhileAnIndexCannotBeRead();
  TestDamagedFilesAreRefused();
  TestOtherBuffersFilesAreRefused();
  TestAFailedSaveLeavesTheEarlierOne();
}

}  // namespace
}  // namespace tfsac

int main() {
  tfsac::RunAll();
  std::puts("replay_buffer_test: all passed");
}
