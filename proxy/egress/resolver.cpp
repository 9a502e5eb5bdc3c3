#include "proxy/egress/resolver.hpp"

#include <algorithm>

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "vmm/base/log.hpp"

namespace agentvm::egress {
namespace {

std::optional<IpAddress> from_sockaddr(const sockaddr* address) {
  IpAddress result;
  if (address == nullptr) return std::nullopt;
  if (address->sa_family == AF_INET) {
    std::memcpy(result.bytes.data(), &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
  } else if (address->sa_family == AF_INET6) {
    result.v6 = true;
    std::memcpy(result.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, 16);
  } else {
    return std::nullopt;
  }
  return result;
}

}  // namespace

std::vector<IpAddress> resolve_on_host(const std::string& host) {
  if (const auto address = IpAddress::parse(host)) return {*address};
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  // With a final dot the resolver's search domains stay out: "internal" must not become "internal.example.com".
  // /etc/hosts knows the name only without it.
  if (::getaddrinfo((host + ".").c_str(), nullptr, &hints, &list) != 0 &&
      ::getaddrinfo(host.c_str(), nullptr, &hints, &list) != 0)
    return {};
  const std::unique_ptr<addrinfo, decltype([](addrinfo* info) { ::freeaddrinfo(info); })> owner(list);
  std::vector<IpAddress> result;
  for (const addrinfo* info = list; info != nullptr && result.size() < 16; info = info->ai_next)
    if (const auto address = from_sockaddr(info->ai_addr);
        address && std::find(result.begin(), result.end(), *address) == result.end())
      result.push_back(*address);
  return result;
}

std::vector<IpAddress> own_addresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype([](ifaddrs* one) { ::freeifaddrs(one); })> owner(list);
  std::vector<IpAddress> result;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next)
    if (const auto address = from_sockaddr(one->ifa_addr)) result.push_back(*address);
  return result;
}

ResolverPool::ResolverPool(Resolve resolve, unsigned threads, std::size_t queue_limit)
    : shared_(std::make_shared<Shared>()), queue_limit_(queue_limit) {
  shared_->resolve = std::move(resolve);
  for (unsigned i = 0; i < threads; ++i) std::thread([shared = shared_] { run(shared); }).detach();
}

ResolverPool::~ResolverPool() {
  const std::lock_guard lock(shared_->mutex);
  shared_->stopping = true;
  shared_->jobs.clear();
  shared_->work.notify_all();
}

bool ResolverPool::lookup(std::string host, Done done) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->jobs.size() >= queue_limit_) return false;
  shared_->jobs.push_back({std::move(host), std::move(done)});
  shared_->work.notify_one();
  return true;
}

void ResolverPool::run(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  while (true) {
    shared->work.wait(lock, [&] { return shared->stopping || !shared->jobs.empty(); });
    if (shared->stopping) return;
    const Job job = std::move(shared->jobs.front());
    shared->jobs.pop_front();
    lock.unlock();
    std::vector<IpAddress> addresses;
    try {
      addresses = shared->resolve(job.host);
    } catch (const std::exception& error) {
      log::warn("egress", "resolving {}: {}", job.host, error.what());
    }
    lock.lock();
    if (shared->stopping) return;
    job.done(std::move(
        addresses));  // under the lock, so that the destructor can promise that none comes later; it only posts
  }
}

}  // namespace agentvm::egress
