"""Credentials: one folder per secret, one file per key, as Kubernetes mounts them.

They come from there alone, never from the environment, so that a job means the same wherever it
runs. Nothing in this module prints a value, and a `Secret` shows only the names of its keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tunesmith_api.field_types import SecretReference
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError

# Of an OpenAI-compatible server: of the deployments here, and of endpoints elsewhere.
API_KEY: Final = "api-key"
# Of a Secret of the type kubernetes.io/dockerconfigjson.
DOCKER_CONFIG: Final = ".dockerconfigjson"


@dataclass(frozen=True, slots=True)
class Secret:
    """The keys of one secret.

    S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL, AWS_REGION.
    Google: GOOGLE_APPLICATION_CREDENTIALS_JSON. Azure: AZURE_STORAGE_CONNECTION_STRING. Hugging
    Face: HF_TOKEN, HF_ENDPOINT. https: HTTP_BEARER_TOKEN. Registries: .dockerconfigjson.
    https and registries: HTTP_ALLOWED_HOSTS, where a redirect may lead into a private network.
    """

    name: str = ""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> str | None:
        """The value of `key`, None where the secret has none."""
        return self.values.get(key)

    def require(self, key: str) -> str:
        """The value of `key`.

        Raises:
            SourceError: the secret has no such key.
        """
        value = self.values.get(key)
        if value is None:
            raise SourceError(
                Reason.SECRET_NOT_FOUND,
                f"secret '{self.name}' has no key {key}; add it: in a cluster to that Secret, "
                f"elsewhere as the file secrets/{self.name}/{key} of the home folder."
                if self.name
                else f"a secret with the key {key} is needed; name it in secretRef.",
            )
        return value


NO_SECRET = Secret()


def read_secret(reference: SecretReference | None, *, secrets: Path) -> Secret:
    """The secret that a `secretRef` names; an empty one where it names none.

    Raises:
        SourceError: SecretNotFound, the folder is missing, empty or unreadable.
    """
    if reference is None:
        return NO_SECRET
    folder = secrets / reference.name
    try:
        # A mounted Secret is a link to ..data, which is a link to a folder named by the time: names
        # with dots in front are not keys, but for one.
        # Editors and `echo` end a file with a line break.
        values = {
            path.name: path.read_text(encoding="utf-8").strip()
            for path in sorted(folder.iterdir())
            if path.is_file() and (path.name == DOCKER_CONFIG or not path.name.startswith("."))
        }
        because = "it holds no key"
    except (OSError, UnicodeDecodeError) as error:
        # The class alone: the text of a decoding error quotes the value.
        values, because = {}, type(error).__name__
    if not values:
        raise SourceError(
            Reason.SECRET_NOT_FOUND,
            f"secret '{folder.name}' cannot be read from {folder} ({because}); create that Secret "
            "or, on one machine, that folder with one file per key, such as AWS_ACCESS_KEY_ID or "
            "HF_TOKEN.",
        )
    return Secret(name=reference.name, values=values)
