// Reads every object of the source that is named, and prints how many there were and the sum of their bytes.
#include <alnair/cache/tier.h>
#include <alnair/catalog/catalog.h>
#include <alnair/core/error.h>
#include <alnair/core/hash.h>
#include <alnair/dataset/dataset.h>
#include <alnair/source/local_source.h>
#include <alnair/source/s3_source.h>

#include <cstdint>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    alnair::DatasetOptions options;
    options.source = argv[1];

    const auto dataset = alnair::Dataset::open(options);
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < dataset->manifest().size(); ++i) {
      const alnair::View view = dataset->read(i);
      for (const std::byte byte : view.bytes()) sum += std::to_integer<std::uint64_t>(byte);
    }
    std::cout << dataset->manifest().size() << " objects, sum " << sum << "\n";
  } catch (const alnair::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
