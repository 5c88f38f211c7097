// From a listing to a manifest's bytes. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "alnair/source/object_source.h"
#include "dataset/manifest/format.h"

namespace alnair::manifest {

// Puts the objects in bytewise key order. Of equal keys the most recently modified stays.
void sort_objects(std::vector<ObjectInfo>& objects);

// The canonical body of sorted objects with distinct keys.
std::vector<std::byte> encode_body(std::span<const ObjectInfo> objects);

// The blob (envelope and zstd frame) of a body.
std::vector<std::byte> compress_body(std::span<const std::byte> body);

}  // namespace alnair::manifest
