# What building and testing needs: nix-shell nix/shell.nix
{ pkgs ? import <nixpkgs> { } }:

pkgs.mkShell {
  inputsFrom = [ (pkgs.callPackage ./package.nix { }) ];
  packages = [
    pkgs.ccache
    pkgs.clang-tools
    pkgs.gbenchmark
    pkgs.gtest
    pkgs.python3Packages.pexpect
    pkgs.python3Packages.pytest
    pkgs.qemu
    pkgs.rapidcheck
    pkgs.shellcheck
    pkgs.tmux
  ];
}
