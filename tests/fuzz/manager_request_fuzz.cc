// Whatever a request's first line and body contain, they are taken apart within limits, or refused with a problem. The input is
// the target, a newline, and the body.
#include "fuzz.h"
#include "manager/api/fields.h"
#include "manager/http/message.h"
#include "manager/service/usage.h"

using namespace alnair;
using namespace alnair::manager;

namespace {

void read_fields(const nlohmann::json& body) {
  Fields fields(body, "");
  const std::string name = fields.text("name", 253);
  fuzz::check(!name.empty() && name.size() <= 253 && name.find('\n') == std::string::npos, "a name is within its limits");
  fuzz::check(fields.number("minutes", 1000).value_or(0) <= 1000, "a number is within its limits");
  (void)fields.boolean("enabled");
  fuzz::check(fields.texts("keys", 10, 20).size() <= 10, "a list is within its limits");
  if (const auto* inner = fields.object("datasource", false)) {
    Fields more(*inner, "datasource");
    (void)more.text_or("bucket", 255, "");
    more.end();
  }
  fields.end();
}

// What a heartbeat may carry.
void read_report(const nlohmann::json& report) {
  UsageTotals usage;
  usage.reported("job", report, {});
  usage.reported("job", report, {});
  const ChunkUse total = usage.total();
  fuzz::check(total.reads >= 0 && total.reads <= 2e15, "a sum of counters is one");
  for (const auto& [node, tiers] : usage.nodes({{.id = "job", .node = "node"}}))
    for (const auto& tier : {tiers.memory, tiers.disk})
      fuzz::check(!tier || tier->used_bytes <= 8ull << 60, "how full a node is has a bound");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::string_view target = text.substr(0, text.find('\n'));
  const std::string_view body = target.size() == text.size() ? std::string_view() : text.substr(target.size() + 1);
  Request request;
  const std::size_t question = target.find('?');
  if (parse_target(target.substr(0, question), question == std::string_view::npos ? "" : target.substr(question + 1), request))
    for (const std::string& segment : request.path)
      fuzz::check(!segment.empty() && segment != "." && segment != ".." && segment.find('\0') == std::string::npos,
                  "a path has no tricks");
  try {
    const nlohmann::json parsed = parse_body(std::string(body), "application/json");
    fuzz::check(parsed.is_object(), "a body is an object");
    read_report(parsed);
    read_fields(parsed);
  } catch (const Problem& problem) {
    fuzz::check(problem.status() == 400 || problem.status() == 422, "a problem is the client's");
    const Response response = problem_response(problem, "id");
    fuzz::check(nlohmann::json::accept(response.body), "a problem is JSON");
  }
  return 0;
}
