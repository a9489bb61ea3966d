#!/usr/bin/env bash
# Builds the four environments that Tunesmith runs in, each from its own checked-in lock.
#
#   scripts/setup_environments.sh [control|trainer|compressor|server ...]     (default: all four)
#
# An environment whose lock has not changed is left alone, so this costs nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
UV_VERSION=0.13.9

# torch's CPU build comes from a local folder where pip has one, else from PyTorch's own index.
if [[ -n ${PIP_FIND_LINKS:-} ]]; then
  export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS// /,}}
else
  export UV_TORCH_BACKEND=${UV_TORCH_BACKEND:-cpu}
fi
export UV_LINK_MODE=${UV_LINK_MODE:-hardlink}      # one copy of torch on disk, not three
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
export SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}}
[[ -e $SSL_CERT_FILE ]] || unset SSL_CERT_FILE

folder_of() { [[ $1 == control ]] && echo .venv || echo ".venvs/$1"; }

# The quickstart's model and data are files inside packages; the control plane fingerprints them, `prepare` reads them.
requirements_of() {
  echo "requirements/$1.txt"
  case $1 in control | trainer) echo requirements/quickstart.txt ;; esac
}

digest_of() {
  # shellcheck disable=SC2046
  { "$PYTHON" --version; pwd; cat pyproject.toml $(requirements_of "$1"); } | sha256sum | cut -d' ' -f1
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

build() {
  local folder started=$SECONDS
  folder=$(folder_of "$1")
  echo "setup: $1 → $folder ($(grep -c == "requirements/$1.txt") packages)" >&2
  [[ -x $folder/bin/python ]] || .venv/bin/uv venv --quiet --python "$(.venv/bin/python -c 'import sys; print(sys._base_executable)')" "$folder"
  # shellcheck disable=SC2046
  .venv/bin/uv pip sync --python "$folder/bin/python" $(requirements_of "$1")
  .venv/bin/uv pip install --quiet --python "$folder/bin/python" --no-deps --editable .
  digest_of "$1" >"$folder/.lock-digest"
  echo "setup: $1 is ready after $((SECONDS - started)) s" >&2
}

main() {
  local environments=("$@") name
  [[ $# -gt 0 ]] || environments=(control trainer compressor server)
  mkdir -p .venvs
  exec 9>.venvs/.setup-lock
  flock 9                                            # two setups at once take turns
  require_python
  for name in "${environments[@]}"; do
    is_current "$name" && continue
    bring_uv
    build "$name"
  done
}

main "$@"
