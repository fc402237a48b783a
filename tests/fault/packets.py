"""Two network namespaces, and a link between them whose packets are lost, late and out of order.

    python -m fault.packets --loss 0.05 --late 0.03 --doubled 0.02 --seed 1
    -> {"relay": PATH, "subscriber": PATH}      namespaces, for `nsenter --net=PATH COMMAND`
    SIGTERM
    -> {"packets": 4711, "lost": 230, …}        and both are gone

The relay's end is 10.77.0.1, the subscriber's 10.77.0.2. Each packet is lost with the chance LOSS;
else it arrives after up to LATE seconds, so that later ones overtake it, and with the chance
DOUBLED a second time. While this process is stopped the link is cut. Needs the right to make
namespaces and /dev/net/tun: without it, status 69.
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from collections import Counter

RELAY, SUBSCRIBER = "10.77.0.1", "10.77.0.2"
NOT_ALLOWED = 69
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65_536


class End:
    """One namespace and its end of the link; this process stays in the namespace."""

    def __init__(self, here: str, there: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "no network namespace can be made")
        self.namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.device, TUNSETIFF, struct.pack("16sH22x", b"link", IFF_TUN | IFF_NO_PI))
        for words in (f"addr add {here} peer {there} dev link", "link set dev link up"):
            subprocess.run(["ip", *words.split()], check=True)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.namespace}"


class Link:
    """Carries packets from each end to the other."""

    def __init__(self, devices: tuple[int, int], options: argparse.Namespace) -> None:
        self._across = {devices[0]: devices[1], devices[1]: devices[0]}
        self._options = options
        self._random = random.Random(options.seed)
        self._due: list[tuple[float, int, int, bytes]] = []
        self.count: Counter[str] = Counter()

    def run(self) -> None:
        """Until a signal handler raises."""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for device in select.select(list(self._across), [], [], wait)[0]:
                self._take(os.read(device, PACKET), self._across[device])
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(self._due)
                os.write(device, packet)

    def _take(self, packet: bytes, device: int) -> None:
        self.count["packets"] += 1
        if self._random.random() < self._options.loss:
            self.count["lost"] += 1
            return
        self._send_later(packet, device)
        if self._random.random() < self._options.doubled:
            self.count["doubled"] += 1
            self._send_later(packet, device)

    def _send_later(self, packet: bytes, device: int) -> None:
        at = time.monotonic() + self._random.uniform(0, self._options.late)
        if any(at < other for other, _, to, _ in self._due if to == device):
            self.count["overtaking"] += 1
        self.count["sent"] += 1
        heapq.heappush(self._due, (at, self.count["sent"], device, packet))


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for name in ("loss", "late", "doubled"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        relay, subscriber = End(RELAY, SUBSCRIBER), End(SUBSCRIBER, RELAY)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"not allowed here: {error}", file=sys.stderr)
        return NOT_ALLOWED
    signal.signal(signal.SIGTERM, _end)
    print(json.dumps({"relay": relay.path, "subscriber": subscriber.path}), flush=True)
    link = Link((relay.device, subscriber.device), options)
    try:
        link.run()
    except KeyboardInterrupt:
        print(json.dumps(link.count), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
