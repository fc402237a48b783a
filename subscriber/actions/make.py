"""Makes an action from what a rule says of it."""

from dataclasses import dataclass
from pathlib import Path

from .base import Action
from .exec import Exec
from .settings import Said


@dataclass(frozen=True, slots=True)
class Place:
    """Where actions run.

    `folder`: that of the configuration, against which paths are meant. `runners`: the file that
    tells a new daemon which commands still run. `descriptors`: how many of them a command may have
    open, None: as many as we.
    """

    folder: Path
    runners: Path
    descriptors: int | None = None


def make(said: Said, place: Place) -> Action:
    """The action of one rule."""
    files = () if place.descriptors is None else (f"soft-files={place.descriptors}",)
    return Exec(said, str(place.folder), str(place.runners), setup=files)
