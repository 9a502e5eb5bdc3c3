#pragma once
// Cases of tests/unit/http/desync: one file each, with what it is about, where that is written, and what must become of
// it. Bytes that cannot be seen are written as \r \n \0 \xNN; the file's own line ends count for nothing.

#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace agentvm::test {

struct WireCase {
  std::string name, reference, side, expect, bytes;
};

inline std::string unescaped(const std::string& line) {
  std::string bytes;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\') {
      bytes += line[i];
      continue;
    }
    switch (line.at(++i)) {
      case 'r':
        bytes += '\r';
        break;
      case 'n':
        bytes += '\n';
        break;
      case '0':
        bytes += '\0';
        break;
      case 'x':
        bytes += static_cast<char>(std::stoi(line.substr(i + 1, 2), nullptr, 16));
        i += 2;
        break;
      default:
        throw std::runtime_error("an escape that is not known in: " + line);
    }
  }
  return bytes;
}

inline std::vector<WireCase> read_wire_cases(const std::filesystem::path& folder) {
  std::vector<WireCase> cases;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".case") continue;
    std::ifstream file(entry.path());
    std::map<std::string, std::string> header;
    WireCase result{.name = entry.path().stem().string()};
    for (std::string line; std::getline(file, line);) {
      if (const auto colon = line.find(": "); line.starts_with("# ") && colon != line.npos)
        header[line.substr(2, colon - 2)] = line.substr(colon + 2);
      else
        result.bytes += unescaped(line);
    }
    result.reference = header.at("reference");
    result.side = header.at("side");
    result.expect = header.at("expect");
    cases.push_back(std::move(result));
  }
  return cases;
}

}  // namespace agentvm::test
