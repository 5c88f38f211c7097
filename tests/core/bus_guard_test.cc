#include "core/bus_guard.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "core/block_signals.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

TEST(BusGuard, AThreadWithoutSignalsSurvivesAFileThatWasCut) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer does not support a return from SIGBUS";
#endif
  testing::TemporaryDirectory directory;
  const std::string path = directory / "file";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(ftruncate(fd, 4096), 0);
  void* mapped = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_EQ(ftruncate(fd, 0), 0);
  install_bus_guard();
  bool survived = true;
  {
    const BlockSignals blocked;
    std::thread([&] {
      survived = !survives_bus_error([&] { return *static_cast<volatile char*>(mapped) == 0; });
    }).join();
  }
  EXPECT_TRUE(survived) << "it read what is not there";
  munmap(mapped, 4096);
  close(fd);
}

}  // namespace
}  // namespace alnair
