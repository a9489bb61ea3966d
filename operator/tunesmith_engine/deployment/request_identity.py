"""By which headers it is known whose request it is: to routes that stick, and to the judge."""

from typing import Final

CONVERSATION_HEADER: Final = "x-conversation-id"
# OpenAI's clients send the first, some gateways the second.
API_KEY_HEADER: Final = "authorization"
API_KEY_HEADERS: Final = (API_KEY_HEADER, "x-api-key")
# What all replicas of a deployment share: a conversation has the same digest on each of them, and
# they know each other's questions from those of clients.
SALT_VARIABLE: Final = "TUNESMITH_CLUSTER_SALT"
