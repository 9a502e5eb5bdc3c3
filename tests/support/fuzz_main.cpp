// Runs a libFuzzer target without libFuzzer: every file of the corpus folders as it is, then mutations of it from a
// fixed seed. So each build replays what fuzzing once found; the fuzz preset does the searching.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::size_t mutations_per_file = 2000;
constexpr std::size_t input_limit_bytes = 1u << 20;

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

void mutate(std::string& input, const std::vector<std::string>& corpus, std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : random() % limit; };
  switch (below(6)) {
    case 0:
      if (!input.empty()) input[below(input.size())] = static_cast<char>(random());
      break;
    case 1:
      if (!input.empty()) input[below(input.size())] ^= static_cast<char>(1u << below(8));
      break;
    case 2:
      input.insert(below(input.size() + 1), 1, static_cast<char>(random()));
      break;
    case 3:
      input.erase(below(input.size() + 1), 1 + below(8));
      break;
    case 4:
      input.resize(below(input.size() + 1));
      break;
    default: {
      const auto& other = corpus[below(corpus.size())];
      const auto from = below(other.size() + 1);
      input.insert(below(input.size() + 1), other, from, below(64));
    }
  }
  if (input.size() > input_limit_bytes) input.resize(input_limit_bytes);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  if (corpus.empty()) {
    std::cerr << "no corpus given: a fuzz target without one shows nothing\n";
    return 1;
  }
  run("");
  std::size_t count = 1;
  std::mt19937 random(20240229);
  for (const auto& entry : corpus) {
    run(entry);
    std::string input = entry;
    for (std::size_t i = 0; i < mutations_per_file; ++i, ++count) {
      if (i % 16 == 0) input = entry;  // mutations pile up, but not endlessly
      mutate(input, corpus, random);
      run(input);
    }
  }
  std::cout << corpus.size() << " corpus files, " << count << " inputs\n";
  return 0;
}
