"""The page of `tunesmith ui`: all jobs of a home folder with live progress, reports and models.

`overview.py` says what there is to see, `server.py` answers a browser on this machine, `page/` is
what it gets first. Nothing is fetched from elsewhere, and nothing can be changed by it.
"""

from typing import Final

# Beside 8090, the page of `tunesmith deploy`.
UI_PORT: Final = 8091
