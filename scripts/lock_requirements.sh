#!/usr/bin/env bash
# Resolves pyproject.toml's extras into one fully pinned lock per environment, under requirements/.
#
# Pins that still satisfy pyproject.toml stay; `scripts/lock_requirements.sh --upgrade` moves them to the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/package_sources.sh
source scripts/package_sources.sh

lock() {
  local name=$1
  shift
  echo "lock: requirements/$name.txt" >&2
  .venv/bin/uv pip compile --quiet pyproject.toml "$@" --output-file "requirements/$name.txt" \
    --python-version 3.11 --python-platform "x86_64-manylinux_${GLIBC:-2_28}" --no-header \
    --constraints requirements/constraints.txt --overrides requirements/overrides.txt
}

upgrade=("$@")
# Envoy's wheel needs a newer C library than the others do: that of Debian 11.
GLIBC=2_31 lock control --extra operator --extra dev "${upgrade[@]}"
lock trainer --extra trainer --extra test "${upgrade[@]}"
lock compressor --extra compressor --extra test "${upgrade[@]}"
lock server --extra serving --extra test "${upgrade[@]}"
