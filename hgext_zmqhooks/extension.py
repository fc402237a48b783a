"""The extension inside Mercurial: where it takes hold of a repository, and what it hands on.

Loaded by every hg command, so it imports little; the parts that read keys, sign and send are loaded
by the first transaction. Repositories that have no name here keep Mercurial's own class.
"""

import contextlib
import time
import weakref

from mercurial import dispatch, error, registrar, repair, transaction

from . import compat, hgrc, scope
from .service.words import counted

configtable = {}
configitem = registrar.configitem(configtable)

configitem(b"zmqhooks", b"key", default=None)
configitem(b"zmqhooks", b"key-group", default=None)
configitem(b"zmqhooks", b"relay", default=b"")
configitem(b"zmqhooks", b"relay-certificate", default=None)
configitem(b"zmqhooks", b"root", default=None)
configitem(b"zmqhooks", b"repo", default=None)
configitem(b"zmqhooks", b"live-timeout", default=b"250")
configitem(b"zmqhooks", b"keep", default=b"90d")
configitem(b"zmqhooks", b"enabled", default=True)


class Process:
    """What all repositories of this process share: the publisher, and whose turn it is."""

    def __init__(self):
        self.scopes = scope.Scopes()
        self._publisher = None

    def publisher(self):
        """The publisher, and with it zmq, loaded by the first live copy."""
        if self._publisher is None:
            self._publisher = compat.eager("publish").Publisher()
        return self._publisher

    def recorder(self, name):
        """A recorder for one repository object."""
        return compat.eager("recorder").Recorder(name, self.publisher, self.scopes)


# The publisher's pause after a timeout is per process, and Mercurial has no place for that.
_process = Process()


EVENTS = "the event journal .hg/store/zmqhooks-events"
REPAIR = (
    b"`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the"
    b" next transaction tells again which changesets are there"
)
"""What to do about a damaged journal: a push at night ends with it."""


@contextlib.contextmanager
def configured(ui):
    """What cannot be used of the section [zmqhooks] ends the command, with its hint."""
    settings = compat.eager("settings")
    try:
        yield
    except settings.SettingError as problem:
        message, hint = compat.message(str(problem)), compat.message(hgrc.advice(ui, problem))
        raise error.ConfigError(message, hint=hint) from problem


class Attached:
    """A repository object's link to the extension, kept on its unfiltered object."""

    def __init__(self, name):
        self.name = name
        self.copies = ()
        """How the live copies of the last transaction went."""
        self._recorder = None

    @property
    def recorder(self):
        """Made at the first transaction: whoever only reads needs neither zmq nor nacl."""
        if self._recorder is None:
            self._recorder = _process.recorder(self.name)
        return self._recorder

    @contextlib.contextmanager
    def sound(self):
        """Where the journal cannot take the events, nothing is written, and hg says what to do."""
        try:
            yield
        except compat.eager("wire.errors").Refused as problem:
            text = f"what happened here does not fit an event: {problem.detail}"
            hint = b"no reader would take a name of this size: use a shorter one"
            raise error.Abort(compat.message(text), hint=hint) from problem
        except compat.eager("journal.heads").NewerHead as problem:
            text = f"the event journal of {self.name} cannot be written: {problem}"
            hint = b"a newer zmqhooks wrote it: install that one for the Python that runs hg"
            raise error.Abort(compat.message(text), hint=hint) from problem
        except compat.eager("journal.format").JournalError as problem:
            text = f"{EVENTS} of {self.name} is damaged: {problem}"
            raise error.Abort(compat.message(text), hint=REPAIR) from problem

    def begin(self, repo, desc):
        """Check everything that may forbid writing; abort before anything changes."""
        recorder = self.recorder
        with configured(repo.ui), self.sound():
            return recorder.open(repo, desc, hgrc.texts(repo.ui))

    def join(self, repo, tr, opened):
        """Tie the recorder to a transaction that has just begun."""
        recorder, held = self.recorder, weakref.ref(repo.unfiltered())
        try:
            with self.sound():
                recorder.opened(repo, tr, opened)
        except BaseException:
            tr.release()
            raise

        def append(inner):
            # Said here, since a web server drops what is said before it reads the bundle.
            for text in recorder.warnings(held(), opened, hgrc.unknown(held().ui)):
                held().ui.warn(b"zmqhooks: %s\n" % compat.message(text))
            with configured(held().ui), self.sound():
                recorder.finalize(held(), inner, opened)

        def close(_inner):
            self._commit(held(), opened)

        # Two rounds: after the first the changelog is written and other finalizers are done.
        tr.addfinalize(b"zzzz-zmqhooks", lambda t: t.addfinalize(b"zzzz-zmqhooks-append", append))
        tr.addpostclose(b"zmqhooks", close)

    def _commit(self, repo, opened):
        try:
            self.recorder.commit(opened)
        except Exception as problem:  # noqa: BLE001 - the transaction is committed: nothing may undo it
            text = f"zmqhooks: event written, but not shown yet: {problem}\n"
            repo.ui.warn(compat.message(text))

    def publish(self, repo):
        """The live copy; called without a lock, by the txnclose hook."""
        if self._recorder is None:
            return
        try:
            self.copies = results = self._recorder.publish(repo)
        except Exception as problem:  # noqa: BLE001 - a live copy is a hint, the journal has the event
            repo.ui.warn(compat.message(f"zmqhooks: no live copy: {problem}\n"))
            return
        for result in results:
            text = (
                f"zmqhooks: live copy {result.ending.value}: {result.confirmed} of"
                f" {counted(result.offered, 'event')} in {result.seconds * 1000:.0f} ms\n"
            )
            repo.ui.debug(compat.message(text))

    def retain(self, repo):
        """Once a day, the automatic prune; called without a lock, after the live copy.

        Who finds the repository locked leaves it to the next transaction. It is bounded, since the
        push that it comes after still waits for its answer.
        """
        retention = compat.eager("retention")
        try:
            if self._recorder is None or not retention.due(repo, time.time()):
                return
            with repo.lock(wait=False):
                retention.look(repo)
                done = self._prune(repo, bounded=True)
        except error.LockError:
            return
        except Exception as problem:  # noqa: BLE001 - nothing of this may fail a push that is done
            repo.ui.warn(compat.message(f"zmqhooks: old events not dropped: {problem}\n"))
            return
        if done.large:
            text = b"zmqhooks: too many events to drop all old ones during a push\n"
            repo.ui.warn(text + b"(run `hg events --prune` at night, or lower zmqhooks.keep)\n")

    def signer(self, repo):
        """The key that events are signed with now."""
        with configured(repo.ui):
            config = compat.eager("settings").parse(hgrc.texts(repo.ui))
            return compat.eager("signer").load(config, self.name)

    def tell(self, repo, desc, asked):
        """A transaction that changes nothing and tells what was asked for; the lock is held.

        The recorder's `Opened`: the last events of its `appended` are those asked for.
        """
        recorder = self.recorder
        recorder.asked, recorder.told = asked, None
        try:
            with repo.transaction(desc):
                pass
        finally:
            recorder.asked = None
        if recorder.told is None:
            raise error.Abort(b"event written, but not shown yet", hint=b"see the warning above")
        return recorder.told

    def _prune(self, repo, *, bounded):
        if repo.svfs.exists(b"journal"):
            raise error.Abort(b"a transaction was abandoned", hint=b"run `hg recover` first")
        with self.sound():
            keep = compat.eager("settings").check_keep(hgrc.texts(repo.ui)["keep"])
            writer = self.recorder.writer(repo)
            prune = compat.eager("retention").prune
            return prune(repo, writer, keep, time.time(), bounded=bounded)

    def prune(self, repo):
        """Prune by hand: all that is to go."""
        with repo.lock():
            return self._prune(repo, bounded=False)


def _txnclose(ui, repo, hooktype, **_arguments):
    """The hook: it may run for an aborted transaction too, so only what was committed is sent."""
    attached = repo.unfiltered().zmqhooks
    attached.publish(repo)
    attached.retain(repo)


def reposetup(ui, repo):
    """Give a repository that has a name the transactions that tell."""
    if not repo.local() or getattr(repo, "store", None) is None:
        return
    name = hgrc.repository_name(repo.ui, repo)
    if name is None:
        return

    class telling(repo.__class__):  # noqa: N801 - Mercurial names such classes so
        def transaction(self, desc, *args, **kwargs):
            # debugupgraderepo copies the journal with the store; its own transaction is no news.
            if self.currenttransaction() is not None or desc == b"upgrade":
                return super().transaction(desc, *args, **kwargs)
            attached = self.unfiltered().zmqhooks
            opened = attached.begin(self, desc)
            tr = super().transaction(desc, *args, **kwargs)
            attached.join(self, tr, opened)
            return tr

        def _rollback(self, dryrun, force):
            if not dryrun:
                _prepare_rollback(self, super()._rollback, force)
            return super()._rollback(dryrun, force)

    repo.__class__ = telling
    repo.unfiltered().zmqhooks = Attached(name)
    repo.ui.setconfig(b"hooks", b"txnclose.zmqhooks", _txnclose, b"zmqhooks")


def _prepare_rollback(repo, rollback, force):
    """Lower the journal's head before Mercurial cuts the file, if it will cut it."""
    with repo.ui.silent():
        rollback(True, force)  # raises where the real one would refuse
    for line in repo.svfs.tryread(b"undo").splitlines():
        name, _nul, offset = line.partition(b"\0")
        if name == b"zmqhooks-events":
            attached = repo.unfiltered().zmqhooks
            with attached.sound():
                fits = attached.recorder.writer(repo).before_rollback(int(offset))
            if not fits:  # Mercurial would notice in the midst of cutting, and stop there
                message = b"the event journal is shorter than before the transaction to roll back"
                raise error.Abort(message, hint=b"use `hg strip`, or restore .hg/store/%s" % name)


def link_of(repo):
    """The link of a repository that publishes; Abort for another one."""
    found = getattr(repo.unfiltered(), "zmqhooks", None)
    if found is None:
        raise error.Abort(b"this repository publishes nothing", hint=b"see `hg events --check`")
    return found


def prune_journal(repo):
    """Drop old events; what was done, for the user."""
    with configured(repo.ui):
        done = link_of(repo).prune(repo)
    if not done.events:
        return "nothing to drop\n"
    dropped = f"{counted(done.events, 'event')} ({counted(max(done.bytes, 0), 'byte')})"
    return f"dropped {dropped}, kept {done.kept}\n"


def repair_journal(repo):
    """Cut a damaged journal behind what is sound in it; what was done, for the user."""
    link = link_of(repo)
    with repo.lock():
        if repo.svfs.exists(b"journal"):
            raise error.Abort(b"a transaction was abandoned", hint=b"run `hg recover` first")
        with link.sound():
            done = link.recorder.writer(repo).repair()
        if done is not None:  # the cut of a rollback lies behind the end of the file now
            transaction.cleanup_undo_files(repo.ui.warn, repo.vfs_map)
    if done is None:
        return "the journal is not damaged: nothing to repair\n"
    size, aside = done
    return (
        f"cut the journal at byte {size}; what stood behind it is in .hg/store/{aside}\n"
        "the next transaction tells again which changesets are there\n"
    )


def _strip(orig, ui, repo, nodelist, *args, **kwargs):
    """`repair.strip`, with what it removes announced by the last of its transactions."""
    attached = getattr(repo.unfiltered(), "zmqhooks", None)
    if attached is None or repo.currenttransaction() is not None:
        return orig(ui, repo, nodelist, *args, **kwargs)
    attached.begin(repo, b"strip")
    recorder = attached.recorder
    with attached.sound():
        behind = recorder.behind(repo)
    if behind:
        with repo.transaction(b"zmqhooks-catchup"):
            pass
    nodes = [nodelist] if isinstance(nodelist, bytes) else list(nodelist)
    recorder.stripping = compat.eager("changes").stripped(repo, nodes)
    try:
        return orig(ui, repo, nodelist, *args, **kwargs)
    finally:
        recorder.stripping = None


def _runcommand(orig, lui, repo, cmd, *args):
    """Each command has its own time for live copies; sshd's child is `serve --stdio`.

    The last of the arguments are the command's own options (6.9 to 7.2).
    """
    _process.scopes.begin(stdio=cmd == b"serve" and bool(args[-1].get(b"stdio")))
    return orig(lui, repo, cmd, *args)


def uisetup(ui):
    """Wrap what is not a method of the repository."""
    compat.wrap(repair, "strip", _strip)
    compat.wrap(dispatch, "runcommand", _runcommand)
