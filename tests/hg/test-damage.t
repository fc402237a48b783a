A damaged journal stops writing, says what to do, and goes on after that.

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
  $ commit a
  $ commit b
  $ hg events --repair
  the journal is not damaged: nothing to repair

A torn tail, as a power failure may leave it.

  $ hg events --check > /dev/null
  $ printf 'half a record' >> .hg/store/zmqhooks-events
  $ hg events --check > /dev/null
  problem: the event journal .hg/store/zmqhooks-events is damaged: torn record at byte *: * (`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there) (glob)
  [1]
  $ commit c
  abort: the event journal .hg/store/zmqhooks-events of app is damaged: torn record at byte *: * (glob)
  (`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there)
  [255]
  $ hg events --repair
  cut the journal at byte *; what stood behind it is in .hg/store/zmqhooks-events-damaged-* (glob)
  the next transaction tells again which changesets are there
  $ hg rollback
  no rollback information available
  [1]
  $ commit c
  $ hg events --verify
  checked 3 events in 2 journals: no problems found

A changed byte at the beginning, found where the whole file must be read.

  $ printf 'X' | dd of=.hg/store/zmqhooks-events bs=1 seek=40 conv=notrunc status=none
  $ rm .hg/store/zmqhooks-index
  $ hg events --verify
  byte 0: torn record: wrong checksum
  `hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there
  checked 0 events in 0 journals: 1 problem found
  [1]
  $ commit d
  transaction abort!
  rollback completed
  abort: the event journal .hg/store/zmqhooks-events of app is damaged: torn record at byte 0: wrong checksum
  (`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there)
  [255]
  $ hg commit -Aqm d --config extensions.hgext_zmqhooks=! --config extensions.hgext_zmqhooks:required=no
  $ hg strip -q --no-backup tip
  abort: the event journal .hg/store/zmqhooks-events of app is damaged: torn record at byte 0: wrong checksum
  (`hg events --repair` sets what stands behind the damage aside; then writing goes on, and the next transaction tells again which changesets are there)
  [255]
  $ hg events --repair
  cut the journal at byte 0; what stood behind it is in .hg/store/zmqhooks-events-damaged-* (glob)
  the next transaction tells again which changesets are there
  $ hg strip -q --no-backup tip
  $ commit e
  $ hg events -T '{sequence}: {origin} {branch} {count(nodes)} in, {count(removed)} out\n'
  3: live default 1 in, 0 out
  2: live default 0 in, 1 out
  1: catchup default 0 in, 0 out
  $ hg events --verify
  checked 3 events in 1 journal: no problems found

A journal that is shorter than before the last transaction: a rollback would stop halfway.

  $ hg bookmark mark
  $ commit g
  $ cp .hg/store/zmqhooks-events ../events
  $ rm .hg/store/zmqhooks-events
  $ hg rollback
  abort: the event journal is shorter than before the transaction to roll back
  (use `hg strip`, or restore .hg/store/zmqhooks-events)
  [255]
  $ hg log -r . -T '{desc} {bookmarks}\n'
  g mark
  $ cp ../events .hg/store/zmqhooks-events
  $ hg rollback -q
  $ hg log -r . -T '{desc} {bookmarks}\n'
  e mark

A flipped bit in the last record, and a file whose end is gone.

  $ cp .hg/store/zmqhooks-events ../events
  $ "$PYTHON" -c 'p = open(".hg/store/zmqhooks-events", "r+b"); p.seek(-1, 2); p.write(b"X")'
  $ hg events --check 2>&1 | grep -o 'damaged: torn record at byte [0-9]*: wrong checksum'
  damaged: torn record at byte *: wrong checksum (glob)
  $ "$PYTHON" -c 'p = open(".hg/store/zmqhooks-events", "r+b"); p.seek(-3, 2); p.truncate()'
  $ hg events --check 2>&1 | grep -c 'damaged: torn record'
  1
  $ cp ../events .hg/store/zmqhooks-events

A head of a newer version is no damage.

  $ echo '{"version": 99}' > .hg/store/zmqhooks-head
  $ hg events --check > /dev/null
  problem: the event journal .hg/store/zmqhooks-events cannot be read: the head has version 99, known is 1
  [1]
  $ commit f
  abort: the event journal of app cannot be written: the head has version 99, known is 1
  (a newer zmqhooks wrote it: install that one for the Python that runs hg)
  [255]
  $ hg events --repair
  abort: the event journal of app cannot be written: the head has version 99, known is 1
  (a newer zmqhooks wrote it: install that one for the Python that runs hg)
  [255]
