Retention: `keep` says which events stay; sequences and links go on.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > strip =
  > [zmqhooks]
  > key = $PUBLISHER_KEY
  > root = $TESTTMP/srv
  > EOF
  $ hg init srv/app
  $ cd srv/app
  $ commit() {
  >   echo $1 >> $1
  >   hg commit -Aqm "$@"
  > }
  $ show() {
  >   hg events "$@" -T '{sequence}: {origin} {branch} {count(nodes)} in, {count(removed)} out\n'
  > }

What cannot be used is refused before anything is written.

  $ commit a --config zmqhooks.keep=90
  config error: zmqhooks.keep: '90': neither an age nor a size
  (write an age such as 90d, a size such as 500M, or all)
  [30]
  $ hg events --prune --config zmqhooks.keep=0d
  config error: zmqhooks.keep: '0d': neither an age nor a size
  (write an age such as 90d, a size such as 500M, or all)
  [30]

Young events stay.

  $ commit a
  $ hg branch -q stable
  $ commit b
  $ hg update -q default
  $ commit c
  $ commit d
  $ hg events --prune
  nothing to drop
  $ hg events --prune --config zmqhooks.keep=all
  nothing to drop

The newest transaction stays, whatever the limit.

  $ hg events --prune --config zmqhooks.keep=1K
  dropped 3 events (*), kept 1 (glob)
  $ show
  4: live default 1 in, 0 out
  $ hg events --verify
  checked 1 event in 1 journal: no problems found
  $ hg verify -q
  $ hg events --prune --config zmqhooks.keep=1K
  nothing to drop

A rollback after it finds its place.

  $ hg rollback -q
  $ show
  $ hg events --prune --config zmqhooks.keep=1K
  nothing to drop
  $ commit e
  $ show
  2: live default 1 in, 0 out
  1: catchup default 0 in, 1 out
  $ hg events --verify
  checked 2 events in 2 journals: no problems found

Branches whose events are gone go on, and what they told is still compared.

  $ hg update -q stable
  $ commit f
  $ hg events -l 1 -T '{sequence} {branch}\n'
  3 stable
  $ hg events --prune --config zmqhooks.keep=1K
  dropped 2 events (*), kept 1 (glob)
  $ hg events --verify
  checked 1 event in 1 journal: no problems found
  $ hg strip -q --no-backup tip
  $ hg events --verify
  checked 2 events in 1 journal: no problems found
  $ hg strip -q --no-backup 'desc(e)' --config extensions.hgext_zmqhooks=! --config extensions.hgext_zmqhooks:required=no
  $ hg events --verify
  1 changeset without an event: * (glob)
  1 event without a changeset: * (glob)
  the repository was changed without the extension; the next transaction tells of it
  checked 2 events in 1 journal: 3 problems found
  [1]
  $ commit g
  $ show -l 2
  6: live stable 1 in, 0 out
  5: catchup default 1 in, 1 out
  $ hg events --verify
  checked 4 events in 1 journal: no problems found

hg looks by itself, once a day, after a transaction.

  $ touch -d '2 days ago' .hg/store/zmqhooks-pruned
  $ commit h --config zmqhooks.keep=1K
  $ show
  7: live stable 1 in, 0 out
  $ commit i --config zmqhooks.keep=1K
  $ show
  8: live stable 1 in, 0 out
  7: live stable 1 in, 0 out
  $ hg events --verify
  checked 2 events in 1 journal: no problems found

  $ hg events --prune --verify
  abort: cannot specify both --verify and --prune
  [10]
  $ cd ..
  $ hg init ../other
  $ hg -R ../other events --prune
  abort: this repository publishes nothing
  (see `hg events --check`)
  [255]
