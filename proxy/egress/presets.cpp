#include "proxy/egress/presets.hpp"

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

constexpr PresetHost model_apis[] = {
    {"api.anthropic.com", "Anthropic: models"},
    {"claude.ai", "Anthropic: login of Claude Code with a plan"},
    {"claude.com", "Anthropic: login pages"},
    {"console.anthropic.com", "Anthropic: login and keys"},
    {"platform.claude.com", "Anthropic: login and keys"},
    {"statsig.anthropic.com", "Anthropic: feature settings of Claude Code"},
    {"api.openai.com", "OpenAI: models"},
    {"auth.openai.com", "OpenAI: login of Codex"},
    {"chatgpt.com", "OpenAI: models of Codex with a plan"},
    {"generativelanguage.googleapis.com", "Google: Gemini models"},
    {"cloudcode-pa.googleapis.com", "Google: models of Gemini CLI with a login"},
    {"accounts.google.com", "Google: login of Gemini CLI"},
    {"oauth2.googleapis.com", "Google: tokens"},
    {"api.githubcopilot.com", "GitHub Copilot: models"},
    {"api.individual.githubcopilot.com", "GitHub Copilot: models, single seats"},
    {"api.business.githubcopilot.com", "GitHub Copilot: models, business seats"},
    {"api.enterprise.githubcopilot.com", "GitHub Copilot: models, enterprise seats"},
    {"copilot-proxy.githubusercontent.com", "GitHub Copilot: completions"},
    {"api.mistral.ai", "Mistral: models"},
    {"codestral.mistral.ai", "Mistral: code models"},
    {"api.deepseek.com", "DeepSeek: models"},
    {"api.x.ai", "xAI: models"},
    {"api.groq.com", "Groq: models"},
    {"api.cohere.com", "Cohere: models"},
    {"api.together.xyz", "Together: models"},
    {"openrouter.ai", "OpenRouter: models of many makers"},
};

constexpr PresetHost package_registries[] = {
    {"deb.debian.org", "Debian: packages"},
    {"security.debian.org", "Debian: security updates"},
    {"archive.ubuntu.com", "Ubuntu: packages"},
    {"security.ubuntu.com", "Ubuntu: security updates"},
    {"dl-cdn.alpinelinux.org", "Alpine: packages in containers"},
    {"registry.npmjs.org", "npm, pnpm, bun: packages"},
    {"registry.yarnpkg.com", "yarn: packages"},
    {"repo.yarnpkg.com", "yarn: its own releases, through corepack"},
    {"npm.jsr.io", "JSR: packages for npm clients"},
    {"jsr.io", "JSR: packages"},
    {"nodejs.org", "Node: releases, and headers for node-gyp"},
    {"pypi.org", "pip, uv, poetry: index"},
    {"files.pythonhosted.org", "pip, uv, poetry: packages"},
    {"conda.anaconda.org", "conda: packages"},
    {"crates.io", "cargo: API"},
    {"index.crates.io", "cargo: index"},
    {"static.crates.io", "cargo: packages"},
    {"static.rust-lang.org", "rustup: toolchains"},
    {"proxy.golang.org", "go: modules and toolchains"},
    {"sum.golang.org", "go: checksums"},
    {"go.dev", "go: releases and import paths"},
    {"rubygems.org", "gem, bundler: packages"},
    {"index.rubygems.org", "gem, bundler: index"},
    {"repo.maven.apache.org", "Maven: packages"},
    {"repo1.maven.org", "Maven: packages"},
    {"plugins.gradle.org", "Gradle: plugins"},
    {"services.gradle.org", "Gradle: the wrapper's downloads"},
    {"downloads.gradle.org", "Gradle: the wrapper's downloads"},
    {"api.nuget.org", "NuGet: index and packages"},
    {"repo.packagist.org", "Composer: index"},
    {"packagist.org", "Composer: index"},
    {"repo.hex.pm", "hex, mix: packages"},
    {"hackage.haskell.org", "cabal: packages"},
    {"pkg.julialang.org", "Julia: packages"},
    {"cache.nixos.org", "Nix: binary cache"},
    {"registry-1.docker.io", "Docker Hub: images"},
    {"auth.docker.io", "Docker Hub: tokens"},
    {"production.cloudflare.docker.com", "Docker Hub: layers"},
    {"ghcr.io", "GitHub: images"},
    {"pkg-containers.githubusercontent.com", "GitHub: layers"},
    {"quay.io", "Quay: images"},
    {"registry.k8s.io", "Kubernetes: images"},
};

constexpr PresetHost forges[] = {
    {"github.com", "GitHub: git and pages"},
    {"ssh.github.com", "GitHub: git by ssh on port 443"},
    {"api.github.com", "GitHub: API, gh"},
    {"codeload.github.com", "GitHub: archives"},
    {"raw.githubusercontent.com", "GitHub: single files"},
    {"objects.githubusercontent.com", "GitHub: releases"},
    {"release-assets.githubusercontent.com", "GitHub: releases"},
    {"media.githubusercontent.com", "GitHub: LFS"},
    {"github-cloud.githubusercontent.com", "GitHub: LFS"},
    {"gitlab.com", "GitLab: git, API and pages"},
    {"altssh.gitlab.com", "GitLab: git by ssh on port 443"},
    {"registry.gitlab.com", "GitLab: images"},
    {"bitbucket.org", "Bitbucket: git and pages"},
    {"api.bitbucket.org", "Bitbucket: API"},
    {"codeberg.org", "Codeberg: git, API and pages"},
    {"git.sr.ht", "SourceHut: git"},
    {"salsa.debian.org", "Debian: git"},
    {"git.kernel.org", "Linux: git"},
};

constexpr Preset table[] = {
    {"model-apis", "APIs of language models, and the logins of the agents that use them", model_apis},
    {"package-registries", "Packages, toolchains and container images", package_registries},
    {"forges", "Where git repositories live", forges},
};

}  // namespace

std::span<const Preset> presets() {
  return table;
}

const Preset* find_preset(std::string_view name) {
  for (const auto& preset : table)
    if (preset.name == name) return &preset;
  return nullptr;
}

std::vector<HostRule> preset_rules(const std::vector<std::string>& names) {
  std::vector<HostRule> rules;
  for (const auto& name : names) {
    const auto* preset = find_preset(name);
    if (!preset)
      throw Error(ErrorCode::usage, fmt::format("there is no preset '{}'", clean_guest_text(name)),
                  "agentvm config show");
    for (const auto& [host, reason] : preset->hosts)
      rules.push_back(HostRule::parse(host, fmt::format("preset {}", preset->name)));
  }
  return rules;
}

std::string presets_reference_markdown() {
  std::string text =
      "# Presets of egress.presets\n\n"
      "Generated from the table in `proxy/egress/presets.cpp`; a test fails when this file differs.\n\n"
      "Each host is reachable on ports 80 and 443. The default is all of them; `egress.presets: [forges]` in your own "
      "file keeps one,\n"
      "`egress.presets: []` none, and `egress.deny` takes single hosts away. A host of a list accepts uploads by "
      "whoever has an account there:\n"
      "the lists keep a guest from the host's own network and from servers that nobody knows, not from publishing.\n";
  for (const auto& preset : table) {
    text += fmt::format("\n## {}\n\n{}.\n\n| host | for |\n|-|-|\n", preset.name, preset.summary);
    for (const auto& [host, reason] : preset.hosts) text += fmt::format("| `{}` | {} |\n", host, reason);
  }
  return text;
}

}  // namespace agentvm::egress
