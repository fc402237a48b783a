The extension is found by its name, and `hg events` lists what was told.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > [zmqhooks]
  > key = $PUBLISHER_KEY
  > root = $TESTTMP/srv
  > EOF

  $ hg init srv/team/app
  $ cd srv/team/app
  $ hg events
  $ hg events --verify
  no journal yet: the first transaction begins it
  $ echo a > a
  $ hg commit -Aqm one
  $ hg bookmark @
  $ hg branch -q stable
  $ echo b > b
  $ hg commit -Aqm two

  $ hg events
       3  *Z  stable  1 changeset, 1 bookmark  * (local)  * (glob)
       2  *Z  default  1 bookmark  * (local)  * (glob)
       1  *Z  default  1 changeset  * (local)  * (glob)
  $ hg events -l 1 -T '{sequence} {branch} {type} {origin} {via}\n'
  3 stable hg.transaction.v1 live local
  $ hg events -b default -T '{sequence}\n'
  2
  1
  $ hg events -r 0 -T '{sequence}: {nodes}{bookmarks % " {bookmark} moved"}\n'
  3: * @ moved (glob)
  2:  @ moved
  1: * (glob)
  $ hg events -l 2 -T json | "$PYTHON" -c 'import json, sys; print([e["branch"] for e in json.load(sys.stdin)])'
  ['stable', 'default']
  $ hg events -l 0
  abort: limit must be a positive integer
  [10]
  $ hg events --check --verify
  abort: cannot specify both --check and --verify
  [10]
  $ hg events --verify
  checked 3 events in 1 journal: no problems found

An empty journal is no problem, and a repository that publishes nothing says so.

  $ cd $TESTTMP
  $ hg init elsewhere
  $ hg -R elsewhere events
  $ hg -R elsewhere events --check
  python: * (glob)
  library: * (glob)
  library: * (glob)
  hgrc: * (glob)
  repository:  left alone
  problem: it publishes nothing: $TESTTMP/elsewhere is outside zmqhooks.root = $TESTTMP/srv ($HGRCPATH:*), and zmqhooks.repo is not set (glob)
  [1]

--check tells how this host is set up.

  $ hg -R srv/team/app events --check
  python: * (glob)
  library: * (glob)
  library: * (glob)
  hgrc: * (glob)
  repository:  team/app
  key: */publisher.key (glob)
  certificate: 'publisher' until * UTC: hg:**:**: (glob)
  relay:       none: journal only
  journal:     *: 3 events, * bytes (glob)
  $ hg -R srv/team/app events --check --config zmqhooks.relay=ipc://$TESTTMP/none --config zmqhooks.kye=x 2>&1 | grep -E '^(relay|problem)'
  relay:       ipc:/*/none: nobody listens (glob)
  problem: zmqhooks.relay: 'ipc:/*/none': nobody listens: $TESTTMP/none does not exist; events wait in the journal (start zmq-subscriber or zmq-relay; its `publish` must be this address) (glob)
  problem: unknown setting zmqhooks.kye: did you mean 'key'?

Help is where a user looks for it.

  $ hg help hgext_zmqhooks | head -1
  hgext_zmqhooks extension - publish what transactions did as signed events, in
  $ hg help events | head -4
  hg events [-l NUM] [-b BRANCH]... [-r REV]... [-T TEMPLATE] | --check |
  --subscribers [-T TEMPLATE] | --ping [-b BRANCH] [-T TEMPLATE] | --preview -r
  REV | --init [--full] | --resign | --verify | --repair | --prune
  

It works by path too, under the key that gives the module its own name.

  $ cd srv/team/app
  $ hg --config extensions.hgext_zmqhooks=! --config extensions.zmqhooks=$PACKAGE events -l 1 -T '{sequence}\n'
  3
  $ echo c > c
  $ hg --config extensions.hgext_zmqhooks=! --config extensions.zmqhooks=$PACKAGE commit -Aqm three
  $ hg events --verify
  checked 4 events in 1 journal: no problems found
