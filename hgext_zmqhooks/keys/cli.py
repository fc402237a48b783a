"""The zmq-keys command: keys and certificates as files.

    zmq-keys quickstart DIR [--name NAME] [--days D]      everything that one machine needs
    zmq-keys root --out ROOT.key [--name NAME]            a root: ROOT.key and ROOT.pub
    zmq-keys issue --root ROOT.key --name N [--publish PATTERN]… [--read PATTERN]…
                   [--role ROLE]… [--days D] --out N.key  a certified key: N.key and N.cert
    zmq-keys show FILE… [--json]                          what a file holds, never a secret
    zmq-keys verify FILE… --trust ROOT.pub… [--revocations ROOT.crl]… [--json]
                                                          whether it counts now
    zmq-keys rotate N.key --root ROOT.key [--days D] [--old-root OLD.pub]
                                                          new keys of the same name and rights
    zmq-keys revoke --root ROOT.key [--certificate FILE]… [--id ID]… [--name N]… --out ROOT.crl
                                                          makes or extends a revocation list

Exit statuses: 0 good, 1 a file could not be written or does not count, 2 usage, 78 a given file
cannot be used.
"""

import argparse
import json
import shlex
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..service.errors import EXIT, ServiceError, run
from ..wire.certificates import ROLES
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey, generate
from . import make, renew, revoke, rotate, show
from .files import KeyFileError, load_secret
from .replace import alone
from .verify import Trusted, verify

MAX_DAYS = 36_500


class UsageError(ServiceError):
    """The arguments make no certificate."""

    status = EXIT.USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    verbs: dict[str, Callable[[argparse.Namespace], int | None]] = {
        "quickstart": _quickstart,
        "root": _root,
        "issue": _issue,
        "show": _show,
        "verify": _verify,
        "rotate": _rotate,
        "revoke": _revoke,
    }
    return verbs[options.verb](options) or EXIT.OK


def _quickstart(options: argparse.Namespace) -> None:
    folder: Path = options.folder
    files = make.quickstart_files(folder, options.name, options.days, time.time())
    _write(files, folders=True)
    publisher = folder / "publisher.key"
    print(
        f"name of the subscriber: {options.name}\n"
        "root.key signs further certificates: keep it from other users, and a copy elsewhere\n"
        f"if several users push here: chgrp GROUP {publisher} && chmod 640 {publisher},"
        " and key-group = GROUP in the hgrc"
    )


def _root(options: argparse.Namespace) -> None:
    _write(make.root_files(generate(options.name or options.out.stem), options.out))


def _issue(options: argparse.Namespace) -> None:
    root = _load_root(options.root)
    wish = make.Wish(
        options.name,
        tuple(options.publish),
        tuple(options.read),
        frozenset(options.role),
        options.days,
    )
    if not wish.all_roles():
        raise UsageError("a certificate for nothing", hint="give --publish, --read or --role")
    try:
        key = make.certified(root, wish, time.time())
    except Refused as error:
        hint = f"a pattern has three parts, such as {make.EVERYTHING} or hg:team/*:default:"
        raise UsageError(error.detail, hint=hint) from error
    _write(make.key_files(key, options.out))


def _load_root(path: Path) -> SecretKey:
    root = load_secret(path)
    if root.certificate is not None:
        hint = "name the ROOT.key made by `zmq-keys root` or `zmq-keys quickstart`"
        raise KeyFileError(path, "is not a root: it has a certificate itself", hint)
    return root


def _show(options: argparse.Namespace) -> None:
    for path in options.file:
        for found in show.describe(path, time.time()):
            print(json.dumps(found.as_dict()) if options.json else show.as_text(found))


def _verify(options: argparse.Namespace) -> int:
    trusted = Trusted.load(options.trust, options.revocations)
    found = [verify(path, trusted, time.time()) for path in options.file]
    for verdict in found:
        print(json.dumps(asdict(verdict)) if options.json else verdict)
    return EXIT.PROBLEM if any(verdict.problem for verdict in found) else EXIT.OK


def _rotate(options: argparse.Namespace) -> None:
    root = _load_root(options.root)
    with alone(options.root):
        old = rotate.old_certificate(options.file, root, options.old_root)
        key = rotate.successor(old, root, options.days, time.time())
        for path in rotate.take_place(key, options.file):
            print(f"replaced {path}")
    if options.old_root is None:
        words = ["zmq-keys", "revoke", "--root", str(options.root), "--id", old.jti]
        words += ["--out", str(options.root.with_suffix(".crl"))]
        print(f"the old certificate is good until {renew.day(old.exp)}; to end it before:")
        print(shlex.join(words))


def _revoke(options: argparse.Namespace) -> None:
    root = _load_root(options.root)
    with alone(options.root):
        now = int(time.time())
        entries = [
            *(revoke.by_certificate(path, root, now) for path in options.certificate),
            *(revoke.by_id(jti, now) for jti in options.id),
            *(revoke.by_name(name, now) for name in options.name),
        ]
        found, changed = revoke.extend(options.out, root, entries, now)
        if options.name:
            _outlast(now)
    what = "" if changed else ", unchanged: it says so already"
    print(f"{options.out}: number {found.number}, {len(found.revoked)} revoked{what}")


def _outlast(second: int) -> None:
    """What is issued after this command begins in another second than those it revoked."""
    while time.time() < second + 1:
        time.sleep(max(0.0, second + 1 - time.time()))


def _write(files: Mapping[Path, tuple[bytes, int]], *, folders: bool = False) -> None:
    make.write(files, folders=folders)
    for path, (_, mode) in files.items():
        print(f"{mode:04o} {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zmq-keys", description="Make and show the keys and certificates of zmqhooks."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    quickstart = verbs.add_parser("quickstart", help="everything that one machine needs")
    quickstart.add_argument(
        "folder", type=Path, metavar="DIR", help="where to write; made if need be"
    )
    host = socket.gethostname()
    quickstart.add_argument(
        "--name", type=_name, default=host, help=f"name of the subscriber (default: {host})"
    )
    _add_days(quickstart)

    root = verbs.add_parser("root", help="a root key, which signs certificates")
    root.add_argument("--out", type=_key_path, required=True, metavar="ROOT.key")
    root.add_argument("--name", type=_name, help="default: the file's name without .key")

    issue = verbs.add_parser("issue", help="a key with a certificate")
    issue.add_argument("--root", type=Path, required=True, metavar="ROOT.key", help="who certifies")
    issue.add_argument("--name", type=_name, required=True)
    issue.add_argument(
        "--publish", action="append", default=[], metavar="PATTERN", help="topics it may sign"
    )
    issue.add_argument(
        "--read", action="append", default=[], metavar="PATTERN", help="topics it may read"
    )
    issue.add_argument("--role", action="append", default=[], choices=ROLES)
    _add_days(issue)
    issue.add_argument("--out", type=_key_path, required=True, metavar="N.key")

    _add_verify(verbs.add_parser("verify", help="whether a file counts, and why not"))
    _add_rotate(verbs.add_parser("rotate", help="new keys of the same name and rights, in place"))
    _add_revoke(verbs.add_parser("revoke", help="make or extend the revocation list of a root"))

    shown = verbs.add_parser("show", help="what a file holds, never a secret")
    shown.add_argument("file", type=Path, nargs="+", metavar="FILE")
    shown.add_argument("--json", action="store_true", help="one JSON object per file and line")
    return parser


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="+", metavar="FILE")
    parser.add_argument(
        "--trust", action="append", type=Path, required=True, metavar="ROOT.pub", help="who counts"
    )
    parser.add_argument(
        "--revocations",
        action="append",
        type=Path,
        default=[],
        metavar="ROOT.crl",
        help="what one of them revoked",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per file and line")


def _add_rotate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=_key_path, metavar="N.key")
    parser.add_argument(
        "--root", type=Path, required=True, metavar="ROOT.key", help="who certifies the new keys"
    )
    parser.add_argument(
        "--old-root", type=Path, metavar="OLD.pub", help="who certified the old ones, if another"
    )
    parser.add_argument(
        "--days", type=_days, help="lifetime of the new certificate (default: that of the old one)"
    )


def _add_revoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, required=True, metavar="ROOT.key", help="who certified and now revokes"
    )
    parser.add_argument(
        "--certificate",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="the certificate in this N.cert or N.key",
    )
    parser.add_argument(
        "--id", action="append", default=[], help="the certificate with this id (`show`: serial)"
    )
    parser.add_argument(
        "--name",
        action="append",
        type=_name,
        default=[],
        help="every certificate made for this name up to now",
    )
    parser.add_argument("--out", type=_list_path, required=True, metavar="ROOT.crl")


def _add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days",
        type=_days,
        default=make.DAYS,
        help="lifetime of a certificate (default: %(default)s)",
    )


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to {MAX_DAYS}")
    return int(text)


def _name(text: str) -> str:
    if not 0 < len(text) <= 200 or not text.isprintable() or text != text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of 1 to 200 printable characters")
    return text


def _key_path(text: str) -> Path:
    return _path(text, ".key")


def _list_path(text: str) -> Path:
    return _path(text, ".crl")


def _path(text: str, suffix: str) -> Path:
    if not text.endswith(suffix) or Path(text).name == suffix:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {suffix}")
    return Path(text)
