#include "vmm/domain_xml.hpp"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const MachinePlatform platform{"/usr/bin/qemu-system-x86_64", "/usr/share/qemu/qboot.rom"};

MachineSpec sample() {
  MachineSpec spec;
  spec.domain = "avm-0a1b2c3d";
  spec.id = "0a1b2c3d-0000-4000-8000-000000000001";
  spec.generation_id = "0a1b2c3d-0000-4000-8000-000000000002";
  spec.sandbox = "demo";
  spec.home = "0123456789abcdef";
  spec.memory = ByteSize::gibibytes(8);
  spec.vcpus = 4;
  spec.kernel = "/data/images/d1/kernel";
  spec.initrd = "/data/images/d1/initrd";
  spec.cmdline = "console=ttyS0 quiet";
  spec.disks = {{"/state/sandboxes/demo/disk.qcow2", DiskFormat::qcow2, "/data/images/d1/root.raw", DiskFormat::raw,
                 false, "root"}};
  spec.shares = {{"workspace", "/state/s/01234567/fs.sock"}};
  spec.serial_socket = "/state/s/01234567/serial.sock";
  spec.agent_socket = "/state/s/01234567/agent.sock";
  spec.ssh_port = 40022;
  return spec;
}

/// Compares with golden/`name`.xml; AGENTVM_UPDATE_GOLDEN=1 writes it instead (and the test fails, so that nobody does
/// it unseen).
void expect_golden(const std::string& name, const std::string& text) {
  const fs::path file = fs::path(GOLDEN_FOLDER) / (name + ".xml");
  if (std::getenv("AGENTVM_UPDATE_GOLDEN")) {
    write_file_atomic(file, text, 0644);
    FAIL() << file << " was written; run again without AGENTVM_UPDATE_GOLDEN";
  }
  EXPECT_EQ(read_file(file), text) << "AGENTVM_UPDATE_GOLDEN=1 writes " << file;
}

TEST(DomainXml, EmulatedWithShare) {
  expect_golden("tcg_share", domain_xml(sample(), platform));
}

TEST(DomainXml, ASharedDaemonIsToldWhoseTheFilesAre) {
  auto shared = platform;
  shared.owner = {1000, 1001};
  const auto text = domain_xml(sample(), shared);
  EXPECT_THAT(text, HasSubstr("<seclabel type='static' model='dac' relabel='no'>\n    <label>+1000:+1001</label>"));
  expect_golden("shared_daemon", text);
}

TEST(DomainXml, KvmWithoutNestingAndSeveralDisks) {
  auto spec = sample();
  spec.accelerator = Accelerator::kvm;
  spec.nested = false;
  spec.shares.clear();
  spec.disks.push_back(
      {"/state/sandboxes/demo/workspace.qcow2", DiskFormat::qcow2, std::nullopt, DiskFormat::raw, false, "workspace"});
  spec.disks.push_back({"/data/layers/agents.raw", DiskFormat::raw, std::nullopt, DiskFormat::raw, true, "agents"});
  expect_golden("kvm_disks", domain_xml(spec, platform));
}

TEST(DomainXml, OpenNetworkOnFirmwareWithGenerationId) {
  auto spec = sample();
  spec.network = NetworkMode::nat;
  auto other = platform;
  other.generation_id = MachinePlatform::GenerationId::supported;
  expect_golden("nat_generation", domain_xml(spec, other));
}

TEST(DomainXml, WaitingForItsState) {
  auto spec = sample();
  spec.shares.clear();
  spec.begin = MachineSpec::Begin::state;
  expect_golden("tcg_state", domain_xml(spec, platform));
}

TEST(DomainXml, APluggedShareHasAPlaceOfItsOwn) {
  expect_golden("plugged_share", plugged_share_xml({"workspace", "/state/s/01234567/fs.sock"}));
  EXPECT_THROW(plugged_share_xml({"work space", "/state/fs.sock"}), Error);
  EXPECT_THROW(plugged_share_xml({"workspace", "fs.sock"}), Error);
}

TEST(DomainXml, TestDriver) {
  expect_golden("test_driver", test_domain_xml(sample()));
}

TEST(DomainXml, OnlyNatIsUnrestricted) {
  auto spec = sample();
  for (const auto mode : {NetworkMode::filtered, NetworkMode::none}) {
    spec.network = mode;
    EXPECT_THAT(domain_xml(spec, platform), HasSubstr("restrict=on,hostfwd=tcp:127.0.0.1:40022-:22"));
  }
  spec.network = NetworkMode::nat;
  EXPECT_THAT(domain_xml(spec, platform), HasSubstr("restrict=off,hostfwd=tcp:127.0.0.1:40022-:22"));
}

TEST(DomainXml, MarkupInTextIsEscaped) {
  auto spec = sample();
  spec.sandbox = "a'b\"c&d<e>f";
  spec.cmdline = "x='1' y=\"2\" </cmdline><evil/>&amp;";
  spec.disks[0].path = "/state/it's <a> & \"b\"/disk.qcow2";
  const auto text = domain_xml(spec, platform);
  EXPECT_THAT(text, HasSubstr("name='a&apos;b&quot;c&amp;d&lt;e&gt;f'"));
  EXPECT_THAT(text,
              HasSubstr("<cmdline>x=&apos;1&apos; y=&quot;2&quot; &lt;/cmdline&gt;&lt;evil/&gt;&amp;amp;</cmdline>"));
  EXPECT_THAT(text, HasSubstr("<source file='/state/it&apos;s &lt;a&gt; &amp; &quot;b&quot;/disk.qcow2'/>"));
  EXPECT_THAT(text, Not(HasSubstr("<evil")));
}

TEST(DomainXml, NonAsciiTextPasses) {
  auto spec = sample();
  spec.sandbox = "größe-日本-😀";
  EXPECT_THAT(domain_xml(spec, platform), HasSubstr("name='größe-日本-😀'"));
}

struct Refusal {
  const char* name;
  std::function<void(MachineSpec&)> change;
  std::string names;  ///< what the message must name
};
class Refused : public ::testing::TestWithParam<Refusal> {};

TEST_P(Refused, NamesTheField) {
  auto spec = sample();
  GetParam().change(spec);
  try {
    domain_xml(spec, platform);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr(GetParam().names));
  }
}

INSTANTIATE_TEST_SUITE_P(
    DomainXml, Refused,
    ::testing::Values(
        Refusal{"QuoteInHome", [](auto& s) { s.home = "a'b"; }, "home has a character other than"},
        Refusal{"NewlineInSandbox", [](auto& s) { s.sandbox = "a\nb"; }, "sandbox has a control character"},
        Refusal{"EscapeInCmdline", [](auto& s) { s.cmdline = "a\x1b[0m"; }, "cmdline has a control character"},
        Refusal{"DelInCmdline", [](auto& s) { s.cmdline = "a\x7f"; }, "cmdline has a control character"},
        Refusal{"NulInPath", [](auto& s) { s.kernel = std::string("/a\0b", 4); }, "kernel has a control character"},
        Refusal{"BadUtf8", [](auto& s) { s.sandbox = "a\xff"; }, "sandbox is not UTF-8"},
        Refusal{"Overlong", [](auto& s) { s.sandbox = "a\xe0\x80\xaf"; }, "sandbox is not UTF-8"},
        Refusal{"Surrogate", [](auto& s) { s.sandbox = "\xed\xa0\x80"; }, "sandbox is not UTF-8"},
        Refusal{"CutUtf8", [](auto& s) { s.sandbox = "a\xe2\x82"; }, "sandbox is not UTF-8"},
        Refusal{"NotAnXmlCharacter", [](auto& s) { s.sandbox = "\xef\xbf\xbf"; }, "sandbox is not UTF-8"},
        Refusal{"QuoteInDomain", [](auto& s) { s.domain = "a'b"; }, "domain has a character"},
        Refusal{"SlashInDomain", [](auto& s) { s.domain = "a/../b"; }, "domain has a character"},
        Refusal{"CommaInDomain", [](auto& s) { s.domain = "a,debug-threads=off"; }, "domain has a character"},
        Refusal{"EmptyDomain", [](auto& s) { s.domain = ""; }, "domain is empty"},
        Refusal{"LongDomain", [](auto& s) { s.domain = std::string(65, 'a'); }, "domain is longer"},
        Refusal{"BadId", [](auto& s) { s.id = "0a1b2c3d-0000-4000-8000-00000000000g"; }, "id is not a UUID"},
        Refusal{"BadGeneration", [](auto& s) { s.generation_id = "1"; }, "generation_id is not a UUID"},
        Refusal{"RelativeKernel", [](auto& s) { s.kernel = "kernel"; }, "kernel is not an absolute path"},
        Refusal{"RelativeDisk", [](auto& s) { s.disks[0].path = "json:{}"; }, "disk path is not an absolute path"},
        Refusal{"RelativeBacking", [](auto& s) { s.disks[0].backing = "nbd:host"; },
                "disk backing is not an absolute path"},
        Refusal{"LongSerial", [](auto& s) { s.disks[0].serial = std::string(21, 'a'); }, "disk serial is longer"},
        Refusal{"CommaInSerial", [](auto& s) { s.disks[0].serial = "a,b"; }, "disk serial has a character"},
        Refusal{"LongTag", [](auto& s) { s.shares[0].tag = std::string(37, 'a'); }, "share tag is longer"},
        Refusal{"LongSocket", [](auto& s) { s.agent_socket = "/" + std::string(107, 'a'); },
                "107 bytes a socket path may have"},
        Refusal{"NoPort", [](auto& s) { s.ssh_port = 0; }, "ssh_port is 0"},
        Refusal{"NoCpu", [](auto& s) { s.vcpus = 0; }, "vcpus is not in 1..255"},
        Refusal{"NoMemory", [](auto& s) { s.memory = ByteSize::mebibytes(63); }, "memory is below 64M"},
        Refusal{"ManyDisks", [](auto& s) { s.disks.resize(9, s.disks[0]); }, "disks has more than 8"}),
    [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace agentvm
