How far each subscriber is: the relay is asked.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > [zmqhooks]
  > key = $PUBLISHER_KEY
  > root = $TESTTMP/srv
  > EOF
  $ hg init srv/app
  $ cd srv/app

Who has no relay cannot ask one.

  $ hg events --subscribers
  abort: no relay is set: nobody here knows the subscribers
  (set zmqhooks.relay to the `publish` address of the relay)
  [255]
  $ cat >> $HGRCPATH <<EOF
  > relay = ipc://$TESTTMP/s
  > EOF
  $ hg events --subscribers
  no journal yet: the first transaction begins it
  $ echo a > a
  $ hg commit -Aqm one
  $ hg events --subscribers
  the relay at ipc://$TESTTMP/s does not say: nobody listens
  [1]
  $ hg events --subscribers --config zmqhooks.relay=tcp://localhost:1
  config error: zmqhooks.relay: 'tcp://localhost:1': a tcp relay needs relay-certificate
  (set relay-certificate to the relay's N.cert, or use an ipc address)
  [30]

What does not go with it is refused.

  $ hg events --subscribers --branch default
  abort: cannot specify both --subscribers and --branch
  [10]
  $ hg events --verify -T json
  abort: cannot specify both --verify and --template
  [10]
  $ cd $TESTTMP
  $ hg init elsewhere
  $ hg -R elsewhere events --subscribers
  abort: this repository publishes nothing
  (see `hg events --check`)
  [255]

A relay that answers. This one says what the test needs.

  $ cat > relay.py <<EOF
  > import json, sys, zmq
  > socket = zmq.Context().socket(zmq.XSUB)
  > socket.bind(sys.argv[1])
  > socket.send(b"\\x01")
  > while True:
  >     kind, nonce, journal, certificate = socket.recv_multipart()
  >     rows = [["ci", 1, 1795251302, True], ["mirror", 0, 1795251302, False]]
  >     answer = {"head": 1, "sessions": 1, "subscribers": rows, "left_out": 3}
  >     socket.send(b"S" + nonce + json.dumps(answer).encode())
  > EOF
  $ "$PYTHON" relay.py ipc://$TESTTMP/s &
  $ while test ! -S s; do sleep 0.05; done
  $ cat >> $HGRCPATH <<EOF
  > live-timeout = 20000
  > EOF
  $ hg -R srv/app events --subscribers
  ci: up to date, acknowledged 1, connected
  mirror: 1 event behind, acknowledged 0, not connected, last seen 2026-11-21 * UTC (glob)
  3 more, whom `zmq-relay status` on the relay's host lists
  $ hg -R srv/app events --subscribers -T '{subscriber} {behind}\n' 2> /dev/null
  ci 0
  mirror 1
  $ hg -R srv/app events --subscribers -T json 2> /dev/null
  [
   {
    "acknowledged": 1,
    "behind": 0,
    "connected": true,
    "seen": 1795251302,
    "subscriber": "ci"
   },
   {
    "acknowledged": 0,
    "behind": 1,
    "connected": false,
    "seen": 1795251302,
    "subscriber": "mirror"
   }
  ]
  $ kill $!
