#include "dataset/source_of.h"

#include <utility>

#include "alnair/source/local_source.h"
#include "dataset/job/miss_source.h"
#include "dataset/node.h"
#include "s3/s3_source_sharing.h"
#include "source/url.h"

namespace alnair {

NamedSource source_of(const DatasetOptions& options, std::shared_ptr<RequestSlots> slots) {
  if (options.object_source != nullptr) return {options.object_source, options.scope};
  const SourceUrl url = parse_source_url(options.source);
  if (!options.miss_socket.empty()) {
    const auto tiers = [cache = with_default_directories(options.cache)] {
      const auto node = open_node(cache);
      return std::pair(node->redis, node->spill);
    };
    return {open_miss_source({options.miss_identity, options.miss_socket, options.cache.chunk_size, tiers}),
            url.path.empty() ? options.scope : std::vector{url.path}};
  }
  if (url.kind == SourceUrl::Kind::kFile) return {open_local_source(url.path), options.scope};
  return {open_s3_source_sharing(url.bucket, options.s3, std::move(slots)),
          url.path.empty() ? options.scope : std::vector{url.path}};
}

}  // namespace alnair
