#include "sync/git/large_blocks.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include <fcntl.h>
#include <git2/sys/alloc.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sync/git/handles.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t large_bytes = 16u << 20;

struct LargeBlocks {
  std::string path;
  std::uint64_t limit_bytes = 0, used_bytes = 0;
  std::map<void*, std::size_t> blocks;
  bool refused = false;
};
/// libgit2's allocator has no argument of its own.
LargeBlocks large;

/// The file has no name by the time the block is handed out. Where the disk has no room for a page, touching it ends
/// the process by a signal that the parent knows (SIGBUS), as with the pack itself.
void* map_file(std::size_t size) {
  const UniqueFd file(::open(large.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return nullptr;
  ::unlink(large.path.c_str());
  if (::ftruncate(file.get(), static_cast<off_t>(size)) < 0) return nullptr;
  void* block = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  return block == MAP_FAILED ? nullptr : block;
}

void* allocate_large(std::size_t size) {
  if (size > large.limit_bytes - large.used_bytes) return nullptr;
  void* block = map_file(size);
  if (!block) return nullptr;
  try {
    large.blocks.emplace(block, size);
  } catch (const std::bad_alloc&) {
    ::munmap(block, size);
    return nullptr;
  }
  large.used_bytes += size;
  return block;
}

/// Zero where it is large.
void* allocate(std::size_t size) noexcept {
  void* block = size >= large_bytes ? allocate_large(size) : std::malloc(size ? size : 1);
  if (!block) large.refused = true;
  return block;
}

void release(void* block) noexcept {
  const auto found = large.blocks.find(block);
  if (found == large.blocks.end()) return std::free(block);
  ::munmap(block, found->second);
  large.used_bytes -= found->second;
  large.blocks.erase(found);
}

bool product(std::size_t count, std::size_t size, std::size_t& total) {
  const bool fits = !__builtin_mul_overflow(count, size, &total);
  if (!fits) large.refused = true;
  return fits;
}

// What libgit2 calls. The last two arguments say where from.
void* on_malloc(std::size_t size, const char*, int) {
  return allocate(size);
}

[[maybe_unused]] void* on_calloc(std::size_t count, std::size_t size, const char*, int) {
  std::size_t total = 0;
  if (!product(count, size, total)) return nullptr;
  void* block = allocate(total);
  if (block && total < large_bytes) std::memset(block, 0, total);
  return block;
}

[[maybe_unused]] char* on_substrdup(const char* text, std::size_t size, const char*, int) {
  auto* copy = static_cast<char*>(allocate(size + 1));
  if (!copy) return nullptr;
  std::memcpy(copy, text, size);
  copy[size] = '\0';
  return copy;
}

[[maybe_unused]] char* on_strndup(const char* text, std::size_t size, const char* file, int line) {
  return on_substrdup(text, ::strnlen(text, size), file, line);
}

[[maybe_unused]] char* on_strdup(const char* text, const char* file, int line) {
  return on_substrdup(text, std::strlen(text), file, line);
}

void* on_realloc(void* old, std::size_t size, const char*, int) {
  const auto known = large.blocks.find(old);
  if (known == large.blocks.end() && size < large_bytes) {
    void* block = std::realloc(old, size ? size : 1);
    if (!block) large.refused = true;
    return block;
  }
  void* block = allocate(size);
  if (!block || !old) return block;
  // A small block says what it can hold, which is at least what was asked for.
  const auto held = known == large.blocks.end() ? ::malloc_usable_size(old) : known->second;
  std::memcpy(block, old, std::min(size, held));
  release(old);
  return block;
}

[[maybe_unused]] void* on_reallocarray(void* old, std::size_t count, std::size_t size, const char* file, int line) {
  std::size_t total = 0;
  return product(count, size, total) ? on_realloc(old, total, file, line) : nullptr;
}

[[maybe_unused]] void* on_mallocarray(std::size_t count, std::size_t size, const char*, int) {
  std::size_t total = 0;
  return product(count, size, total) ? allocate(total) : nullptr;
}

/// libgit2 asked for each kind of block until 1.6, and for three since.
template <class Allocator>
Allocator our_allocator() {
  Allocator allocator{};
  allocator.gmalloc = on_malloc;
  allocator.grealloc = on_realloc;
  allocator.gfree = release;
  if constexpr (requires { allocator.gcalloc; }) {
    allocator.gcalloc = on_calloc;
    allocator.gstrdup = on_strdup;
    allocator.gstrndup = on_strndup;
    allocator.gsubstrdup = on_substrdup;
    allocator.greallocarray = on_reallocarray;
    allocator.gmallocarray = on_mallocarray;
  }
  return allocator;
}

}  // namespace

void keep_large_blocks_on_disk(const std::string& folder, std::uint64_t limit_bytes) {
  static auto allocator = our_allocator<git_allocator>();
  large.path = folder + "/large-block";
  large.limit_bytes = limit_bytes;
  check_git(git_libgit2_opts(GIT_OPT_SET_ALLOCATOR, &allocator), "giving libgit2 its memory");
}

bool ran_out_of_memory() {
  return large.refused;
}

}  // namespace agentvm::git
