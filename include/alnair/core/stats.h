// Counters of this process and its forked children, by name: what alnair.stats() gives in Python.
#pragma once

#include <map>
#include <string>

namespace alnair {

// "s3_get_object", "s3_bytes_received", "memory_hits", "disk_hit_bytes", "source_hits", "reads"...: each with
// its meaning and unit in docs/configuration.md. Cheap. Thread-safe.
std::map<std::string, double> stats();

}  // namespace alnair
