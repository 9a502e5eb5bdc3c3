#include "vmm/domain_xml.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm {
namespace {

// PCI slots of bus 0. They are fixed so that a machine looks the same at every start (names of network cards and disks
// in the guest follow from them) and so that the card added on QEMU's command line, which libvirt does not know of,
// collides with nothing.
constexpr unsigned slot_spare_ports = 0x01;  // functions 0-3: free root ports for hot-plug
constexpr unsigned slot_network = 0x02;
constexpr unsigned slot_serial = 0x03;
constexpr unsigned slot_rng = 0x04;
constexpr unsigned slot_first_disk = 0x08;
constexpr unsigned slot_first_share = 0x10;
constexpr unsigned spare_port_count = 4, first_spare_bus = 1;
constexpr std::size_t device_limit_count = 8;

[[noreturn]] void refuse(const std::string& field, std::string_view why) {
  throw Error(ErrorCode::usage, fmt::format("machine specification: {} {}", field, why));
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    if (length == 0 || i + length > text.size()) return false;
    std::uint32_t code = length == 1 ? lead : lead & (0x7f >> length);
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3f);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    // U+FFFE and U+FFFF are no XML characters.
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) || code == 0xfffe || code == 0xffff)
      return false;
    i += length;
  }
  return true;
}

/// Text that XML and QEMU's log can carry in one line.
void check_text(const std::string& field, std::string_view text) {
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    refuse(field, "has a control character");
  if (!is_utf8(text)) refuse(field, "is not UTF-8");
}

void check_path(const std::string& field, const std::filesystem::path& path) {
  if (!path.is_absolute()) refuse(field, "is not an absolute path");
  check_text(field, path.string());
}

void check_socket(const std::string& field, const std::filesystem::path& path) {
  check_path(field, path);
  check_socket_path(path);
}

void check_charset(const std::string& field, std::string_view text, std::size_t limit_bytes) {
  const auto allowed = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (text.empty()) refuse(field, "is empty");
  if (text.size() > limit_bytes) refuse(field, fmt::format("is longer than {} characters", limit_bytes));
  if (!std::all_of(text.begin(), text.end(), allowed)) refuse(field, "has a character other than [A-Za-z0-9._-]");
}

void check_share(const ShareSpec& spec) {
  check_charset("share tag", spec.tag, 36);
  check_socket("share socket", spec.socket);
}

void check_uuid(const std::string& field, std::string_view text) {
  bool good = text.size() == 36;
  for (std::size_t i = 0; good && i < 36; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = text[i];
    good = dash ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  }
  if (!good) refuse(field, "is not a UUID");
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '\'':
        result += "&apos;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  return result;
}

std::string pci(unsigned slot, unsigned function = 0, bool multifunction = false, unsigned bus = 0) {
  return fmt::format("<address type='pci' domain='0x0000' bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'{}/>", bus,
                     slot, function, multifunction ? " multifunction='on'" : "");
}

std::string_view name_of(DiskFormat format) {
  return format == DiskFormat::raw ? "raw" : "qcow2";
}

std::string head(const MachineSpec& spec) {
  return fmt::format(
      "  <name>{}</name>\n  <uuid>{}</uuid>\n  <title>agentvm {}</title>\n"
      "  <metadata>\n    <agentvm:sandbox xmlns:agentvm='{}' home='{}' id='{}' name='{}'/>\n  </metadata>\n"
      "  <memory unit='KiB'>{}</memory>\n  <vcpu placement='static'>{}</vcpu>\n",
      escaped(spec.domain), escaped(spec.id), escaped(spec.sandbox), metadata_namespace, escaped(spec.home),
      escaped(spec.id), escaped(spec.sandbox), spec.memory.bytes() / 1024, spec.vcpus);
}

std::string cpu(const MachineSpec& spec) {
  const bool kvm = spec.accelerator == Accelerator::kvm;
  const std::string open =
      fmt::format("  <cpu mode='{}' check='none'", kvm ? "host-passthrough' migratable='on" : "maximum");
  const std::string topology = fmt::format("    <topology sockets='1' dies='1' cores='{}' threads='1'/>\n", spec.vcpus);
  std::string features;
  const auto disable = [&](std::string_view name) {
    features += fmt::format("    <feature policy='disable' name='{}'/>\n", name);
  };
  // Five levels of page tables are of no use to a guest of this size. And QEMU tells the width of addresses in a CPUID
  // leaf that it leaves out where no feature needs it (svm off): the kernel then takes its own addresses for wrong
  // ones, and paths in /proc read "xxxxxxxxx".
  if (!kvm) disable("la57");
  if (!spec.nested) disable("svm"), disable("vmx");
  return fmt::format("{}>\n{}{}  </cpu>\n", open, topology, features);
}

std::string disk(const DiskSpec& spec, std::size_t index) {
  std::string text = fmt::format(
      "    <disk type='file' device='disk'{}>\n      <driver name='qemu' type='{}' cache='writeback' "
      "discard='unmap'/>\n"
      "      <source file='{}'/>\n",
      " model='virtio-non-transitional'", name_of(spec.format), escaped(spec.path.native()));
  if (spec.backing)
    text += fmt::format(
        "      <backingStore type='file'>\n        <format type='{}'/>\n        <source file='{}'/>\n        "
        "<backingStore/>\n"
        "      </backingStore>\n",
        name_of(spec.backing_format), escaped(spec.backing->native()));
  else
    text += "      <backingStore/>\n";  // an empty one: libvirt and QEMU must not probe for a base
  text += fmt::format("      <target dev='vd{}' bus='virtio'/>\n", static_cast<char>('a' + index));
  if (spec.read_only) text += "      <readonly/>\n";
  if (!spec.serial.empty()) text += fmt::format("      <serial>{}</serial>\n", escaped(spec.serial));
  return text + fmt::format("      {}\n    </disk>\n", pci(slot_first_disk + static_cast<unsigned>(index)));
}

std::string share(const ShareSpec& spec, const std::string& address) {
  return fmt::format(
      "    <filesystem type='mount'>\n      <driver type='virtiofs' queue='1024'/>\n      <source socket='{}'/>\n"
      "      <target dir='{}'/>\n      {}\n    </filesystem>\n",
      escaped(spec.socket.native()), escaped(spec.tag), address);
}

std::string controllers() {
  std::string text =
      "    <controller type='usb' index='0' model='none'/>\n    <controller type='pci' index='0' model='pcie-root'/>\n";
  for (unsigned i = 0; i < spare_port_count; ++i)
    text += fmt::format("    <controller type='pci' index='{}' model='pcie-root-port'>\n      {}\n    </controller>\n",
                        i + 1, pci(slot_spare_ports, i, i == 0));
  return text + fmt::format(
                    "    <controller type='virtio-serial' index='0' model='virtio-non-transitional'>\n      {}\n    "
                    "</controller>\n",
                    pci(slot_serial));
}

std::string character_devices(const MachineSpec& spec) {
  return fmt::format(
      "    <serial type='unix'>\n      <source mode='bind' path='{}'/>\n      <target type='isa-serial' port='0'/>\n   "
      " </serial>\n"
      "    <console type='unix'>\n      <source mode='bind' path='{}'/>\n      <target type='serial' port='0'/>\n    "
      "</console>\n"
      "    <channel type='unix'>\n      <source mode='bind' path='{}'/>\n      <target type='virtio' name='{}'/>\n"
      "      <address type='virtio-serial' controller='0' bus='0' port='1'/>\n    </channel>\n",
      escaped(spec.serial_socket.native()), escaped(spec.serial_socket.native()), escaped(spec.agent_socket.native()),
      agent_port_name);
}

/// The files are the owner's already: libvirt must neither give them to somebody else nor back.
std::string owner(const MachinePlatform::Owner& who) {
  return fmt::format("  <seclabel type='static' model='dac' relabel='no'>\n    <label>+{}:+{}</label>\n  </seclabel>\n",
                     who.uid, who.gid);
}

/// libvirt has no element for a forwarded port of the user network (before passt, which version 9.0 refuses).
/// `restrict=on` drops whatever the guest sends but answers on the forwarded port; without it (nat) the guest also
/// reaches this host's 127.0.0.1 at 10.0.2.2: QEMU hands no switch for that through to its network stack.
std::string emulator_arguments(const MachineSpec& spec) {
  // libvirt restores from files of its own form alone.
  constexpr std::string_view incoming_arguments = "    <qemu:arg value='-incoming'/>\n    <qemu:arg value='defer'/>\n";
  const bool restricted = spec.network != NetworkMode::nat;
  return fmt::format(
      "  <qemu:commandline>\n    <qemu:arg value='-netdev'/>\n"
      "    <qemu:arg value='user,id=net0,ipv6=off,restrict={},hostfwd=tcp:127.0.0.1:{}-:22'/>\n    <qemu:arg "
      "value='-device'/>\n"
      "    <qemu:arg "
      "value='virtio-net-pci,netdev=net0,bus=pcie.0,addr=0x{:x},romfile=,disable-legacy=on,disable-modern=off'/>\n"
      "{}  </qemu:commandline>\n",
      restricted ? "on" : "off", spec.ssh_port, slot_network,
      spec.begin == MachineSpec::Begin::state ? incoming_arguments : "");
}

}  // namespace

void check_machine_spec(const MachineSpec& spec) {
  check_charset("domain", spec.domain, 64);
  check_uuid("id", spec.id);
  if (!spec.generation_id.empty()) check_uuid("generation_id", spec.generation_id);
  check_text("sandbox", spec.sandbox);
  if (!spec.home.empty()) check_charset("home", spec.home, 64);
  check_text("cmdline", spec.cmdline);
  if (spec.memory < ByteSize::mebibytes(64)) refuse("memory", "is below 64M");
  if (spec.vcpus < 1 || spec.vcpus > 255) refuse("vcpus", "is not in 1..255");
  if (spec.ssh_port == 0) refuse("ssh_port", "is 0");
  check_path("kernel", spec.kernel);
  check_path("initrd", spec.initrd);
  check_socket("serial_socket", spec.serial_socket);
  check_socket("agent_socket", spec.agent_socket);
  if (spec.disks.size() > device_limit_count) refuse("disks", fmt::format("has more than {}", device_limit_count));
  if (spec.shares.size() > device_limit_count) refuse("shares", fmt::format("has more than {}", device_limit_count));
  for (const auto& entry : spec.disks) {
    check_path("disk path", entry.path);
    if (entry.backing) check_path("disk backing", *entry.backing);
    if (!entry.serial.empty()) check_charset("disk serial", entry.serial, 20);
  }
  for (const auto& entry : spec.shares) check_share(entry);
}

std::string plugged_share_xml(const ShareSpec& spec) {
  check_share(spec);
  return share(spec, pci(0, 0, false, first_spare_bus));
}

std::string domain_xml(const MachineSpec& spec, const MachinePlatform& platform) {
  check_machine_spec(spec);
  check_path("emulator", platform.emulator);
  check_path("firmware", platform.firmware);
  std::string text = fmt::format("<domain type='{}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n",
                                 spec.accelerator == Accelerator::kvm ? "kvm" : "qemu");
  text += head(spec);
  if (platform.generation_id == MachinePlatform::GenerationId::supported && !spec.generation_id.empty())
    text += fmt::format("  <genid>{}</genid>\n", escaped(spec.generation_id));
  // Shared memory: virtiofsd maps the guest's memory.
  text += "  <memoryBacking>\n    <source type='memfd'/>\n    <access mode='shared'/>\n  </memoryBacking>\n";
  text += fmt::format(
      "  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n    <loader readonly='yes' type='rom'>{}</loader>\n"
      "    <kernel>{}</kernel>\n    <initrd>{}</initrd>\n    <cmdline>{}</cmdline>\n  </os>\n",
      escaped(platform.firmware.native()), escaped(spec.kernel.native()), escaped(spec.initrd.native()),
      escaped(spec.cmdline));
  text += "  <features>\n    <acpi/>\n    <apic/>\n    <vmport state='off'/>\n    <smm state='off'/>\n  </features>\n";
  text += cpu(spec);
  text += "  <clock offset='utc'>\n    <timer name='hpet' present='no'/>\n  </clock>\n";
  // A guest that restarts itself would wait for its identity and find its virtiofsd gone: it ends instead, and the next
  // start is ours.
  text += "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>destroy</on_reboot>\n  <on_crash>destroy</on_crash>\n";
  text += fmt::format("  <devices>\n    <emulator>{}</emulator>\n", escaped(platform.emulator.native()));
  text += controllers();
  for (std::size_t i = 0; i < spec.disks.size(); ++i) text += disk(spec.disks[i], i);
  for (std::size_t i = 0; i < spec.shares.size(); ++i)
    text += share(spec.shares[i], pci(slot_first_share + static_cast<unsigned>(i)));
  text += character_devices(spec);
  text += fmt::format(
      "    <rng model='virtio-non-transitional'>\n      <backend model='random'>/dev/urandom</backend>\n      {}\n    "
      "</rng>\n",
      pci(slot_rng));
  text += "    <memballoon model='none'/>\n    <video>\n      <model type='none'/>\n    </video>\n  </devices>\n";
  if (platform.owner) text += owner(*platform.owner);
  return text + emulator_arguments(spec) + "</domain>\n";
}

std::string test_domain_xml(const MachineSpec& spec) {
  check_machine_spec(spec);
  return "<domain type='test'>\n" + head(spec) + "  <os>\n    <type arch='x86_64'>hvm</type>\n  </os>\n</domain>\n";
}

}  // namespace agentvm
