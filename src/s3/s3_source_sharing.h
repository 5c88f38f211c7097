// S3 sources of a node that share its connections and requests.
#pragma once

#include <memory>
#include <string>

#include "alnair/source/s3_source.h"
#include "http/request_slots.h"

namespace alnair {

// As open_s3_source(); the limits of connections and requests hold for all sources that share `slots`, in whichever process.
std::shared_ptr<ObjectSource> open_s3_source_sharing(const std::string& bucket, const S3Options& options,
                                                     std::shared_ptr<RequestSlots> slots);

}  // namespace alnair
