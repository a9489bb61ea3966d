"""By which headers it is known whose request it is: to routes that stick, and to the judge."""

from collections.abc import Mapping
from typing import Final

from tunesmith_api.modeldeployment.rollout import Sticky

CONVERSATION_HEADER: Final = "x-conversation-id"
# OpenAI's clients send the first, some gateways the second.
API_KEY_HEADERS: Final = ("authorization", "x-api-key")
STICKY_HEADERS: Final[Mapping[Sticky, tuple[str, ...]]] = {
    "conversation": (CONVERSATION_HEADER,),
    "apiKey": API_KEY_HEADERS,
    "none": (),
}
# What all replicas of a deployment share: a conversation has the same digest on each of them, and
# they know each other's questions from those of clients.
SALT_VARIABLE: Final = "TUNESMITH_CLUSTER_SALT"
