Whatever happens to history, all events together tell what others may see.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > rebase =
  > strip =
  > [zmqhooks]
  > key = $PUBLISHER_KEY
  > root = $TESTTMP/srv
  > [experimental]
  > evolution.allowunstable = yes
  > EOF
  $ hg init srv/app
  $ cd srv/app
  $ show() {
  >   hg events "$@" -T '{sequence}: {origin} {branch} {count(nodes)} in, {count(removed)} out\n'
  > }
  $ commit() {
  >   echo $1 >> $1
  >   hg commit -Aqm "$@"
  > }
  $ commit a
  $ commit b
  $ commit c

Strip, with a changeset that hg takes away and puts back: it is not told of.

  $ hg update -q 0
  $ commit d
  $ hg strip -q --no-backup 1
  $ show -l 2
  5: live default 0 in, 2 out
  4: live default 1 in, 0 out
  $ hg events --verify
  checked 5 events in 1 journal: no problems found

Amend and rebase without obsolescence are a changeset and a removal.

  $ echo more >> d
  $ hg commit --amend -qm d2
  $ show -l 2
  7: live default 0 in, 1 out
  6: live default 1 in, 0 out
  $ hg update -q 0
  $ commit e
  $ hg rebase -q -d 'desc(d2)'
  $ show -l 3
  10: live default 0 in, 1 out
  9: live default 1 in, 0 out
  8: live default 1 in, 0 out
  $ hg events --verify
  checked 10 events in 1 journal: no problems found

Secret changesets are never told, until they are not secret any more.

  $ commit s --secret
  $ hg bookmark hidden
  $ commit t
  $ show -l 1
  10: live default 0 in, 1 out
  $ hg events --verify
  checked 10 events in 1 journal: no problems found
  $ hg phase --draft .
  $ show -l 2
  12: live default 0 in, 0 out
  11: revealed default 2 in, 0 out
  $ hg events -l 1 -T '{bookmarks}\n'
  hidden
  $ hg phase --force --secret .
  $ hg events -l 1 -T '{sequence}: {bookmarks}\n'
  13: hidden
  $ hg events --verify
  checked 13 events in 1 journal: no problems found
  $ hg phase --draft .

After a rollback the next transaction begins a new journal and says what is gone.

  $ commit u
  $ hg rollback
  repository tip rolled back to revision * (undo commit) (glob)
  working directory now based on revision * (glob)
  $ hg events --verify
  checked 15 events in 1 journal: no problems found
  $ commit v
  $ show -l 2
  2: live default 1 in, 0 out
  1: catchup default 0 in, 1 out
  $ hg events --verify
  checked 17 events in 2 journals: no problems found

A rollback that hg refuses changes nothing.

  $ hg update -q 0
  $ hg rollback
  abort: rollback of last commit while not checked out may lose data
  (use -f to force)
  [255]
  $ hg update -q tip
  $ commit w
  $ show -l 1
  3: live default 1 in, 0 out

A transaction that aborts leaves nothing.

  $ echo x > x
  $ hg commit -Aqm x --config hooks.pretxnclose=false
  transaction abort!
  rollback completed
  abort: pretxnclose hook exited with status 1
  [40]
  $ show -l 1
  3: live default 1 in, 0 out
  $ hg events --verify
  checked 18 events in 2 journals: no problems found

Neither does one that fails after everything was written; its hooks run all the same.

  $ hg commit -Aqm x --config devel.debug.abort-transaction=abort-post-finalize
  transaction abort!
  rollback completed
  abort: * (glob)
  [255]
  $ show -l 1
  3: live default 1 in, 0 out
  $ hg revert -q --all
  $ rm -f x

With obsolescence the marker tells it.

  $ echo more >> w
  $ hg commit --amend -qm w2 --config experimental.evolution=all
  $ hg events -l 1 --config experimental.evolution=all
       4  *Z  default  1 changeset, 1 obsoleted  * (local)  * (glob)
  $ hg events --verify --config experimental.evolution=all
  checked 19 events in 2 journals: no problems found

A strip that moves a bookmark, with obsolete changesets hidden.

  $ cat >> $HGRCPATH <<EOF
  > evolution = all
  > EOF
  $ commit x
  $ hg bookmark -i moved
  $ hg update -q '.^'
  $ hg strip -q --no-backup moved
  $ hg events -l 1 -T '{bookmarks}: {count(removed)} out\n'
  moved: 1 out
  $ hg log -r moved -T '{desc}\n'
  w2
  $ hg events --verify
  checked 22 events in 2 journals: no problems found

A rollback that brings changesets back into view tells of them again.

  $ hg phase --force --secret .
  $ hg rollback -q
  $ commit y
  $ show -l 2
  2: live default 1 in, 0 out
  1: catchup default 1 in, 0 out
  $ echo more >> y
  $ hg commit --amend -qm y2
  $ hg rollback -q --force
  $ hg revert -q --all
  $ commit z
  $ show -l 2
  2: live default 1 in, 0 out
  1: catchup default 1 in, 1 out
  $ hg events --verify
  checked 26 events in 4 journals: no problems found

So does a phase that makes an obsolete changeset public.

  $ hg init ../other
  $ hg -R ../other pull -q .
  $ echo more >> z
  $ hg commit --amend -qm z2
  $ hg pull -q ../other
  1 new phase-divergent changesets
  $ show -l 2
  5: live default 0 in, 0 out
  4: revealed default 1 in, 0 out
  $ hg events --verify
  checked 29 events in 4 journals: no problems found

And a strip, which takes the markers of what it removes with it.

  $ commit o
  $ echo more >> o
  $ hg commit --amend -qm o2
  $ hg update -q '.^'
  $ hg strip -q --no-backup 'desc(o2)'
  $ hg log -r tip -T '{desc}\n'
  o
  $ show -l 2
  9: live default 0 in, 1 out
  8: revealed default 1 in, 0 out
  $ hg events --verify
  checked 33 events in 4 journals: no problems found
