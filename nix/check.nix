# Evaluated by tests/style/check_nix.py: what of the three files a build would use, as one value.
let
  pkgs = import ./fake-packages.nix;
  package = pkgs.callPackage ./package.nix { };
  shell = import ./shell.nix { inherit pkgs; };
  flake = (import ./flake.nix).outputs { nixpkgs.legacyPackages.x86_64-linux = pkgs; };
  names = map (p: p.name);
in
{
  inherit (package) pname version cmakeFlags;
  build = names (package.nativeBuildInputs ++ package.buildInputs);
  wrapped = package.postFixup;
  shell = names shell.packages;
  same = flake.packages.x86_64-linux.default.version == package.version;
  dev_shell = names flake.devShells.x86_64-linux.default.packages;
}
