# Sourced by the scripts beside it: uv reads none of pip's settings, so they are handed over here.

pip_setting() { "${PYTHON:-python3}" -m pip config get "global.$1" 2>/dev/null | tr -s ' \n' ',' | sed 's/,$//' || true; }

# torch's CPU build comes from a local folder where pip has one, else from PyTorch's own index.
find_links=${PIP_FIND_LINKS:-$(pip_setting find-links)}
if [[ -n $find_links ]]; then
  export UV_FIND_LINKS=${UV_FIND_LINKS:-${find_links// /,}}
else
  export UV_TORCH_BACKEND=${UV_TORCH_BACKEND:-cpu}
fi

index=${PIP_INDEX_URL:-$(pip_setting index-url)}
[[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}

certificates=${SSL_CERT_FILE:-${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}}
[[ ! -e $certificates ]] || export SSL_CERT_FILE=$certificates

export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
export UV_LINK_MODE=${UV_LINK_MODE:-hardlink} # one copy of torch on disk, not three
