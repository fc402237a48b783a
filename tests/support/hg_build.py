"""A Mercurial extension for tests: many changesets quickly, with text, files and branches.

    hg --config extensions.build=.../hg_build.py testbuild -n 300 --branches default,stable

Each changeset belongs to the next branch in turn. Every tenth one changes a file. `--single` makes
a transaction of each, as so many commits would.
"""

from mercurial import context, registrar

cmdtable = {}
command = registrar.command(cmdtable)

TEXT = "Ändere %d für alle: 変更 and a line of plain words about it\n\nbody of %d\n"


@command(
    b"testbuild",
    [
        (b"n", b"count", 1, b"changesets", b"N"),
        (b"", b"branches", b"default", b"named branches, by comma", b"NAMES"),
        (b"", b"single", None, b"a transaction per changeset"),
    ],
)
def testbuild(ui, repo, **opts):
    """add changesets"""
    count, names = opts["count"], opts["branches"].split(b",")
    tips = _tips(repo, names)
    with repo.wlock(), repo.lock():
        if opts["single"]:
            for number in range(count):
                with repo.transaction(b"commit"):
                    _add(repo, tips, names, number)
        else:
            with repo.transaction(b"testbuild"):
                for number in range(count):
                    _add(repo, tips, names, number)


def _tips(repo, names):
    return {name: repo.branchtip(name, ignoremissing=True) for name in names}


def _add(repo, tips, names, number):
    name = names[number % len(names)]
    parent = tips[name] or tips[names[0]] or repo.nullid
    at = len(repo)
    tips[name] = repo.commitctx(_changeset(repo, parent, name, at))


def _changeset(repo, parent, branch, at):
    def content(repo, memctx, path):
        return context.memfilectx(repo, memctx, path, b"line %d\n" % at)

    return context.memctx(
        repo,
        (parent, repo.nullid),
        (TEXT % (at, at)).encode(),
        [b"src/file%d" % (at % 7)] if at % 10 == 0 else [],
        content,
        user="Jörg <joerg@example.com>".encode(),
        date=(1_700_000_000 + at, -3600),
        extra={b"branch": branch},
    )
