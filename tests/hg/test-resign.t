A certificate expired, and nobody pushes to some branches: an event follows on theirs.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > [zmqhooks]
  > key = $EXPIRED_KEY
  > root = $TESTTMP/srv
  > EOF
  $ hg init srv/app
  $ cd srv/app
  $ hg events --resign --config zmqhooks.key=$PUBLISHER_KEY
  nothing to sign again
  $ echo a > a
  $ hg commit -Aqm one 2> /dev/null
  $ hg branch -q stable
  $ echo b > b
  $ hg commit -Aqm two 2> /dev/null
  $ hg branch -q new
  $ echo c > c
  $ hg commit -Aqm three --config zmqhooks.key=$PUBLISHER_KEY

The present certificate must be valid itself.

  $ hg events --resign
  abort: the certificate of 'publisher' is expired itself
  (renew it with `zmq-keys rotate`, or set zmqhooks.key to one that is valid now)
  [255]
  $ hg events --resign --config zmqhooks.key=$EARLY_KEY
  abort: the certificate of 'publisher' is not valid yet
  (renew it with `zmq-keys rotate`, or set zmqhooks.key to one that is valid now)
  [255]
  $ hg events --resign --config zmqhooks.key=$DEFAULT_KEY
  transaction abort!
  rollback completed
  config error: zmqhooks.key: '*': its certificate may not publish hg:app:stable: (only hg:**:default:) (glob)
  (issue one with*) (glob)
  [30]
  $ hg events --resign -b default
  abort: cannot specify both --resign and --branch
  [10]

One event per branch that waits for it, and none the second time.

  $ cat >> $HGRCPATH <<EOF
  > key = $PUBLISHER_KEY
  > EOF
  $ hg events --resign
  default: event 4 follows on event 1, whose certificate expired * UTC (glob)
  stable: event 5 follows on event 2, whose certificate expired * UTC (glob)
  $ hg events --resign
  nothing to sign again
  $ hg events -l 2
       5  *Z  stable  signed again  * (local)  - (glob)
       4  *Z  default  signed again  * (local)  - (glob)
  $ hg events --verify
  checked 5 events in 1 journal: no problems found
