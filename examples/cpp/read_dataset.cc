#include <cstdio>
#include "alnair/core/hash.h"
int main() { std::puts(alnair::content_hash({}).hex().c_str()); }
