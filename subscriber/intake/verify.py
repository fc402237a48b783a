"""The signatures of a batch, checked by worker threads while the intake waits for them.

libsodium leaves the interpreter to other threads while it verifies, so two threads verify nearly
twice as much as one, as long as nothing else wants the interpreter. That is why the intake waits:
to judge and store one batch while the next is verified was measured too, and is slower than to do
one after the other, because every signature then has to win the interpreter back.

Only signatures are looked at here, of one batch at a time; what a bad one means is said in `admit`,
when it is the record's turn.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat

from hgext_zmqhooks.wire import envelope
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.session import Events, Record

THREADS = 2
"""More would wait for each other: a tenth of a verification needs the interpreter."""
CHUNK = 25
"""Records that a worker verifies in one go; a batch that has no more needs no worker."""


class Verifier:
    """Worker threads, shared by all intakes of a daemon; they begin when they are first needed."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")

    def check(self, batch: Events, keyring: Keyring) -> dict[int, bool]:
        """Whether the signatures of records are good, by sequence; raises what a worker raised.

        Left out are records whose certificate is not in the batch, or not to be trusted.
        """
        keys = _keys(batch.certificates, keyring)
        records = [record for record in batch.records if record.certificate in keys]
        chunks = [records[at : at + CHUNK] for at in range(0, len(records), CHUNK)]
        each = map if len(chunks) <= 1 else self._workers.map
        return dict(chain.from_iterable(each(_verify, chunks, repeat(keys))))

    def close(self) -> None:
        """End the threads."""
        self._workers.shutdown(cancel_futures=True)


def _keys(tokens: Sequence[bytes], keyring: Keyring) -> dict[str, bytes]:
    """The public keys in the certificates of a batch, by the SHA-256 of their tokens."""
    keys = {}
    for token in tokens:
        try:
            keys[hashlib.sha256(token).hexdigest()] = keyring.certificate(token).public
        except Refused:
            continue
    return keys


def _verify(records: Sequence[Record], keys: Mapping[str, bytes]) -> list[tuple[int, bool]]:
    return [
        (
            record.sequence,
            envelope.verified(
                envelope.pae(record.event), record.signature, keys[record.certificate]
            ),
        )
        for record in records
    ]
