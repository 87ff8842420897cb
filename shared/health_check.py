"""``python -m shared.health_check [URL]``: exit code 0 if the service in this container makes progress, else 1 and why.

Without a URL it asks /healthz where this environment says that the service listens: ``CRYPTOFLOW_METRICS__HOST`` and
``CRYPTOFLOW_METRICS__PORT``, as the images set them. It runs every few seconds beside the service, so it imports next to
nothing, none of our settings, and never waits longer than `TIMEOUT_SECONDS`. It does not judge readiness: a service that
waits for Kafka is healthy.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT_SECONDS = 3.0
OK = 200
SHOWN_BYTES = 500
# Who listens on all addresses is asked on loopback.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def main(argv: Sequence[str] = sys.argv[1:], environ: Mapping[str, str] = os.environ) -> int:
    """Prints one line that says what was asked and what it answered."""
    url = argv[0] if argv else own_url(environ)
    problem = ask(url)
    sys.stdout.write(f"{url}: {problem or 'healthy'}\n")
    return 1 if problem else 0


def own_url(environ: Mapping[str, str]) -> str:
    """Where the service of this environment serves /healthz."""
    host = environ.get("CRYPTOFLOW_METRICS__HOST") or "127.0.0.1"
    port = environ.get("CRYPTOFLOW_METRICS__PORT") or "9000"
    host = _EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}/healthz" if ":" in host else f"http://{host}:{port}/healthz"


def ask(url: str) -> str | None:
    """Why it is not healthy; None if it is. `url` begins with ``http://`` and names no user."""
    host, slash, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", slash + path)
        answer = connection.getresponse()
        body = answer.read(SHOWN_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return f"does not answer: {error!r}"
    finally:
        connection.close()
    return None if answer.status == OK else f"{answer.status} {body.decode(errors='replace').strip()}"


if __name__ == "__main__":
    sys.exit(main())
