"""`hg events`: what the journal holds, whether it is sound, and whether this host is set up.

Listing and checking need no key and write nothing. `--verify` takes the store lock if it may, so
that journal and changelog do not move while they are compared.
"""

from collections.abc import Callable
from typing import NamedTuple

from mercurial import cmdutil, encoding, error, registrar, scmutil
from mercurial.i18n import _

from . import compat, extension, hgrc
from .service.words import counted

cmdtable = {}
command = registrar.command(cmdtable)

_LISTING = ("limit", "branch", "rev", "template")
"""Options of the list, of which an action takes only those that it names."""


@command(
    b"events",
    [
        (b"l", b"limit", b"", _(b"list at most this many events"), _(b"NUM")),
        (b"b", b"branch", [], _(b"list events of this named branch"), _(b"BRANCH")),
        (b"r", b"rev", [], _(b"list events that name this changeset"), _(b"REV")),
        (b"", b"check", None, _(b"show how this repository publishes, and what is wrong")),
        (b"", b"subscribers", None, _(b"show how far each subscriber is")),
        (b"", b"verify", None, _(b"check the journal and compare it with the repository")),
        (b"", b"init", None, _(b"begin the journal now")),
        (b"", b"full", None, _(b"with --init: with the whole history")),
        (b"", b"ping", None, _(b"tell an event of nothing, and who got it how soon")),
        (b"", b"preview", None, _(b"print the event that a push of one changeset would make")),
        (b"", b"resign", None, _(b"release events that are held for an expired certificate")),
        (b"", b"repair", None, _(b"set the damaged end of a journal aside")),
        (b"", b"prune", None, _(b"drop the events that zmqhooks.keep does not keep")),
        *cmdutil.formatteropts,
    ],
    _(
        b"[-l NUM] [-b BRANCH]... [-r REV]... [-T TEMPLATE]"
        b" | --check | --subscribers [-T TEMPLATE] | --ping [-b BRANCH] [-T TEMPLATE]"
        b" | --preview -r REV | --init [--full] | --resign | --verify | --repair | --prune"
    ),
    helpcategory=command.CATEGORY_MAINTENANCE,
)
def events(ui, repo, **opts):
    """list or check the events that this repository published

    Lists the journal, newest event first. -r takes changesets that are hidden, too, and the full
    hash of one that does not exist any more.

    .. container:: verbose

      Template:

      The following keywords are supported in addition to the common template
      keywords and functions. See also :hg:`help templates`.

      :sequence: Integer. Place of the event in its journal.
      :journal: String. Id of the journal.
      :branch: String. Named branch.
      :time: String. When it was written, RFC 3339 in UTC.
      :type: String. ``hg.transaction.v1`` or ``hg.baseline.v1``.
      :origin: String. ``live``, ``catchup``, ``revealed`` or ``ping``.
      :transaction: String. Id of the transaction, as in ``$HG_TXNID``.
      :user: String. Who pushed.
      :via: String. ``http``, ``ssh`` or ``local``.
      :tip: String. Tip of the branch afterwards.
      :nodes: List of strings. Changesets.
      :removed: List of strings. Changesets that are gone.
      :bookmarks: List of strings. Names of bookmarks that moved.

    With --check, shows which Python runs hg, the key and its certificate, the journal and whether
    its end is torn, whether a relay listens, and whether the repository's own .hg/hgrc is trusted.

    With --subscribers, asks the relay how far each subscriber is that it knows of this journal,
    and waits for its answer as long as zmqhooks.live-timeout says. The keywords are subscriber,
    acknowledged (a sequence), behind (events), seen (unix seconds) and connected.

    With --ping, writes an event that tells of no change, of the branch default or of the one
    given, and shows how soon it was in the journal, confirmed by the relay, and acknowledged by
    each subscriber that the relay knows. It waits at most 10 seconds for those that are connected.
    Rules see a ping only where they name the origin ping.

    With --preview, prints the event that a push of the changeset given with -r, and of no other,
    would make, as JSON on one line. Nothing is written; its journal is all zeros.

    With --resign, lets an event under the present certificate follow on each branch whose newest
    one is under a certificate that has expired. Subscribers that hold such events release them.

    With --init, begins the journal now, and not with the first transaction: with a baseline of
    each branch, or, with --full, with events of all changesets.

    With --verify, checks every record's checksum and signature, that no event is missing, and that
    all events together tell what the repository holds.

    With --repair, cuts a damaged journal behind its last sound transaction and keeps what stood
    there in a file beside it. The next transaction lists the changesets of which no event is left.

    With --prune, drops the oldest transactions from the journal, as the setting zmqhooks.keep says.
    hg does so by itself, too, once a day after a transaction. The newest transaction always stays.

    Returns 0 on success, 1 if a problem was found.
    """  # noqa: D400, D403 - the first line is shown by `hg help`, in its form
    _check_options(opts)
    for name, action in _ACTIONS.items():
        if opts.get(name):
            return action.run(ui, repo, opts)
    return _list(ui, repo, opts)


def _check_options(opts):
    """What does not go together is refused, as hg does it."""
    cmdutil.check_at_most_one_arg(opts, *_ACTIONS)
    if opts["full"] and not opts["init"]:
        hint = _(b"`hg events --init --full` begins a journal with the whole history")
        raise error.InputError(_(b"--full goes with --init only"), hint=hint)
    for name, action in _ACTIONS.items():
        refused = [other for other in _LISTING if other not in action.takes]
        cmdutil.check_incompatible_arguments(opts, name, refused)


def _check(ui, repo, _opts):
    return compat.eager("checkup").check(ui, repo, _head(repo))


def _repair(ui, repo, _opts):
    ui.status(compat.message(extension.repair_journal(repo)))
    return 0


def _prune(ui, repo, _opts):
    ui.status(compat.message(extension.prune_journal(repo)))
    return 0


def _subscribers(ui, repo, opts):
    delivery = compat.eager("delivery")
    extension.link_of(repo)
    with extension.configured(ui):
        way = delivery.way(hgrc.texts(repo.ui))
    return delivery.show(ui, way, _head(repo), _bytes_opts(opts))


def _ping(ui, repo, opts):
    given = opts["branch"] or [b"default"]
    if len(given) > 1:
        raise error.InputError(_(b"a ping is of one branch"), hint=_(b"give --branch once"))
    link = extension.link_of(repo)
    return compat.eager("ping").run(ui, repo, link, given[0], _bytes_opts(opts))


def _preview(ui, repo, opts):
    revs = scmutil.revrange(repo, opts["rev"])
    if len(revs) != 1:
        hint = _(b"give one with --rev")
        raise error.InputError(_(b"--preview is of exactly one changeset"), hint=hint)
    return compat.eager("preview").run(ui, repo, revs.first())


def _resign(ui, repo, _opts):
    return compat.eager("resign").run(ui, repo, extension.link_of(repo))


def _init(ui, repo, opts):
    return compat.eager("begin").run(ui, repo, extension.link_of(repo), full=bool(opts["full"]))


def _list(ui, repo, opts):
    limit = _limit(opts)
    branches = {compat.stored(name) for name in opts.get("branch", ())}
    nodes = _nodes(repo, opts.get("rev", ()))
    with ui.formatter(b"events", _bytes_opts(opts)) as formatter:
        for event in _newest(repo):
            if limit == 0:
                break
            if branches and event.branch not in branches:
                continue
            if nodes and nodes.isdisjoint(_named(event)):
                continue
            _item(formatter, event)
            limit -= 1
    return 0


def _bytes_opts(opts):
    return {name.encode("ascii"): value for name, value in opts.items()}


def _limit(opts):
    text = opts.get("limit")
    if not text:
        return -1
    if not text.isdigit() or int(text) == 0:
        raise error.InputError(_(b"limit must be a positive integer"))
    return int(text)


def _nodes(repo, texts):
    """Hex nodes of the revisions, hidden ones and full hashes of vanished ones included."""
    found = set()
    unfiltered = repo.unfiltered()
    for text in texts:
        if len(text) == 40 and not text.strip(b"0123456789abcdef"):
            found.add(text.decode("ascii"))
            continue
        node = unfiltered.changelog.node
        found |= {node(rev).hex() for rev in scmutil.revrange(unfiltered, [text])}
    return found


def _named(event):
    """Every node that an event tells something about."""
    nodes = [item.node for item in (*event.changesets, *event.phases, *event.obsoleted)]
    nodes += event.removed
    for move in (*event.bookmarks, *event.tags):
        nodes += [move.old, move.new]
    return nodes


def _newest(repo):
    """The committed events, newest first: offsets are kept in memory, events are not."""
    reading = compat.eager("journal.reading")
    form = compat.eager("journal.format")
    wire = compat.eager("wire.events")
    head = _head(repo)
    if head is None or not head.size:
        return
    path = _files(repo).path(form.EVENTS)
    try:
        with compat.eager("journal.origin").open_events(path) as source:
            frames = reading.frames(source, source.base, head.size)
            offsets = [frame.offset for frame in frames if frame.kind == form.EVENT]
            for offset in reversed(offsets):
                record = reading.record_at(source, offset, head.size)
                yield wire.decode(form.read_signed(record).event)
    except (form.JournalError, ValueError) as problem:
        raise error.Abort(
            compat.message(f"{extension.EVENTS} is damaged: {problem}"),
            hint=extension.REPAIR,
        ) from problem


def _files(repo):
    return compat.eager("storefiles").StoreFiles(repo.svfs)


def _head(repo):
    """The head mark, None if there is none that can be read."""
    heads = compat.eager("journal.heads")
    data = _files(repo).read(compat.eager("journal.format").HEAD)
    try:
        return heads.decode(data) if data else None
    except heads.JournalError:
        return None


def _item(formatter, event):
    nodes = [changeset.node for changeset in event.changesets]
    tip = (event.heads or event.summary).tip if event.heads or event.summary else None
    user = event.pusher.user if event.pusher else None
    via = event.pusher.via if event.pusher else None
    formatter.startitem()
    formatter.data(
        sequence=event.sequence,
        journal=_local(event.journal),
        branch=_local(event.branch),
        time=_local(event.time),
        type=_local(event.type),
        origin=_local(event.origin),
        transaction=_local(event.transaction.id),
        user=_local(user),
        via=_local(via),
        tip=_local(tip),
        nodes=formatter.formatlist([_local(node) for node in nodes], b"node"),
        removed=formatter.formatlist([_local(node) for node in event.removed], b"node"),
        bookmarks=formatter.formatlist(
            [_local(move.name) for move in event.bookmarks], b"bookmark"
        ),
    )
    who = f"{user or '?'} ({via})" if via else "-"
    line = (
        f"{event.sequence:>6}  {event.time[:19]}Z  {event.branch}  {_described(event)}"
        f"  {who}  {tip[:12] if tip else '-'}\n"
    )
    formatter.plain(compat.message(line))


def _local(text):
    return None if text is None else encoding.tolocal(text.encode())


def _described(event):
    """What the event tells, in words."""
    if event.type.startswith("hg.baseline"):
        return (
            f"baseline of {counted(event.summary.changesets if event.summary else 0, 'changeset')}"
        )
    counts = [
        (len(event.changesets), "changeset", "changesets"),
        (len(event.bookmarks), "bookmark", "bookmarks"),
        (len(event.tags), "tag", "tags"),
        (len(event.phases), "phase move", "phase moves"),
        (len(event.obsoleted), "obsoleted", "obsoleted"),
        (len(event.removed), "removed", "removed"),
    ]
    if event.origin == "ping":
        return "signed again" if event.transaction.name == "resign" else "ping"
    words = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    if event.summary:
        words.insert(0, f"summary of {counted(event.summary.changesets, 'changeset')}")
    prefix = "" if event.origin == "live" else f"{event.origin}: "
    return prefix + (", ".join(words) or "heads")


def _verify(ui, repo, _opts):
    return compat.eager("verification").run(ui, repo, _head, extension.REPAIR)


class _Action(NamedTuple):
    """What the command does besides listing, and which options of the list that takes."""

    run: Callable[[object, object, dict], int]
    takes: tuple[str, ...] = ()


_ACTIONS = {
    "check": _Action(_check),
    "subscribers": _Action(_subscribers, ("template",)),
    "ping": _Action(_ping, ("branch", "template")),
    "preview": _Action(_preview, ("rev",)),
    "resign": _Action(_resign),
    "init": _Action(_init),
    "verify": _Action(_verify),
    "repair": _Action(_repair),
    "prune": _Action(_prune),
}
