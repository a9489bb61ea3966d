"""The page of `tunesmith deploy`: latency, cost, split and drift of what it serves, live.

`watcher.py` looks at the deployment every few seconds, `server.py` answers a browser on this
machine, `page/` is what it gets. Nothing is fetched from elsewhere, and nothing can be changed by
it.
"""

from typing import Final

# Beside the endpoint's own 8000, and none of Prometheus, Grafana or vLLM.
PAGE_PORT: Final = 8090
