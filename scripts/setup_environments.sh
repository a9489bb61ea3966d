#!/usr/bin/env bash
# Builds the four environments that Tunesmith runs in, each from its own checked-in lock.
#
#   scripts/setup_environments.sh [control|trainer|compressor|server ...]     (default: all four)
#
# ACCELERATOR=gpu takes the locks for NVIDIA GPUs, but for control, which has none. An environment whose lock has not
# changed is left alone, so this costs nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
UV_VERSION=0.13.9
ACCELERATOR=${ACCELERATOR:-cpu}

folder_of() { [[ $1 == control ]] && echo .venv || echo ".venvs/$1"; }

uses_gpu() { [[ $ACCELERATOR == gpu && $1 != control ]]; }

lock_of() { uses_gpu "$1" && echo "requirements/gpu/$1.txt" || echo "requirements/$1.txt"; }

# The quickstart's model and data are files inside packages; the control plane fingerprints them, `prepare` reads them.
requirements_of() {
  echo "$(lock_of "$1") requirements/project.txt"
  case $1 in control | trainer) echo requirements/quickstart.txt ;; esac
}

# Of pyproject.toml only what is installed counts: the settings of the checkers begin with ruff's.
digest_of() {
  # shellcheck disable=SC2046
  { "$PYTHON" --version; pwd; sed '/^\[tool\.ruff\]/,$d' pyproject.toml; cat $(requirements_of "$1"); } |
    sha256sum | cut -d' ' -f1
}

is_current() { [[ -f $(folder_of "$1")/.lock-digest && $(<"$(folder_of "$1")/.lock-digest") == "$(digest_of "$1")" ]]; }

require_python() {
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' && return
  echo "setup: the locks are made for Python 3.11, and $PYTHON is $("$PYTHON" --version 2>&1)." \
    "Run: make setup PYTHON=python3.11" >&2
  exit 1
}

bring_uv() {
  [[ -x .venv/bin/python ]] || "$PYTHON" -m venv .venv
  [[ $(.venv/bin/uv --version 2>/dev/null) == "uv $UV_VERSION"* ]] && return
  echo "setup: installing uv $UV_VERSION" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
}

# PyPI has no build for CPUs alone: a mirror of it gives only the resolver's error.
hint_of_torch() {
  local torch
  torch=$(grep '^torch==' "$(lock_of "$1")" | cut -d' ' -f1)
  echo "setup: $torch comes from https://download.pytorch.org/whl/cpu. Where only a mirror of PyPI can be reached, set" \
    "UV_FIND_LINKS to a folder or page that has it, or take PyPI's own torch, which trains on CPUs as well and is larger:" \
    "make setup-$1 ACCELERATOR=gpu"
}

build() {
  local folder started=$SECONDS
  folder=$(folder_of "$1")
  echo "setup: $1 → $folder ($(grep -c == "$(lock_of "$1")") packages)" >&2
  [[ -x $folder/bin/python ]] || .venv/bin/uv venv --quiet --python "$("$PYTHON" -c 'import sys; print(sys.executable)')" "$folder"
  # The lock's 2.13.0 would match a 2.13.0+cpu as well.
  ! uses_gpu "$1" || unset UV_FIND_LINKS UV_TORCH_BACKEND
  # shellcheck disable=SC2046
  if ! .venv/bin/uv pip sync --python "$folder/bin/python" $(requirements_of "$1") 2>&1 | { grep -v '^ [-+~] ' || true; } >&2; then
    uses_gpu "$1" || ! grep -q '^torch==.*+cpu' "$(lock_of "$1")" || hint_of_torch "$1" >&2
    exit 1
  fi
  digest_of "$1" >"$folder/.lock-digest"
  echo "setup: $1 is ready after $((SECONDS - started)) s" >&2
}

require_accelerator() {
  [[ $ACCELERATOR == cpu || $ACCELERATOR == gpu ]] && return
  echo "setup: ACCELERATOR is '$ACCELERATOR'. Give cpu or gpu." >&2
  exit 1
}

main() {
  local environments=("$@") name
  [[ $# -gt 0 ]] || environments=(control trainer compressor server)
  mkdir -p .venvs
  exec 9>.venvs/.setup-lock
  flock 9                                            # two setups at once take turns
  require_python
  require_accelerator
  for name in "${environments[@]}"; do
    is_current "$name" && continue
    # shellcheck source=scripts/package_sources.sh
    source scripts/package_sources.sh
    bring_uv
    build "$name"
  done
}

main "$@"
