#!/usr/bin/env bash
# Builds the environments that Tunesmith runs in, each from its own checked-in lock.
#
#   scripts/setup_environments.sh [control|trainer|compressor|server|edge ...]     (default: all but edge)
#
# edge is for jobs that export formats for devices, and built on demand. ACCELERATOR=gpu takes the locks for NVIDIA GPUs,
# but for control and edge, which have none. An environment whose lock has not
# changed is left alone, so this costs nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
UV_VERSION=0.13.9
ACCELERATOR=${ACCELERATOR:-cpu}

folder_of() { [[ $1 == control ]] && echo .venv || echo ".venvs/$1"; }

uses_gpu() { [[ $ACCELERATOR == gpu && $1 != control && $1 != edge ]]; }

lock_of() { uses_gpu "$1" && echo "requirements/gpu/$1.txt" || echo "requirements/$1.txt"; }

# The quickstart's model and data are files inside packages; the control plane fingerprints them, `prepare` reads them. The
# tools of tests are in no image; the lock of control has them with the others for development.
requirements_beside_lock() {
  echo requirements/project.txt
  case $1 in control | trainer) echo requirements/quickstart.txt ;; esac
  [[ $1 == control ]] || echo requirements/test.txt
}

# Of pyproject.toml only what is installed counts: the settings of the checkers begin with ruff's.
digest_of() {
  # shellcheck disable=SC2046
  { "$PYTHON" --version; pwd; sed '/^\[tool\.ruff\]/,$d' pyproject.toml; cat "$(lock_of "$1")" $(requirements_beside_lock "$1"); } |
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

# PyPI has no build of torch for CPUs alone. Its own computes on CPUs as well and needs CUDA's libraries to be imported, so the
# pins that it adds come from the lock for GPUs; triton, which only compiles for them, stays out.
lock_with_pypis_torch() {
  awk '/^[^ #]+==/ { sub(/\+cpu$/, "", $1); split($1, pin, "=="); if (!(pin[1] in known)) print $1; known[pin[1]] }' \
    "$(lock_of "$1")" <(grep -v '^triton==' requirements/gpu/torch.txt)
}

# What the first job would otherwise compile within its own time, minutes of it.
export UV_COMPILE_BYTECODE=${UV_COMPILE_BYTECODE:-1}

# Says what uv says, without the list of all packages; sets `said` for who wants to know why it failed.
sync() {
  local code=0
  # shellcheck disable=SC2046
  said=$(.venv/bin/uv pip sync --python "$(folder_of "$1")/bin/python" "$2" $(requirements_beside_lock "$1") 2>&1) || code=$?
  grep -v '^ [-+~] ' <<<"$said" >&2 || true
  return "$code"
}

sync_with_pypis_torch() {
  local lock
  lock=$(folder_of "$1")/.pypi-lock.txt
  echo "setup: torch's build for CPUs cannot be had from ${UV_FIND_LINKS:-https://download.pytorch.org/whl/cpu};" \
    "taking PyPI's, which computes on CPUs as well and is 3 GB larger" >&2
  lock_with_pypis_torch "$1" >"$lock"
  (unset UV_FIND_LINKS UV_TORCH_BACKEND && sync "$1" "$lock") && return
  echo "setup: neither build of torch could be installed. Set UV_DEFAULT_INDEX to a mirror of PyPI, or UV_FIND_LINKS to a" \
    "folder or page that has $(grep '^torch==' "$(lock_of "$1")" | cut -d' ' -f1), and run: make setup-$1" >&2
  return 1
}

build() {
  local folder started=$SECONDS said
  folder=$(folder_of "$1")
  echo "setup: $1 → $folder ($(grep -c == "$(lock_of "$1")") packages)" >&2
  [[ -x $folder/bin/python ]] || .venv/bin/uv venv --quiet --python "$("$PYTHON" -c 'import sys; print(sys.executable)')" "$folder"
  # The lock's 2.13.0 would match a 2.13.0+cpu as well.
  ! uses_gpu "$1" || unset UV_FIND_LINKS UV_TORCH_BACKEND
  if ! sync "$1" "$(lock_of "$1")"; then
    grep -q '^torch==.*+cpu' "$(lock_of "$1")" && [[ $said == *torch* ]] || exit 1
    sync_with_pypis_torch "$1" || exit 1
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
