#include "dataset/entry_lookup.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/nearest_names.h"
#include "source/prefixes.h"

namespace alnair {
namespace {

constexpr std::size_t kHintListing = 1000;  // names looked at for a hint
constexpr std::size_t kHints = 3;
constexpr std::size_t kThreads = 16;
constexpr std::size_t kNeighbours = 16;  // entries of one folder that make its listing worth a try

// ---- what is asked of the source

[[noreturn]] void throw_no_match(ObjectSource& source, const std::string& entry, const Interrupt& interrupt) {
  std::string_view folder = entry;
  if (folder.ends_with('/')) folder.remove_suffix(1);
  folder = folder.substr(0, folder.rfind('/') + 1);  // rfind's npos + 1 is 0
  auto names = source.names_below(folder, kHintListing, interrupt);
  if (names.empty() && !folder.empty()) names = source.names_below("", kHintListing, interrupt);
  std::string message = fmt::format("no object in {} matches '{}'", source.identity(), entry);
  message += names.empty() ? ": there are no objects at all"
                           : fmt::format("; near it: {}", quoted_list(nearest_names(entry, std::move(names), kHints)));
  throw NotFoundError(message);
}

// The rules, over two questions: the object of exactly that key; whether any key starts with a prefix.
template <typename Stat, typename AnyBelow>
std::optional<EntryMatch> match(const std::string& entry, const Stat& stat, const AnyBelow& any_below) {
  if (entry.empty()) return EntryMatch();
  if (entry.ends_with('*') || entry.ends_with('/')) {
    std::string prefix = entry.ends_with('*') ? entry.substr(0, entry.size() - 1) : entry;
    if (!any_below(prefix)) return std::nullopt;
    return EntryMatch{std::nullopt, std::move(prefix)};
  }
  if (auto object = stat(entry)) return EntryMatch{std::move(object), ""};
  if (any_below(entry + "/")) return EntryMatch{std::nullopt, entry + "/"};
  if (any_below(entry)) return EntryMatch{std::nullopt, entry, true};
  return std::nullopt;
}

// The object of exactly that key, from a listing: of all keys that begin with it, it is the first.
std::optional<ObjectInfo> listed(ObjectSource& source, const std::string& key, const Interrupt& interrupt) {
  struct Enough {};
  std::optional<ObjectInfo> found;
  try {
    source.list({&key, 1},
                [&](std::vector<ObjectInfo>&& page) {
                  const auto object = std::ranges::find(page, key, &ObjectInfo::key);
                  if (object != page.end()) found = std::move(*object);
                  throw Enough();
                },
                interrupt);
  } catch (const Enough&) {
  }
  return found;
}

EntryMatch ask(ObjectSource& source, const std::string& entry, const Interrupt& interrupt) {
  auto found = match(
      entry,
      [&](const std::string& key) {
        try {
          return source.stat(key, interrupt);
        } catch (const AccessError&) {  // HEAD may be forbidden where listing is not
          return listed(source, key, interrupt);
        }
      },
      [&](const std::string& prefix) { return !source.names_below(prefix, 1, interrupt).empty(); });
  if (!found) throw_no_match(source, entry, interrupt);
  return *std::move(found);
}

// All objects below a folder in the order of keys; nullopt if they are too many, or listing is not allowed there.
std::optional<std::vector<ObjectInfo>> list_folder(ObjectSource& source, const std::string& folder, std::size_t at_most,
                                                   const Interrupt& interrupt) {
  struct TooMany {};
  std::vector<ObjectInfo> objects;
  try {
    source.list({&folder, 1},
                [&](std::vector<ObjectInfo>&& page) {
                  if (objects.size() + page.size() > at_most) throw TooMany();
                  std::ranges::move(page, std::back_inserter(objects));
                },
                interrupt);
  } catch (const TooMany&) {
    return std::nullopt;
  } catch (const AccessError&) {
    return std::nullopt;
  }
  std::ranges::sort(objects, {}, &ObjectInfo::key);
  return objects;
}

std::optional<EntryMatch> match_in(const std::vector<ObjectInfo>& sorted, const std::string& entry) {
  const auto from = [&sorted](const std::string& text) { return std::ranges::lower_bound(sorted, text, {}, &ObjectInfo::key); };
  return match(
      entry,
      [&](const std::string& key) {
        const auto found = from(key);
        return found != sorted.end() && found->key == key ? std::optional(*found) : std::nullopt;
      },
      [&](const std::string& prefix) {
        const auto found = from(prefix);
        return found != sorted.end() && starts_with(found->key, prefix);
      });
}

// ---- many at once

// Runs work(0), ..., work(count - 1) on a few threads. The first failure ends the others, and is thrown.
void for_each_at_once(std::size_t count, const std::function<void(std::size_t, const Interrupt&)>& work,
                      const Interrupt& interrupt) {
  if (count <= 1) return count == 1 ? work(0, interrupt) : void();
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t running = std::min(count, kThreads);  // guarded by mutex
  std::exception_ptr failure;                       // guarded by mutex
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  const Interrupt stopped = [&stop] {
    if (stop) throw CancelledError("The look-up was cancelled.");
  };
  const auto run = [&] {
    for (std::size_t i; !stop && (i = next++) < count;) {
      try {
        work(i, stopped);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!stop.exchange(true)) failure = std::current_exception();
      }
    }
    const std::lock_guard lock(mutex);
    --running;
    ended.notify_all();
  };
  std::vector<std::jthread> threads;
  {
    const BlockSignals quiet;
    for (std::size_t i = running; i > 0; --i) threads.emplace_back(run);
  }
  std::unique_lock lock(mutex);
  while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return running == 0; })) {
    if (!interrupt) continue;
    lock.unlock();
    try {
      interrupt();
    } catch (...) {
      stop = true;
      throw;  // the threads are joined
    }
    lock.lock();
  }
  if (failure) std::rethrow_exception(failure);
}

// "train/a/1.png" and "train/a/" are in "train/a/" and "train/".
std::string folder_of(std::string_view entry) {
  if (entry.ends_with('/')) entry.remove_suffix(1);
  return std::string(entry.substr(0, entry.rfind('/') + 1));
}

}  // namespace

std::vector<EntryMatch> look_up_entries(ObjectSource& source, std::span<const std::string> entries,
                                        const Interrupt& interrupt) {
  std::vector<EntryMatch> matches(entries.size());
  std::map<std::string, std::vector<std::size_t>> folders;
  for (std::size_t i = 0; i < entries.size(); ++i) folders[folder_of(entries[i])].push_back(i);

  std::vector<std::size_t> left;
  std::vector<std::pair<const std::string*, const std::vector<std::size_t>*>> crowded;
  for (const auto& [folder, members] : folders) {
    if (members.size() < kNeighbours)
      left.insert(left.end(), members.begin(), members.end());
    else
      crowded.emplace_back(&folder, &members);
  }
  std::mutex mutex;  // guards `left`
  for_each_at_once(
      crowded.size(),
      [&](std::size_t c, const Interrupt& stopped) {
        const auto& [folder, members] = crowded[c];
        // No more pages than requests are saved, or nearly.
        const auto objects = list_folder(source, *folder, 4000 + 100 * members->size(), stopped);
        for (const std::size_t i : *members) {
          if (auto found = objects ? match_in(*objects, entries[i]) : std::nullopt) {
            matches[i] = *std::move(found);
          } else {
            const std::lock_guard lock(mutex);
            left.push_back(i);  // what matches nothing has its message from there
          }
        }
      },
      interrupt);
  std::ranges::sort(left);
  for_each_at_once(
      left.size(), [&](std::size_t i, const Interrupt& stopped) { matches[left[i]] = ask(source, entries[left[i]], stopped); },
      interrupt);
  return matches;
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const auto& name : names) quoted.push_back(fmt::format("'{}'", name));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

}  // namespace alnair
