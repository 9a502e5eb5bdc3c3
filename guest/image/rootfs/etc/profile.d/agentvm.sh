# shellcheck shell=sh
# Login shells, and so every window of tmux.
if [ -z "$XDG_RUNTIME_DIR" ] && [ -O "/run/user/$(id -u)" ]; then
  XDG_RUNTIME_DIR="/run/user/$(id -u)"
  export XDG_RUNTIME_DIR
fi
case ":$PATH:" in
  *:"$HOME/.local/bin":*) ;;
  *) PATH="$HOME/.local/bin:$PATH" ;;
esac
case "$-" in
  *i*) if [ -n "$BASH_VERSION" ] && command -v direnv > /dev/null; then eval "$(direnv hook bash)"; fi ;;
esac
