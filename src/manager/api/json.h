// Answers in JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "manager/http/message.h"

namespace alnair::manager {

inline Response json_response(int status, const nlohmann::json& value) {
  Response response;
  response.status = status;
  // Keys in S3 need not be UTF-8, and messages may quote them.
  response.body = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

inline Response no_content() {
  Response response;
  response.status = 204;
  return response;
}

inline nlohmann::json number_or_null(const std::optional<std::uint64_t>& number) {
  return number ? nlohmann::json(*number) : nlohmann::json(nullptr);
}

}  // namespace alnair::manager
