#!/usr/bin/env bash
# Pushes what scripts/build_images.sh has packed to a registry, each image with a signature in the format of sigstore and cosign.
#
#   scripts/push_images.sh FOLDER REGISTRY/PREFIX --key KEY [IMAGE ...]     (default: every archive in FOLDER)
#
# KEY is a private key, encrypted as `skopeo generate-sigstore-key` and `cosign generate-key-pair` write it. Its password is in
# COSIGN_PASSWORD, or is asked for. The registry is logged in to by `skopeo login`, `podman login` or `docker login`. On stdout
# are values for the chart, which name each image by its digest. Exit code 2: bad input, or the registry refused an image.
set -euo pipefail
shopt -s nullglob

refuse() {
  echo "push: $1" >&2
  exit 2
}

usage="usage: scripts/push_images.sh FOLDER REGISTRY/PREFIX --key KEY [IMAGE ...]"
key='' words=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;;
    --key) key=${2:-} && shift ;;
    -*) refuse "there is no option $1; $usage" ;;
    *) words+=("$1") ;;
  esac
  shift || refuse "--key names no file; $usage"
done
[[ ${#words[@]} -ge 2 && -n $key ]] || refuse "$usage"
folder=${words[0]} prefix=${words[1]%/} images=("${words[@]:2}")

# Without a host it would be Docker Hub's, which nobody has asked for.
[[ $prefix =~ ^(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9.-]+:[0-9]+)(/[a-z0-9._-]+)+$ ]] ||
  refuse "$prefix is no REGISTRY/PREFIX, such as registry.example.com/ml: a host, a folder there, no scheme and no tag"

[[ -f $key && -r $key ]] || refuse "--key: there is no file $key that can be read"
case $(head -n 1 "$key" | tr -d '\0') in
  "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----" | "-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----") ;;
  *"PUBLIC KEY-----") refuse "--key: $key is a public key, which signs nothing; give the private one" ;;
  *) refuse "--key: $key is no private key as sigstore encrypts it; \`cosign import-key-pair --key $key\` makes one of a key of openssl's, \`skopeo generate-sigstore-key --output-prefix NAME\` a new one" ;;
esac

if [[ ${#images[@]} == 0 ]]; then
  archives=("$folder"/*.tar)
  [[ ${#archives[@]} -gt 0 ]] || refuse "no archive lies in $folder; scripts/build_images.sh $folder packs them"
  for each in "${archives[@]}"; do images+=("$(basename "$each" .tar)"); done
fi
# The tag that it was built under.
tag_of() {
  tar -xOf "$folder/$1.tar" index.json 2>/dev/null |
    sed -n 's/.*"org.opencontainers.image.ref.name":"[^"]*:\([^":]*\)".*/\1/p'
}
for each in "${images[@]}"; do
  [[ -f $folder/$each.tar ]] || refuse "there is no $folder/$each.tar; scripts/build_images.sh $folder $each packs it"
  [[ -n $(tag_of "$each") ]] || refuse "$folder/$each.tar is no archive that scripts/build_images.sh has written"
done
command -v skopeo >/dev/null || refuse "skopeo is not on the PATH; it signs and pushes"

password=${COSIGN_PASSWORD-}
if [[ -z ${COSIGN_PASSWORD+given} ]]; then
  [[ -t 0 ]] || refuse "COSIGN_PASSWORD is not set, and no terminal is there to ask for the password of $key"
  read -rsp "Password of $key: " password
  echo >&2
fi
unset COSIGN_PASSWORD

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Beside the image, under a tag made of its digest: where cosign, CRI-O, Kyverno and sigstore's policy-controller look.
echo 'default-docker: {use-sigstore-attachments: true}' >"$work/registries.yaml"
copy_signed() {
  skopeo --registries.d "$work" copy --quiet --preserve-digests \
    --sign-by-sigstore-private-key "$key" --sign-passphrase-file <(echo "$password") "$@"
}

# An older skopeo sends the image first and tries the key then; and Debian 12's cannot sign at all.
tar -cf "$work/empty.tar" --files-from /dev/null
copy_signed --sign-identity localhost/trial:1 "tarball:$work/empty.tar" "dir:$work/trial" ||
  refuse "$(skopeo --version) cannot sign with $key, so nothing was pushed: another password, or a skopeo that lacks sigstore, as Debian 12's does; it takes 1.11 or newer"

values="images:"
for each in "${images[@]}"; do
  name="$prefix/$each:$(tag_of "$each")"
  copy_signed --digestfile "$work/digest" "oci-archive:$folder/$each.tar" "docker://$name" ||
    refuse "$name was not pushed; what was before it in ${images[*]} is there"
  values+=$'\n'"  $each: $prefix/$each@$(<"$work/digest")"
  echo "push: $name is pushed and signed" >&2
done
echo "$values"
