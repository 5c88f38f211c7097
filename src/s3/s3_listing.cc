#include "s3/s3_listing.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "alnair/core/error.h"
#include "s3/s3_operation.h"
#include "source/prefixes.h"

namespace alnair {
namespace {

constexpr std::size_t kPrefixesAtOnce = 16;

struct Where {
  std::string prefix;
  std::string token;        // continuation-token
  std::string start_after;  // for servers without tokens
  bool delimited = false;   // stop at the next '/'
  std::size_t max_keys = 1000;
  // Brent's: a token that comes again after a run of up to `stride` others.
  std::string remembered = {};
  std::size_t steps = 0, stride = 1;
};

S3Call list_call(const S3Core& core, const Where& where) {
  std::vector<QueryParameter> parameters{
      {"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", std::to_string(where.max_keys)}};
  if (!where.prefix.empty()) parameters.push_back({"prefix", where.prefix});
  if (!where.token.empty()) parameters.push_back({"continuation-token", where.token});
  if (!where.start_after.empty()) parameters.push_back({"start-after", where.start_after});
  if (where.delimited) parameters.push_back({"delimiter", "/"});
  S3Call call;
  call.what = S3Asked::What::kList;
  call.query = canonical_query(parameters);
  if (core.config.options.requester_pays) call.signed_headers.push_back({"x-amz-request-payer", "requester"});
  return call;
}

// What the loop threads hand to the thread that lists. Outlives list_objects() if that is interrupted.
struct Arrivals {
  struct Page {
    std::size_t listing;
    View body;
    std::exception_ptr error;
  };
  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<Page> pages;  // guarded by mutex
};

Arrivals::Page next_page(Arrivals& arrivals, const Interrupt& interrupt) {
  std::unique_lock lock(arrivals.mutex);
  while (!arrivals.arrived.wait_for(lock, std::chrono::milliseconds(100),
                                    [&] { return !arrivals.pages.empty(); })) {
    if (!interrupt) continue;
    lock.unlock();
    interrupt();
    lock.lock();
  }
  Arrivals::Page page = std::move(arrivals.pages.front());
  arrivals.pages.pop_front();
  return page;
}

// Listings that are on their way, cancelled when the caller leaves early.
class Listings {
 public:
  explicit Listings(std::shared_ptr<S3Core> core) : core_(std::move(core)) {}
  ~Listings() {
    for (const auto& operation : operations_)
      if (operation) operation->cancel();
  }
  Listings(const Listings&) = delete;
  Listings& operator=(const Listings&) = delete;

  void ask(std::size_t listing, const Where& where) {
    S3Call call = list_call(*core_, where);
    call.done = [arrivals = arrivals_, listing](HttpResponse&& response, std::exception_ptr error) {
      const std::lock_guard lock(arrivals->mutex);
      arrivals->pages.push_back({listing, std::move(response.body), std::move(error)});
      arrivals->arrived.notify_one();
    };
    if (operations_.size() <= listing) operations_.resize(listing + 1);
    operations_[listing] = S3Operation::start(core_, std::move(call));
  }

  // The next page that arrives, of any listing. Throws its error, or what `interrupt` throws.
  std::pair<std::size_t, ListPage> take(const Interrupt& interrupt) {
    Arrivals::Page page = next_page(*arrivals_, interrupt);
    operations_[page.listing] = nullptr;
    if (page.error) std::rethrow_exception(page.error);
    return {page.listing, parse_list_page(std::string(page.body.text()))};
  }

 private:
  const std::shared_ptr<S3Core> core_;
  const std::shared_ptr<Arrivals> arrivals_ = std::make_shared<Arrivals>();
  std::vector<std::shared_ptr<S3Operation>> operations_;
};

// Whether there is another page; `where` then asks for it.
bool advance(Where& where, const ListPage& page) {
  if (!page.truncated) return false;
  if (!page.next_token.empty()) {
    if (page.next_token == where.remembered)
      throw SourceError(
          "The S3 server repeats a page of its listing: the same continuation token came twice.");
    if (++where.steps == where.stride) {
      where.remembered = page.next_token;
      where.steps = 0;
      where.stride *= 2;
    }
    where.token = page.next_token;
    return true;
  }
  std::string last = page.objects.empty() ? "" : page.objects.back().key;
  if (!page.common_prefixes.empty()) last = std::max(last, page.common_prefixes.back());
  if (last <= where.start_after)
    throw SourceError(
        "The S3 server's listing does not advance: a page that is marked as truncated names no new key.");
  where.start_after = std::move(last);
  return true;
}

}  // namespace

void list_objects(const std::shared_ptr<S3Core>& core, std::span<const std::string> prefixes,
                  const std::function<void(std::vector<ObjectInfo>&&)>& page, const Interrupt& interrupt) {
  std::vector<Where> wheres;
  for (std::string& prefix : disjoint_prefixes(prefixes))
    wheres.push_back({std::move(prefix), "", "", false, 1000});
  Listings listings(core);
  std::size_t next = 0, open = 0;
  for (; next < wheres.size() && open < kPrefixesAtOnce; ++next, ++open) listings.ask(next, wheres[next]);
  while (open > 0) {
    auto [listing, arrived] = listings.take(interrupt);
    if (advance(wheres[listing], arrived)) {
      listings.ask(listing, wheres[listing]);
    } else if (next < wheres.size()) {
      listings.ask(next, wheres[next]);
      ++next;
    } else {
      --open;
    }
    if (!arrived.objects.empty()) page(std::move(arrived.objects));
  }
}

std::vector<std::string> list_names_below(const std::shared_ptr<S3Core>& core, std::string_view prefix,
                                          std::size_t limit, const Interrupt& interrupt) {
  std::vector<std::string> names;
  Where where{std::string(prefix), "", "", true,
              std::min<std::size_t>(std::max<std::size_t>(limit, 1), 1000)};
  Listings listings(core);
  for (bool more = limit > 0; more;) {
    listings.ask(0, where);
    const ListPage page = listings.take(interrupt).second;
    names.insert(names.end(), page.common_prefixes.begin(), page.common_prefixes.end());
    for (const ObjectInfo& object : page.objects) names.push_back(object.key);
    more = names.size() < limit && advance(where, page);
  }
  std::sort(names.begin(), names.end());
  if (names.size() > limit) names.resize(limit);
  return names;
}

void probe_bucket(const std::shared_ptr<S3Core>& core, const Interrupt& interrupt) {
  Listings listings(core);
  listings.ask(0, {"", "", "", false, 1});
  listings.take(interrupt);
}

}  // namespace alnair
