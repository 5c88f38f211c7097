#include "dataset/source_of.h"

#include <utility>

#include "alnair/source/local_source.h"
#include "source/url.h"

namespace alnair {

NamedSource source_of(const DatasetOptions& options, std::shared_ptr<RequestSlots> slots) {
  if (options.object_source != nullptr) return {options.object_source, options.scope};
  const SourceUrl url = parse_source_url(options.source);
  if (url.kind == SourceUrl::Kind::kFile) return {open_local_source(url.path), options.scope};
  return {open_s3_source(url.bucket, options.s3, std::move(slots)), url.path.empty() ? options.scope : std::vector{url.path}};
}

}  // namespace alnair
