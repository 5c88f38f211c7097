// ListObjectsV2: several prefixes at once, page after page.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "alnair/source/object_source.h"
#include "s3/s3_core.h"
#include "s3/xml.h"

namespace alnair {

// As ObjectSource::list; `page` runs on the calling thread, while the next pages are on their way.
void list_objects(const std::shared_ptr<S3Core>& core, std::span<const std::string> prefixes,
                  const std::function<void(std::vector<ObjectInfo>&&)>& page, const Interrupt& interrupt);

// As ObjectSource::names_below.
std::vector<std::string> list_names_below(const std::shared_ptr<S3Core>& core, std::string_view prefix,
                                          std::size_t limit, const Interrupt& interrupt);

// Asks for a single key, to hear from the server what is wrong with the bucket or the credentials. Throws
// what it finds.
void probe_bucket(const std::shared_ptr<S3Core>& core, const Interrupt& interrupt);

}  // namespace alnair
