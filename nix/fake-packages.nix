# Just enough of nixpkgs to evaluate package.nix, shell.nix and flake.nix without it: a package is a set with its name, a name that is
# not listed fails, and a derivation is its own arguments. The names are those of nixpkgs.
let
  package = name: { inherit name; type = "fake"; outPath = "/fake/${name}"; };
  listed = names: builtins.listToAttrs (map (name: { inherit name; value = package name; }) names);
  lib = {
    cleanSource = path: path;
    licenses.asl20.spdxId = "Apache-2.0";
    makeBinPath = packages: builtins.concatStringsSep ":" (map (p: "${p.outPath}/bin") packages);
  };
  self =
    listed [
      "boost" "ccache" "clang-tools" "cmake" "cpio" "curl" "e2fsprogs" "fmt" "gbenchmark" "git" "gtest" "libgit2" "libguestfs-with-appliance" "libseccomp" "libssh"
      "libvirt" "makeWrapper" "mmdebstrap" "ninja" "nlohmann_json" "openssh" "openssl" "pkg-config" "qemu" "rapidcheck" "shadow" "shellcheck"
      "spdlog" "tmux" "virtiofsd" "xz" "yaml-cpp" "zlib" "zstd"
    ]
    // {
      inherit lib;
      python3Packages = listed [ "pexpect" "pytest" ];
      stdenv.mkDerivation = arguments: arguments // { type = "fake"; };
      mkShell = arguments: arguments // { type = "fake"; };
      callPackage =
        file: overrides:
        let
          function = import file;
          arguments = builtins.intersectAttrs (builtins.functionArgs function) self // overrides;
        in
        function arguments;
    };
in
self
