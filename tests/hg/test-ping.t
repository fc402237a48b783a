A ping: an event of nothing, through the same way as every other one.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > [zmqhooks]
  > key = $PUBLISHER_KEY
  > root = $TESTTMP/srv
  > EOF
  $ hg init srv/app
  $ cd srv/app

It needs no changeset, and begins the journal where there is none.

  $ hg events --ping
  ping 1:      of branch default
  journalled:  after * ms (glob)
  live copy:   none, zmqhooks.relay is not set
  $ echo a > a
  $ hg commit -Aqm one
  $ hg branch -q stable
  $ echo b > b
  $ hg commit -Aqm two
  $ hg events --ping -b stable
  ping 4:      of branch stable
  journalled:  after * ms (glob)
  live copy:   none, zmqhooks.relay is not set
  $ hg events -T '{sequence} {branch} {origin} {count(nodes)}\n'
  4 stable ping 0
  3 stable live 1
  2 default live 1
  1 default ping 0
  $ hg events -l 1
       4  *Z  stable  ping  * (local)  - (glob)
  $ hg events --verify
  checked 4 events in 1 journal: no problems found
  $ hg events --ping -T json
  [
   {
    "branch": "default",
    "journal": "*", (glob)
    "journalled": *, (glob)
    "live": null,
    "relay": null,
    "sequence": 5,
    "subscribers": []
   }
  ]

Only of branches that others can see.

  $ hg events --ping -b nonesuch
  abort: no branch nonesuch that is published
  (`hg branches --closed` lists them; of secret changesets nothing is told)
  [255]
  $ hg branch -q hidden
  $ echo c > c
  $ hg commit -Aqm three --secret
  $ hg events --ping -b hidden
  abort: no branch hidden that is published
  (`hg branches --closed` lists them; of secret changesets nothing is told)
  [255]
  $ hg events --ping -b default -b stable
  abort: a ping is of one branch
  (give --branch once)
  [10]
  $ hg events --ping -r 0
  abort: cannot specify both --ping and --rev
  [10]
  $ hg events --ping --verify
  abort: cannot specify both --ping and --verify
  [10]

A relay that does not answer is a problem; the event is journalled.

  $ hg events --ping --config zmqhooks.relay=ipc://$TESTTMP/none
  ping 6:      of branch default
  journalled:  after * ms (glob)
  live copy:   nobody listens
  problem:     the relay does not say who has it: nobody listens
  [1]

What was done behind the journal's back is told first, in the same transaction.

  $ hg update -q stable
  $ echo d > d
  $ hg commit -Aqm four --config extensions.hgext_zmqhooks=!
  $ hg events --ping | head -1
  ping 8:      of branch default
  $ hg events -l 2 -T '{sequence} {branch} {origin} {count(nodes)}\n'
  8 default ping 0
  7 stable catchup 1
  $ hg events --verify
  checked 8 events in 1 journal: no problems found

Retention drops pings as it drops others, of a branch that has nothing else, too.

  $ hg init ../pinged
  $ cd ../pinged
  $ hg events --ping | head -1
  ping 1:      of branch default
  $ hg branch -q other
  $ echo a > a
  $ hg commit -Aqm one
  $ hg events --prune --config zmqhooks.keep=1K
  dropped 1 event (* bytes), kept 1 (glob)
  $ hg events --verify
  checked 1 event in 1 journal: no problems found
  $ hg events --ping | head -1
  ping 3:      of branch default
  $ hg events --verify
  checked 2 events in 1 journal: no problems found

No key, no ping.

  $ hg events --ping --config zmqhooks.key=$FOREIGN_KEY
  config error: zmqhooks.key: '*': its certificate may not publish hg:pinged (only hg:other/**:**:) (glob)
  (issue one with*) (glob)
  [30]
  $ cd $TESTTMP
  $ hg init elsewhere
  $ hg -R elsewhere events --ping
  abort: this repository publishes nothing
  (see `hg events --check`)
  [255]
