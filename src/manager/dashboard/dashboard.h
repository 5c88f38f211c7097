// The dashboard: one page without anything from elsewhere, which reads GET /v1/overview with a token that its user gives.
#pragma once

#include <string_view>

namespace alnair::manager {

extern const std::string_view kDashboardPage;

// What the page may do: run what is in it, and speak to where it comes from.
inline constexpr char kDashboardPolicy[] =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace alnair::manager
