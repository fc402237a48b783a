Repositories by place: baselines, shares, clones, copies, and an hg without the extension.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > share =
  > [zmqhooks]
  > key = $PUBLISHER_KEY
  > root = $TESTTMP/srv
  > EOF
  $ off="--config extensions.hgext_zmqhooks=!"
  $ show() {
  >   hg events "$@" -T '{sequence}: {type} {origin} {branch} {count(nodes)}\n'
  > }

A repository that was there before gets one baseline per branch, and its history floods nobody.

  $ mkdir srv
  $ hg init srv/old
  $ cd srv/old
  $ echo 1 > f; hg commit $off -Aqm 1
  $ echo 2 > f; hg commit $off -qm 2
  $ hg branch -q stable; hg commit $off -qm 3
  $ echo 4 > f; hg commit -qm 4
  $ show
  3: hg.transaction.v1 live stable 1
  2: hg.baseline.v1 live stable 0
  1: hg.baseline.v1 live default 0
  $ hg events --verify
  checked 3 events in 1 journal: no problems found

What an hg without the extension wrote is found by the next transaction, whatever that does.

  $ echo 5 > f; hg commit $off -qm 5
  $ hg events --verify
  1 changeset without an event: * (glob)
  the repository was changed without the extension; the next transaction tells of it
  checked 3 events in 1 journal: 2 problems found
  [1]
  $ hg bookmark now
  $ show -l 2
  5: hg.transaction.v1 live stable 0
  4: hg.transaction.v1 catchup stable 1
  $ hg strip -q -r . --config extensions.strip= $off
  $ hg bookmark -r 0 then
  $ hg events -l 2 -T '{sequence}: {origin} {count(removed)}\n'
  7: live 0
  6: catchup 1
  $ hg events --verify
  checked 7 events in 1 journal: no problems found

A catch-up of more than 1,000 changesets is a summary.

  $ hg init $TESTTMP/large
  $ hg -R $TESTTMP/large debugbuilddag +1001
  $ hg pull -q -f $off $TESTTMP/large
  warning: repository is unrelated
  $ hg bookmark later
  $ hg events -l 2
       9  *Z  stable  1 bookmark  * (local)  * (glob)
       8  *Z  default  catchup: summary of 1003 changesets  -  * (glob)
  $ hg events --verify
  checked 9 events in 1 journal: no problems found

A share writes into the journal of its source, under its name.

  $ cd $TESTTMP
  $ hg share -q -U srv/old shared
  $ cd shared
  $ hg update -q stable
  $ echo 6 > f; hg commit -qm 6
  $ cd $TESTTMP/srv/old
  $ show -l 1
  10: hg.transaction.v1 live stable 1

A clone has a journal of its own, which begins when it is written; elsewhere it has none.

  $ hg clone -q . ../clone
  $ hg clone -q --pull . ../pulled
  $ hg clone -q . $TESTTMP/away
  $ ls ../clone/.hg/store | grep zmqhooks
  [1]
  $ hg -R ../clone bookmark x
  $ hg -R ../clone events -T '{type} {branch} {bookmarks}\n'
  hg.transaction.v1 default x
  hg.baseline.v1 * (glob)
  hg.baseline.v1 * (glob)
  $ hg -R ../clone events --verify
  checked 3 events in 1 journal: no problems found
  $ hg -R ../pulled events --verify
  checked * events in 1 journal: no problems found (glob)
  $ hg -R $TESTTMP/away bookmark x
  $ ls $TESTTMP/away/.hg/store | grep zmqhooks
  [1]
  $ hg -R $TESTTMP/away --config zmqhooks.repo=team/named bookmark y
  $ hg -R $TESTTMP/away events -l 1 -T '{branch} {bookmarks}\n'
  default y
  $ hg -R $TESTTMP/away --config zmqhooks.repo=x --config zmqhooks.enabled=no bookmark z
  $ hg -R $TESTTMP/away events -l 1 -T '{branch} {bookmarks}\n'
  default y

A copied repository begins a new journal that says what it continues.

  $ cp -R ../clone ../copy
  $ hg -R ../copy bookmark z
  $ hg -R ../copy events -l 1 -T '{sequence} {bookmarks}\n'
  1 z
  $ hg -R ../copy events --verify
  checked 4 events in 2 journals: no problems found

An upgrade keeps the journal and is no news.

  $ hg -R ../clone debugupgraderepo --run --no-backup -o re-delta-all > $TESTTMP/upgrade.log
  $ hg -R ../clone events --verify
  checked 3 events in 1 journal: no problems found
  $ hg -R ../clone verify -q
