"""One target under atheris, in a process of its own; what it says is read by `run.py`.

    PYTHONPATH=tests python -m fuzz.child TARGET CORPUS [-option=of libFuzzer]…

libFuzzer ends the process itself: 0 after the last input, else there is a file `crash-…`, `oom-…`
or `timeout-…` with the input.
"""

import sys
from pathlib import Path
from random import Random

import atheris

STRUCTURED = 0.7
"""Share of inputs that keep the structure, where a target can make them."""

with atheris.instrument_imports(include=["hgext_zmqhooks"], enable_loader_override=False):
    from fuzz.targets import TARGETS


def main(name: str, corpus: str, *options: str) -> None:
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds):
        Path(corpus, f"seed-{number}").write_bytes(seed)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        changed = target.mutate(data, rng) if rng.random() < STRUCTURED else None
        return atheris.Mutate(data, most) if changed is None or len(changed) > most else changed

    atheris.Setup(
        [sys.argv[0], corpus, f"-max_len={target.size}", *options],
        target.check,
        custom_mutator=mutated if target.mutate else None,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
