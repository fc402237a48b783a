"""One client of the soak: it commits or pushes again and again until it is told to stop.

    python -m fault.soak_hg NAME FOLDER REPOSITORY SEED PACE [URL SERVED]

Without a URL it commits into REPOSITORY; with one it commits into it, a clone, and pushes from
there to URL, which is the repository SERVED. Branch, number of changesets and bookmarks come from
SEED.

The process itself has loaded Mercurial and runs none of its commands: a forked child does, like
those of Mercurial's own command server, and is replaced at once when it is killed. In FOLDER/run:

    hg.NAME   pid of the child               stop    end when this file is there
    pause     wait while this file is there

FOLDER/log/hg.NAME gets one line per command: what, exit status, and what it said if that is news.
"""

import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fault.killhg import hg

BRANCHES = ("default", "stable", "feature")
MARKS = ("@", "next", "release")
STEPS = 60
"""Of one child; the next one begins with a fresh memory."""
LOOK_SECONDS = 0.1
EXPECTED = (
    "abandoned transaction",
    "abort: error: ",
    "abort: HTTP Error",
    "abort: stream ended unexpectedly",
    "abort: unexpected response",
    "abort: no suitable response from remote hg",
    "abort: remote error",
    "remote: ",
    "waiting for lock",
    "no changes found",
)


@dataclass(frozen=True)
class Worker:
    name: str
    folder: Path
    repository: str
    pace: float
    url: str | None = None
    served: str = ""

    @property
    def top(self) -> Path:
        return self.folder / "run"

    def stopped(self) -> bool:
        return (self.top / "stop").exists()

    def steps(self, rng: random.Random) -> None:
        """What one child does."""
        self._mend(self.repository)
        for _ in range(STEPS):
            time.sleep(min(rng.expovariate(1 / self.pace), 5 * self.pace))
            while (self.top / "pause").exists() and not self.stopped():
                time.sleep(LOOK_SECONDS)
            if self.stopped():
                return
            self._step(rng)

    def _step(self, rng: random.Random) -> None:
        here = ("-R", self.repository)
        branch, mark = rng.choice(BRANCHES), rng.choice(MARKS)
        count = str(rng.randint(1, 3))
        made = self._hg("commit", "testbuild", *here, "--count", count, "--branches", branch)
        marked = rng.random() < 0.3
        if made and marked:
            self._hg("bookmark", "bookmark", *here, "--force", "--rev", branch, mark)
        if self.url:
            bookmark = ("--bookmark", mark) if made and marked else ()
            self._hg("push", "push", *here, "--force", "--new-branch", *bookmark, self.url)

    def _hg(self, what: str, *arguments: str) -> bool:
        status, said = hg(*arguments)
        usual = status in {0, 1} or any(words in said for words in EXPECTED)
        if "Traceback" in said:
            usual = False
        self._log(what, status, "" if usual else repr(said[-1500:]))
        if "abandoned transaction" in said:
            self._mend(self.served if what == "push" else self.repository)
        return status == 0

    def _mend(self, repository: str) -> None:
        """`hg recover` where a transaction was abandoned, as an administrator would."""
        if (Path(repository) / ".hg" / "store" / "journal").exists():
            status, said = hg("recover", "-R", repository)
            usual = status in {0, 1}
            self._log("recover", status, "" if usual else repr(said[-1500:]))

    def _log(self, what: str, status: int, news: str) -> None:
        with (self.folder / "log" / f"hg.{self.name}").open("a") as stream:
            stream.write(f"{what} {status} {news}".rstrip() + "\n")


def work(worker: Worker, seed: str) -> None:
    """Fork one child after another."""
    pid_file = worker.top / f"hg.{worker.name}"
    number = 0
    while not worker.stopped():
        number += 1
        child = os.fork()
        if child == 0:
            status = 1
            try:
                worker.steps(random.Random(f"{seed}/{worker.name}/{number}"))
                status = 0
            finally:
                os._exit(status)
        pid_file.write_text(str(child))
        os.waitpid(child, 0)


def main() -> None:
    name, folder, repository, seed, pace, *remote = sys.argv[1:]
    work(Worker(name, Path(folder), repository, float(pace), *remote), seed)


if __name__ == "__main__":
    main()
