"""Where actions run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """What actions have in common.

    `folder`: that of the configuration, against which paths are meant. `runners`: the file that
    tells a new daemon which commands still run. `descriptors`: how many of them a command may have
    open, None: as many as we.
    """

    folder: Path
    runners: Path
    descriptors: int | None = None
