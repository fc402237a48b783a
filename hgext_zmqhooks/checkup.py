# ruff: noqa: PTH110, PTH116
# Mercurial's paths are bytes, which pathlib has not.
"""`hg events --check`: how this repository publishes, and what is wrong with that.

Needs no readable key, writes nothing. Each line names a thing and how it is; `problem:` lines say
what to do.
"""

import os
import platform
import stat
import sys
from typing import Any

from . import compat, extension, hgrc
from .service.words import counted

Line = tuple[str, str]

_START = "start zmq-subscriber or zmq-relay; its `publish` must be this address"
_REACH = (
    "folder and socket must have a group of this user, modes 2750 and 0660: set `group` for the"
    " daemon; who has just been added to a group must log in again"
)


def check(ui: Any, repo: Any, head: Any) -> int:
    """Print it; 1 if there is a problem. `head`: the journal's, None if there is none."""
    problems: list[str] = []
    lines = [("python", f"{sys.executable} ({platform.python_version()})")]
    lines += _libraries(problems)
    lines.append(_trust(ui, repo, problems))
    name = hgrc.repository_name(repo.ui, repo)
    if name is None:
        lines.append(("repository", "left alone"))
        problems.append(f"it publishes nothing: {hgrc.why_left_alone(repo.ui, repo)}")
    else:
        lines.append(("repository", name))
        lines += _publishing(repo, name, problems)
        lines.append(_journal(head))
    problems += _damage(repo)
    problems += hgrc.unknown(repo.ui)
    for what, how in lines:
        ui.write(compat.message(f"{what + ':':<12} {how}\n"))
    for problem in problems:
        ui.warn(compat.message(f"problem: {problem}\n"))
    return 1 if problems else 0


def _libraries(problems: list[str]) -> list[Line]:
    for module in ("publish", "signer"):
        try:
            compat.eager(module)
        except ImportError as missing:
            problems.append(f"{missing}: install it for the Python that runs hg, named above")
    found = []
    for name in ("zmq", "nacl"):
        module = sys.modules.get(name)
        if module is not None:
            found.append(("library", f"{name} {module.__version__}"))
    return found


def _trust(ui: Any, repo: Any, problems: list[str]) -> Line:
    path = repo.vfs.join(b"hgrc")
    shown = os.fsdecode(path)
    if not os.path.exists(path):
        return "hgrc", f"{shown}: none"
    if compat.trusted(ui, path):
        return "hgrc", f"{shown}: trusted"
    problems.append(
        f"{shown} belongs to somebody else, so hg ignores parts of it:"
        " see [trusted] in `hg help config`"
    )
    return "hgrc", f"{shown}: not trusted"


def _publishing(repo: Any, name: str, problems: list[str]) -> list[Line]:
    """Key, certificate and relay."""
    settings, signer = compat.eager("settings"), compat.eager("signer")
    texts = hgrc.texts(repo.ui)
    unfit = settings.problems(texts)
    problems += [f"{each} ({hgrc.advice(repo.ui, each)})" for each in unfit]
    if any(each.key == "key" for each in unfit):
        return []
    config = settings.parse(texts | dict.fromkeys(each.key for each in unfit))
    try:
        key = signer.load(config, name)
        curve = signer.curve(config, key.secret)
    except settings.SettingError as problem:
        problems.append(f"{problem} ({hgrc.advice(repo.ui, problem)})")
        return []
    late = key.warning(signer.now())
    if late:
        problems.append(late)
    allowed = ", ".join(pattern.text for pattern in key.details.publish)
    return [
        ("key", config.key),
        ("certificate", f"'{key.details.sub}' until {signer.day(key.details.exp)}: {allowed}"),
        ("relay", _relay(config, curve, problems)),
    ]


def _relay(config: Any, curve: Any, problems: list[str]) -> str:
    if not config.relay:
        return "none: journal only"
    publish = compat.eager("publish")
    ending = publish.Publisher().probe(config.relay, max(1.0, config.live_timeout), curve)
    if ending is publish.Ending.CONFIRMED:
        return f"{config.relay}: listens"
    reason, hint = ending.value, _START
    if ending is publish.Ending.NOBODY and config.relay.startswith("ipc://"):
        reason, hint = unheard(config.relay.removeprefix("ipc://"))
    problems.append(
        f"zmqhooks.relay: '{config.relay}': {reason}; events wait in the journal ({hint})"
    )
    return f"{config.relay}: {ending.value}"


def unheard(path: str) -> tuple[str, str]:
    """Why nobody listens at the socket `path`, and what to do: no daemon, or none for this user."""
    closed = compat.eager("service.access").obstacle(path, os.W_OK)
    if closed is None:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return "it is no socket", _START
        return "nobody listens any more", _START
    return f"nobody listens: {closed}", _REACH if " may not be " in closed else _START


def _journal(head: Any) -> Line:
    if head is None or not head.journal:
        return "journal", "none yet: the first transaction begins it"
    count = counted(head.sequence - head.first + 1, "event")
    state = ", ended" if head.ended else ""
    return "journal", f"{head.journal}: {count}, {head.size} bytes{state}"


def _damage(repo: Any) -> list[str]:
    """What would stop the next push at once; `--verify` looks at everything."""
    files, journal = compat.eager("storefiles").StoreFiles(repo.svfs), compat.eager("journal.ends")
    try:
        head = journal.head(files)
        found = journal.torn(files, head, tail=not _busy(repo))
        if found is not None and (_busy(repo) or journal.head(files) != head):
            found = journal.torn(files, head, tail=False)  # somebody wrote meanwhile
    except (OSError, journal.JournalError) as problem:
        return [f"{extension.EVENTS} cannot be read: {problem}"]
    if found is None:
        return []
    return [f"{extension.EVENTS} is damaged: {found} ({os.fsdecode(extension.REPAIR)})"]


def _busy(repo: Any) -> bool:
    """Whether there is a transaction, or somebody who may begin one."""
    return bool(repo.svfs.lexists(b"lock") or repo.svfs.exists(b"journal"))
