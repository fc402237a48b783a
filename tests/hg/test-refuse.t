A key that cannot be used stops writing before anything changes, and never reading.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > [zmqhooks]
  > root = $TESTTMP/srv
  > EOF
  $ hg init srv/app
  $ cd srv/app
  $ echo a > a
  $ hg add a
  $ hg commit -m one
  config error: zmqhooks.key: no signing key is set
  (make keys with `zmq-keys quickstart DIR` and set key = DIR/publisher.key)
  [30]
  $ hg log
  $ hg status
  A a
  $ ls .hg/store
  requires
  $ with() {
  >   hg --config zmqhooks.key=$TESTTMP/key "$@" commit -m one
  > }

Missing, or readable by more people than stated:

  $ with
  config error: zmqhooks.key: $TESTTMP/key: does not exist
  (make it with *) (glob)
  [30]
  $ cp "$PUBLISHER_KEY" $TESTTMP/key
  $ chmod 644 $TESTTMP/key
  $ with
  config error: zmqhooks.key: $TESTTMP/key: has mode 0644, looser than 0600: who may read it may forge events
  (chmod 600 $TESTTMP/key)
  [30]
  $ chmod 640 $TESTTMP/key
  $ with
  config error: zmqhooks.key: $TESTTMP/key: has mode 0640: its group * may read it (glob)
  (chmod 600 $TESTTMP/key*) (glob)
  [30]
  $ with --config zmqhooks.key-group=nosuchgroup
  config error: zmqhooks.key: $TESTTMP/key: cannot be checked: key-group names the group nosuchgroup, which does not exist
  (groupadd nosuchgroup, or correct key-group)
  [30]
  $ echo '{}' > $TESTTMP/key
  $ chmod 600 $TESTTMP/key
  $ with
  config error: zmqhooks.key: $TESTTMP/key: is not what it should be: not a key file of version 1
  (zmq-keys *) (glob)
  [30]

A key that subscribers would not accept:

  $ cp "$READING_KEY" $TESTTMP/key
  $ with
  config error: zmqhooks.key: '$TESTTMP/key': its certificate may not publish
  (issue one with: zmq-keys issue --root $TESTTMP/root.key --name publisher --publish 'hg:**:**:' --out $TESTTMP/key-new.key)
  [30]
  $ cp "$FOREIGN_KEY" $TESTTMP/key
  $ with
  config error: zmqhooks.key: '$TESTTMP/key': its certificate may not publish hg:app (only hg:other/**:**:)
  (issue one with: zmq-keys issue --root $TESTTMP/root.key --name publisher --publish 'hg:**:**:' --out $TESTTMP/key-new.key)
  [30]

Settings that mean nothing:

  $ cp "$PUBLISHER_KEY" $TESTTMP/key
  $ with --config zmqhooks.relay=/run/relay
  config error: zmqhooks.relay: '/run/relay': not an address that hg can connect to
  (write ipc:///ABSOLUTE/PATH or tcp://HOST:PORT; empty: journal only)
  [30]
  $ with --config zmqhooks.relay=ipc://run/relay
  config error: zmqhooks.relay: 'ipc://run/relay': the path is not absolute
  (write ipc:///ABSOLUTE/PATH or tcp://HOST:PORT; empty: journal only)
  [30]
  $ with --config zmqhooks.relay=tcp://127.0.0.1:5701
  config error: zmqhooks.relay: 'tcp://$LOCALIP:5701': a tcp relay needs relay-certificate
  (set relay-certificate to the relay's N.cert, or use an ipc address)
  [30]
  $ with --config zmqhooks.relay=tcp://127.0.0.1:5701 --config zmqhooks.relay-certificate=$TESTTMP/relay.cert
  config error: zmqhooks.relay-certificate: $TESTTMP/relay.cert: does not exist
  (copy the N.cert that `zmq-keys` wrote beside the N.key, or correct the path)
  [30]
  $ with --config zmqhooks.live-timeout=soon
  config error: zmqhooks.live-timeout: 'soon': not a number from 0 to 99999
  (write whole milliseconds such as 250; 0: no live copy)
  [30]
  $ with --config zmqhooks.keep=ever
  config error: zmqhooks.keep: 'ever': neither an age nor a size
  (write an age such as 90d, a size such as 500M, or all)
  [30]
  $ hg log
  $ ls .hg/store
  requires

An unknown name warns, and an old certificate warns; neither stops anybody.

  $ with --config zmqhooks.live_timeout=1
  zmqhooks: unknown setting zmqhooks.live_timeout: did you mean 'live-timeout'?
  $ cp "$LATE_KEY" $TESTTMP/key
  $ echo b >> a
  $ with
  zmqhooks: the certificate of 'publisher' expires * UTC; renew it with zmq-keys rotate (glob)
  $ cp "$EXPIRED_KEY" $TESTTMP/key
  $ echo c >> a
  $ with
  zmqhooks: the certificate of 'publisher' expired * UTC; its events are held by subscribers until it is renewed (glob)
  $ hg events -T '{sequence}\n'
  3
  2
  1
  $ hg events --verify
  checked 3 events in 1 journal: no problems found

A damaged journal is reported, never served, and nothing is written behind it.

  $ cp .hg/store/zmqhooks-events $TESTTMP/saved
  $ cp "$PUBLISHER_KEY" $TESTTMP/key
  $ "$PYTHON" - <<EOF
  > path = ".hg/store/zmqhooks-events"
  > data = bytearray(open(path, "rb").read())
  > data[-100] ^= 1
  > open(path, "wb").write(data)
  > EOF
  $ hg events --verify
  byte *: torn record: wrong checksum (glob)
  `hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there
  checked 2 events in 1 journal: 1 problem found
  [1]
  $ hg events -l 1
  abort: the event journal .hg/store/zmqhooks-events is damaged: torn record at byte *: wrong checksum (glob)
  (`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there)
  [255]
  $ cp $TESTTMP/saved .hg/store/zmqhooks-events
  $ printf x >> .hg/store/zmqhooks-events
  $ echo d >> a
  $ with
  abort: the event journal .hg/store/zmqhooks-events of app is damaged: torn record at byte *: 1 bytes where a record begins (glob)
  (`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there)
  [255]
  $ hg events -l 1 -T '{sequence}\n'
  3
  $ cp $TESTTMP/saved .hg/store/zmqhooks-events
  $ with
  $ hg events --verify
  checked 4 events in 1 journal: no problems found

A name that no event can hold is refused before anything is committed.

  $ "$PYTHON" -c 'open(".hg/branch", "w").write("b" * 1100000)'
  $ echo e >> a
  $ with
  transaction abort!
  rollback completed
  abort: what happened here does not fit an event: branch 'bbb*': its name does not fit an event (glob)
  (no reader would take a name of this size: use a shorter one)
  [255]
  $ hg branch default
  marked working directory as branch default
  (branches are permanent and global, did you want a bookmark?)
  $ with
  $ hg events --verify
  checked 5 events in 1 journal: no problems found

A branch that the certificate does not cover is refused: every subscriber would stop at its event.

  $ hg branch -q stable
  $ echo f >> a
  $ hg commit -m f --config zmqhooks.key=$DEFAULT_KEY
  transaction abort!
  rollback completed
  config error: zmqhooks.key: '*': its certificate may not publish hg:app:stable: (only hg:**:default:) (glob)
  (issue one with*) (glob)
  [30]
  $ hg commit -m f --config zmqhooks.key=$PUBLISHER_KEY
  $ hg events -l 1 -T '{branch}\n'
  stable

--check names all that cannot be used, with the place where it stands, and looks at the rest.

  $ cat >> .hg/hgrc <<EOF
  > [zmqhooks]
  > keep = 90
  > live-timeout = soon
  > EOF
  $ hg events --check 2>&1 | grep problem
  problem: zmqhooks.key: no signing key is set (make keys with `zmq-keys quickstart DIR` and set key = DIR/publisher.key)
  problem: zmqhooks.live-timeout: 'soon': not a number from 0 to 99999 (write whole milliseconds such as 250; 0: no live copy; it stands in $TESTTMP/srv/app/.hg/hgrc:3)
  problem: zmqhooks.keep: '90': neither an age nor a size (write an age such as 90d, a size such as 500M, or all; it stands in $TESTTMP/srv/app/.hg/hgrc:2)
  $ hg events --check --config zmqhooks.enabled=no 2>&1 | grep -E 'problem|left'
  repository:  left alone
  problem: it publishes nothing: zmqhooks.enabled is off
