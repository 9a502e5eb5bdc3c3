# agentvm built from this checkout. `callPackage ./package.nix { }` with nixpkgs.
{
  lib,
  stdenv,
  cmake,
  ninja,
  pkg-config,
  makeWrapper,
  boost,
  fmt,
  libgit2,
  libguestfs-with-appliance,
  libseccomp,
  libssh,
  libvirt,
  nlohmann_json,
  openssl,
  spdlog,
  yaml-cpp,
  zlib,
  # found through PATH when a sandbox or an image is made
  cpio,
  curl,
  e2fsprogs,
  git,
  mmdebstrap,
  openssh,
  qemu,
  shadow,
  virtiofsd,
  xz,
  zstd,
}:

stdenv.mkDerivation {
  pname = "agentvm";
  version = builtins.head (builtins.match ".*project\\(agentvm VERSION ([0-9.]+).*" (builtins.readFile ../CMakeLists.txt));
  src = lib.cleanSource ../.;

  nativeBuildInputs = [ cmake ninja pkg-config makeWrapper ];
  buildInputs = [ boost fmt libgit2 libguestfs-with-appliance libseccomp libssh libvirt nlohmann_json openssl spdlog yaml-cpp zlib ];
  cmakeFlags = [ "-DAGENTVM_TESTS=OFF" ];

  # newuidmap must be the setuid wrapper of the system, so PATH is extended at its end.
  postFixup = ''
    wrapProgram $out/bin/agentvm --suffix PATH : ${lib.makeBinPath [ cpio curl e2fsprogs git mmdebstrap openssh qemu shadow virtiofsd xz zstd ]}
  '';

  meta = {
    description = "A machine of its own for every coding agent";
    license = lib.licenses.asl20;
    platforms = [ "x86_64-linux" ];
    mainProgram = "agentvm";
  };
}
