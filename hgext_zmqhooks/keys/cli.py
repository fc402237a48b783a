"""The zmq-keys command: keys and certificates as files.

    zmq-keys quickstart DIR [--name NAME] [--days D]      everything that one machine needs
    zmq-keys root --out ROOT.key [--name NAME]            a root: ROOT.key and ROOT.pub
    zmq-keys issue --root ROOT.key --name N [--publish PATTERN]… [--read PATTERN]…
                   [--role ROLE]… [--days D] --out N.key  a certified key: N.key and N.cert
    zmq-keys show FILE… [--json]                          what a file holds, never a secret

Exit statuses: 0 good, 1 a file could not be written, 2 usage, 78 a given file cannot be used.
"""

import argparse
import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..service.errors import EXIT, ServiceError, run
from ..wire.certificates import ROLES
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey, generate
from . import make, show
from .files import KeyFileError, load_secret

MAX_DAYS = 36_500


class UsageError(ServiceError):
    """The arguments make no certificate."""

    status = EXIT.USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    verbs = {"quickstart": _quickstart, "root": _root, "issue": _issue, "show": _show}
    verbs[options.verb](options)
    return EXIT.OK


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
        description = show.describe(path, time.time())
        print(json.dumps(description.as_dict()) if options.json else show.as_text(description))


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

    shown = verbs.add_parser("show", help="what a file holds, never a secret")
    shown.add_argument("file", type=Path, nargs="+", metavar="FILE")
    shown.add_argument("--json", action="store_true", help="one JSON object per file and line")
    return parser


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
    if not text.endswith(".key") or Path(text).name == ".key":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .key")
    return Path(text)
