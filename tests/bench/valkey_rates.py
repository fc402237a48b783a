"""The rates of `bench.store_rates`, of the store on Valkey.

    PYTHONPATH=tests python -m bench.valkey_rates [--rounds N] [--items N] [--kept N] [--folder DIR]

Its server is a process of its own on this machine, which writes its log every second. *Raw* are
transactions (MULTI) of redis-py that write the same values of the same rows, one hash for each.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import store_rates
from bench.store_rates import NOW, Item, Kind, Raw, accept, items, run
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.service.redis_client import connect, parse_address
from subscriber.store.base import Store
from subscriber.store.redis import RedisStore

COPIES = 5000
# Copies of what is kept of the first event, its delivery and its receipt.
COPY = """
local P, from, to = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local event = redis.call('HGET', P .. ':event', 1)
local work = redis.call('HGET', P .. ':work', 1)
local state = redis.call('HGET', P .. ':state', 1)
local receipt = redis.call('HGET', P .. ':receipt', '1.1')
local time = redis.call('ZSCORE', P .. ':ended', 1)
for n = from, to do
  local hex = string.format('%064x', n)
  redis.call('HSET', P .. ':event', n, event)
  redis.call('ZADD', P .. ':places:' .. ARGV[3], n, n .. ' branch-1')
  redis.call('ZADD', P .. ':nodes:' .. hex:sub(-4), 0, hex:sub(-4) .. hex:sub(29) .. ' ' .. n)
  redis.call('HSET', P .. ':ids:' .. hex:sub(-4), hex:reverse(), n)
  redis.call('HSET', P .. ':work', n, work)
  redis.call('HSET', P .. ':state', n, state)
  redis.call('HSET', P .. ':receipt', n .. '.1', receipt)
  redis.call('ZADD', P .. ':refs:' .. ARGV[3], n, n)
  redis.call('ZADD', P .. ':ended', time, n)
end
local counters = cmsgpack.unpack(redis.call('HGET', P .. ':store', 'counters'))
for _, place in ipairs({4, 5, 9, 15}) do   -- events, deliveries, stored, done
  counters[place] = to
end
redis.call('HSET', P .. ':store', 'counters', cmsgpack.pack(counters))
"""

# A hash that has grown is moved to its new place bit by bit, by whoever reads it.
READ = """
for n = 1, 20000 do
  redis.call('HEXISTS', KEYS[1], n)
end
"""
GROWN = ("event", "work", "state", "receipt")


class RawValkey(Raw):
    """Hashes of the same values, by redis-py."""

    def __init__(self, server: Server) -> None:
        self._client = connect(parse_address(server.url), name="raw")

    def accept(self, new: Sequence[Item]) -> None:
        with self._client.pipeline(transaction=True) as step:
            for event, item in new:
                step.hset(f"raw:event:{event.sequence}", mapping=_values(event))
                step.hset(f"raw:delivery:{item.id}", mapping=_values(item))
            step.hset("raw:journal", "scanned", new[-1][0].sequence)
            step.execute()

    def claim(self, names: Sequence[str]) -> None:
        values = {"state": "running", "fence": int(NOW * 1e6), "owner": "ci/1", "claimed": NOW}
        with self._client.pipeline(transaction=True) as step:
            for name in names:
                step.hset(f"raw:delivery:{name}", mapping={**values, "lease_until": NOW + 60})
            step.execute()

    def finish(self, name: str) -> None:
        ended = {"state": "done", "attempts": 1, "owner": "", "lease_until": "", "ended": NOW}
        receipt = {"attempt": 1, "owner": "ci/1", "started": 1.0, "ended": 2.0, "verdict": "done"}
        with self._client.pipeline(transaction=True) as step:
            step.hset(f"raw:delivery:{name}", mapping=ended)
            step.hset(f"raw:receipt:{name}", mapping={**receipt, "reason": "", "output": b""})
            step.execute()

    def close(self) -> None:
        self._client.close()


def _values(value: object) -> dict[str, object]:
    found = {}
    for name in value.__slots__:
        each = getattr(value, name)
        if isinstance(each, tuple):
            each = " ".join(each)
        found[name] = "" if each is None else int(each) if isinstance(each, bool) else each
    return found


class Valkey(Kind):
    """The store of a fleet."""

    name = "Valkey, appendfsync everysec"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stores = 0

    def version(self) -> str:
        with self._server.client() as client:
            info = client.info("server")
        return f"Valkey {info.get('valkey_version') or info['redis_version']}"

    def store(self, folder: Path) -> Store:
        del folder
        self._stores += 1
        return RedisStore.open(parse_address(self._server.url), f"bench-{self._stores}")

    def raw(self, folder: Path) -> Raw:
        del folder
        return RawValkey(self._server)

    def keep(self, store: Store, kept: int) -> None:
        assert isinstance(store, RedisStore)
        accept(store, items(1, 1))
        run(store, 1)
        (row,) = store.journals()
        key = store._session._key
        with self._server.client() as client:
            client.config_set("appendonly", "no")
            before = client.info("memory")["used_memory"]
            for first in range(2, kept + 1, COPIES):
                last = min(first + COPIES - 1, kept)
                client.eval(COPY, 1, key, first, last, row.journal)
            used = client.info("memory")["used_memory"] - before
            for name in GROWN * 10:
                client.eval(READ, 1, f"{key}:{name}")
            client.config_set("appendonly", "yes")
            wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "log", 300)
        print(f"{kept:,} events, deliveries and receipts take {used / kept:,.0f} bytes each")
        # So that the row of the journal fits to the copies.
        store.accept(store_rates.batch(kept, row.scanned))


def main() -> int:
    # Writing the log anew would fall upon one measurement and not upon another.
    quiet = ("--auto-aof-rewrite-percentage", "0")
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), *quiet) as server:
        return store_rates.main([Valkey(server)])


if __name__ == "__main__":
    sys.exit(main())
