#!/usr/bin/env bash
# Builds the five images with buildah, and packs each into an archive that a node can import, with a bill of materials in it and
# beside it.
#
#   scripts/build_images.sh FOLDER [operator|trainer|compressor|server|edge ...]     (default: all five)
#
# ACCELERATOR is cpu (the default), gpu or, for the trainer alone, tpu; BASE the image they start from (default: the one that
# the Dockerfiles name), TAG their tag (default: that of the chart). Layers are kept and shared, so a second build costs only what has
# changed.
set -euo pipefail
shopt -s extglob
folder=$(realpath -m "${1:?usage: scripts/build_images.sh FOLDER [IMAGE ...]}")
shift
cd "$(dirname "$0")/.."
# shellcheck source=scripts/package_sources.sh
source scripts/package_sources.sh

TAG=${TAG:-$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' charts/tunesmith/Chart.yaml)}
ACCELERATOR=${ACCELERATOR:-cpu}
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-overlay}

dockerfile_of() {
  case $1 in
    operator | trainer) echo "$1/Dockerfile" ;;
    compressor) echo trainer/Dockerfile.compressor ;;
    server) echo serving/Dockerfile ;;
    edge) echo trainer/Dockerfile.edge ;;
    stand-in) echo tests/node/stand_in_image/Dockerfile ;;
    *) echo "build: no image is called $1: operator, trainer, compressor, server, edge" >&2 && return 1 ;;
  esac
}

# One base for all images, however its tag moves meanwhile; every bill says which. One that lies here is not asked for elsewhere.
base=${BASE:-$(sed -n 's/^ARG BASE=//p' operator/Dockerfile)}
buildah pull --quiet --policy missing "$base" >/dev/null
digest=$(buildah inspect --type image --format '{{.FromImageDigest}}' "$base")
base=${base%%@*}
base=${base%%:+([!:/])}@$digest

# What pip is told here about its sources holds in the build too: certificates, an index, folders of wheels.
flags=(--network host --layers --pull-never --build-arg "BASE=$base")
[[ -z ${UV_DEFAULT_INDEX:-} ]] || flags+=(--env "PIP_INDEX_URL=$UV_DEFAULT_INDEX")
for each in ${find_links:-}; do
  flags+=(--env "PIP_FIND_LINKS=$find_links")
  [[ ! -d $each ]] || flags+=(--volume "$each:$each:ro")
done
for each in /etc/ssl/certs /usr/share/ca-certificates; do
  [[ ! -d $each ]] || flags+=(--volume "$each:$each:ro")
done

# The base image, and what is added to it of PyPI: $folder/IMAGE.cdx.json, as CycloneDX 1.6.
bill_of() {
  local accelerator=/$ACCELERATOR locks=()
  [[ $ACCELERATOR != cpu && $1 != operator && $1 != edge ]] || accelerator=
  case $1 in
    stand-in) return ;;
    trainer) locks=("requirements$accelerator/trainer.txt" requirements/quickstart.txt) ;;
    *) locks=("requirements$accelerator/$1.txt") ;;
  esac
  [[ $accelerator != /gpu ]] || locks=(requirements/gpu/torch.txt "${locks[@]}")
  .venv/bin/python scripts/audit_locks.py bill --image "tunesmith/$1" --version "$TAG" --base "$base" \
    --lock "${locks[@]}" --output "$folder/$1.cdx.json"
}

# In the image, too, its digest covers the bill, and so does a signature.
add_bill() {
  local container
  container=$(buildah from --pull-never "$1")
  buildah copy --quiet --chown 0:0 --chmod 0644 "$container" "$2" /usr/share/doc/tunesmith/ >/dev/null
  buildah commit --quiet --rm "$container" "$1" >/dev/null
}

build() {
  local name="localhost/tunesmith/$1:$TAG" started=$SECONDS packages=()
  [[ $1 != trainer ]] || packages=(--build-arg "PACKAGES=$(grep == requirements/quickstart.txt | xargs)")
  [[ $1 == operator || $1 == edge || $1 == stand-in ]] || packages+=(--build-arg "ACCELERATOR=$ACCELERATOR")
  local context=.
  # A server image for tests, made of the operator's: its files are none of an image's.
  [[ $1 != stand-in ]] || {
    context=tests
    packages=(--build-arg "OPERATOR=localhost/tunesmith/operator:$TAG"
      --build-arg "PACKAGES=$(grep -E '^(uvicorn|uvloop)==' requirements/control.txt | xargs)")
  }
  buildah bud "${flags[@]}" "${packages[@]}" --file "$(dockerfile_of "$1")" --tag "$name" "$context" >"$folder/$1.log" 2>&1 ||
    { tail -n 40 "$folder/$1.log" >&2 && return 1; }
  bill_of "$1"
  [[ $1 == stand-in ]] || add_bill "$name" "$folder/$1.cdx.json"
  rm -f "$folder/$1.tar"
  buildah push --quiet "$name" "oci-archive:$folder/$1.tar:$name"
  echo "build: $name is built and packed after $((SECONDS - started)) s ($(du -h "$folder/$1.tar" | cut -f1))" >&2
}

images=("$@")
[[ $# -gt 0 ]] || images=(operator trainer compressor server edge)
mkdir -p "$folder"
for each in "${images[@]}"; do build "$each"; done
