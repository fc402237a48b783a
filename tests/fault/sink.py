"""What actions did, in the order in which they did it, and whether that was in order.

Scripts leave a line in a file (`Lines`), webhooks come to a server in this process (`Web`).

Each effect names its lane (rule and branch), the place of its event and the fence under which it
was made. Two ways to look at the same effects:

    careless   takes every effect; an older one may come after a newer one of its lane
    fenced     keeps the highest fence it saw for each lane, and refuses an effect with a lower one
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCRIPT = """\
#!/bin/sh
# Its whole effect is one line.
echo "$ZMQHOOKS_RULE:$ZMQHOOKS_REPO:$ZMQHOOKS_BRANCH ${ZMQHOOKS_EVENT_ID##*/}" \\
    "$ZMQHOOKS_DELIVERY_ID $ZMQHOOKS_FENCE" >> effects
"""


@dataclass(frozen=True)
class Effect:
    lane: str
    sequence: int
    delivery: str
    fence: int


class Lines:
    """Those that a script in this folder writes to a file; read on where the last look ended."""

    action: Mapping[str, Any] = {"exec": ["./effect.sh"], "retry": {"attempts": 20}}

    def __init__(self, folder: Path) -> None:
        script = folder / "effect.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        self._path = folder / "effects"
        self._read = 0
        self.all: list[Effect] = []
        self.deliveries: set[str] = set()

    def look(self) -> int:
        """How many deliveries had an effect so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read += len(whole + newline)
            for line in whole.decode().splitlines():
                lane, sequence, delivery, fence = line.split(" ")
                self.all.append(Effect(lane, int(sequence), delivery, int(fence)))
                self.deliveries.add(delivery)
        return len(self.deliveries)


class Web:
    """Those that came over http, in the order in which they came, until it is closed."""

    def __init__(self) -> None:
        self.all: list[Effect] = []
        self.deliveries: set[str] = set()
        self._lock = threading.Lock()
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                keep(dict(self.headers.items()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Nobody reads it."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                """Who is killed breaks off."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def action(self) -> Mapping[str, Any]:
        """What a rule says to have its effects here."""
        headers = {"x-lane": "{rule}:{repo}:{branch}", "x-event": "{event_id}"}
        url = f"http://127.0.0.1:{self._server.server_port}/"
        return {"webhook": {"url": url, "headers": headers}}

    def _keep(self, said: dict[str, str]) -> None:
        sequence = int(said["x-event"].rpartition("/")[2])
        fence, delivery = int(said["zmqhooks-fence"]), said["webhook-id"]
        with self._lock:
            self.all.append(Effect(said["x-lane"], sequence, delivery, fence))
            self.deliveries.add(delivery)

    def look(self) -> int:
        """How many deliveries had an effect so far."""
        return len(self.deliveries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Order:
    """`behind`: effects that came after one of a later event of their lane; `again`: of the same
    event. `refused`: by their fence.
    """

    behind: int = 0
    again: int = 0
    refused: int = 0


def careless(effects: Iterable[Effect]) -> Order:
    """Every effect is taken."""
    order, newest = Order(), dict[str, int]()
    for one in effects:
        last = newest.get(one.lane, 0)
        order.behind += one.sequence < last
        order.again += one.sequence == last
        newest[one.lane] = max(last, one.sequence)
    return order


def fenced(effects: Iterable[Effect]) -> Order:
    """An effect is taken unless one of its lane had a higher fence."""
    taken, highest = list[Effect](), dict[str, int]()
    refused = 0
    for one in effects:
        if one.fence < highest.get(one.lane, 0):
            refused += 1
            continue
        highest[one.lane] = one.fence
        taken.append(one)
    order = careless(taken)
    order.refused = refused
    return order
