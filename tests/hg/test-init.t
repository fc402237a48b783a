The journal of a repository that is older than the extension.

  $ cat >> $HGRCPATH <<EOF
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
  $ commit a
  $ commit b
  $ hg update -q 0
  $ hg branch -q stable
  $ commit c
  $ commit d
  $ hg commit -q --close-branch -m closed
  $ hg update -q default
  $ commit e --secret
  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > EOF

It begins with the next transaction, or now: with a baseline of each branch.

  $ cp -r . ../old
  $ hg events --init
  journal * begins with baselines: 2 events (glob)
  $ hg events
       2  *Z  stable  baseline of 3 changesets  -  * (glob)
       1  *Z  default  baseline of 2 changesets  -  * (glob)
  $ hg events --verify
  checked 2 events in 1 journal: no problems found
  $ hg events --init
  this repository has a journal already: nothing to do
  $ hg events --init --full
  abort: this repository has a journal already
  (only a repository that has told nothing yet can tell its whole history)
  [255]

Or with the whole history, but for what is secret.

  $ cd ../old
  $ hg events --init --full
  journal * begins with the whole history: 2 events (glob)
  $ hg events
       2  *Z  stable  catchup: 3 changesets  -  * (glob)
       1  *Z  default  catchup: 2 changesets  -  * (glob)
  $ hg events --verify
  checked 2 events in 1 journal: no problems found
  $ hg phase --draft tip
  $ commit f
  $ hg events -l 2 -T '{sequence} {branch} {origin} {count(nodes)}\n'
  4 default live 1
  3 default revealed 1
  $ hg events --verify
  checked 4 events in 1 journal: no problems found

Nothing to tell yet, and what does not go together.

  $ hg init ../empty
  $ hg -R ../empty events --init
  no changesets yet: the first transaction begins the journal
  $ hg -R ../empty events --init --full
  no changesets yet: the first transaction begins the journal
  $ cd ../empty
  $ hg commit -q --config ui.allowemptycommit=1 --secret -m secret --config extensions.hgext_zmqhooks=!
  $ hg events --init
  no changesets yet: the first transaction begins the journal
  $ cd ../old
  $ hg events --full
  abort: --full goes with --init only
  (`hg events --init --full` begins a journal with the whole history)
  [10]
  $ hg events --init --ping
  abort: cannot specify both --ping and --init
  [10]
  $ hg events --init -r 0
  abort: cannot specify both --init and --rev
  [10]
