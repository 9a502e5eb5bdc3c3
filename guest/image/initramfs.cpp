#include "guest/image/initramfs.hpp"

#include <cstring>

#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "guest/image/modules.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr std::size_t largest_guest_program_bytes = 64u << 20;

void pad(std::string& data, std::size_t to) {
  data.append((to - data.size() % to) % to, '\0');
}

/// A program that needs a loader would leave the guest without its first process, seen only as a kernel panic.
void check_static(const std::string& program, const std::string& path) {
  Elf64_Ehdr header;
  const auto refuse = [&](const char* reason) {
    throw Error(ErrorCode::operation_failed, fmt::format("{} cannot be the guest's first process: {}", path, reason));
  };
  if (program.size() < sizeof header || std::memcmp(program.data(), ELFMAG, SELFMAG) != 0) refuse("not an ELF program");
  std::memcpy(&header, program.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr))
    refuse("not a 64-bit program");
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const auto offset = header.e_phoff + std::uint64_t{i} * sizeof(Elf64_Phdr);
    if (offset > program.size() || program.size() - offset < sizeof(Elf64_Phdr))
      refuse("its program headers are cut off");
    Elf64_Phdr segment;
    std::memcpy(&segment, program.data() + offset, sizeof segment);
    if (segment.p_type == PT_INTERP) refuse("it is not linked statically");
  }
}

}  // namespace

void CpioArchive::header(std::string_view path, unsigned mode, std::size_t size, unsigned major, unsigned minor) {
  const unsigned links = S_ISDIR(mode) ? 2 : 1;
  data_ += fmt::format("070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", ++inode_,
                       mode, 0, 0, links, 0, size, 0, 0, major, minor, path.size() + 1, 0);
  data_ += path;
  data_ += '\0';
  pad(data_, 4);
}

void CpioArchive::add_folder(std::string_view path, unsigned mode) {
  header(path, S_IFDIR | mode, 0, 0, 0);
}

void CpioArchive::add_file(std::string_view path, unsigned mode, std::string_view content) {
  header(path, S_IFREG | mode, content.size(), 0, 0);
  data_ += content;
  pad(data_, 4);
}

void CpioArchive::add_device(std::string_view path, unsigned mode, unsigned major, unsigned minor) {
  header(path, S_IFCHR | mode, 0, major, minor);
}

std::string CpioArchive::finish() {
  header("TRAILER!!!", 0, 0, 0, 0);
  pad(data_, 512);
  inode_ = 0;
  return std::exchange(data_, {});
}

std::string modules_archive(const fs::path& tree) {
  constexpr std::size_t limit_bytes = 16u << 20;
  const auto folder = tree / "lib" / "modules" / kernel_version(tree);
  const auto order = module_load_order(read_file(folder / "modules.dep", limit_bytes),
                                       read_file(folder / "modules.builtin", limit_bytes), boot_modules());
  CpioArchive archive;
  archive.add_folder("lib");
  archive.add_folder("lib/agentvm");
  archive.add_folder("lib/agentvm/modules");
  std::string list;
  unsigned number = 0;
  for (const auto& module : order) {
    auto name = fs::path(module).filename().string();
    name.resize(name.find(".ko") + 3);
    const auto path = fmt::format("lib/agentvm/modules/{:02}-{}", number++, name);
    archive.add_file(path, 0644, read_module(folder / module));
    list += "/" + path + "\n";
  }
  archive.add_file("lib/agentvm/modules.list", 0644, list);
  return archive.finish();
}

std::string init_archive(const fs::path& guest_program) {
  std::error_code ignored;
  if (!fs::is_regular_file(guest_program, ignored))
    throw Error(ErrorCode::host_lacks,
                fmt::format("{} is not there; it is built beside agentvm", guest_program.string()),
                "./bootstrap build");
  const auto program = read_file(guest_program, largest_guest_program_bytes);
  check_static(program, guest_program.string());
  CpioArchive archive;
  for (const auto* folder : {"dev", "proc", "sys", "root", "run", "tmp"}) archive.add_folder(folder);
  // Before devtmpfs is mounted, this is where the first message goes.
  archive.add_device("dev/console", 0600, 5, 1);
  archive.add_device("dev/null", 0666, 1, 3);
  archive.add_file("init", 0755, program);
  return archive.finish();
}

}  // namespace agentvm
