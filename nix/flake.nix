# From the checkout's root: nix build '.?dir=nix' or nix develop '.?dir=nix'
{
  description = "A machine of its own for every coding agent";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-24.11";

  outputs =
    { nixpkgs, ... }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      agentvm = pkgs.callPackage ./package.nix { };
    in
    {
      packages.${system} = {
        inherit agentvm;
        default = agentvm;
      };
      devShells.${system}.default = import ./shell.nix { inherit pkgs; };
    };
}
