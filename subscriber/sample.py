"""The configuration that `zmq-subscriber init` prints: every key, ready to be edited.

`check` accepts it apart from the files that it names and that are not there yet.
"""

SAMPLE = """\
# subscriber.yml: zmq-subscriber --config subscriber.yml
# Paths are relative to this file; actions run in its folder. `zmq-subscriber --config F check`
# says what is wrong with it.

# The name in the certificate of `key`, which may be left out here.
# name: ci
# Made by: zmq-keys quickstart /etc/zmqhooks
key: /etc/zmqhooks/subscriber.key
trust: [/etc/zmqhooks/root.pub]
# Made by: zmq-keys revoke --root ROOT.key --out /etc/zmqhooks/root.crl
# revocations: [/etc/zmqhooks/root.crl]

# One machine: the relay runs inside this daemon. hg publishes to `publish`.
relay:
  publish: ipc:///run/zmqhooks/publish
  repositories: ["/srv/hg/**"]
  # For further subscribers on this machine; needs `key`, a certificate with the role relay:
  # subscribe: [ipc:///run/zmqhooks/subscribe]
  # For any ZeroMQ client that may lose messages:
  # broadcast: ipc:///run/zmqhooks/broadcast
  # Who may use these sockets:
  # group: hg

# Relays elsewhere, in addition or instead.
# relays:
#   - {address: tcp://hg1.example.com:5701, certificate: /etc/zmqhooks/hg1.cert}
#   - {address: ipc:///run/zmqhooks/subscribe}

# Where a name seen for the first time begins: latest, earliest, or an age such as 24h.
start: latest
store: sqlite:/var/lib/zmqhooks/subscriber.db
# One store for daemons on several hosts, on Redis or Valkey:
# store: {url: "rediss://valkey.example.com:6379/0", credentials: ci.redis, ca: ca.pem}
# Beside which path stands what belongs to this host alone; default: a SQLite store, else this file.
# state: /var/lib/zmqhooks/ci
# How long the work of a daemon that is gone stands still.
# lease: 60s
# Actions at once in this daemon.
workers: 8
# How long receipts and events of what is done stay in the store.
keep: 30d

# Rules, workers and keep are taken up while the daemon runs; other keys need a restart.
rules:
  - name: build                        # a-z, 0-9, _ and -
    when:                              # all conditions must hold; leave out what does not matter
      topic: "hg:**:default:"          # hg:REPOSITORY:BRANCH: with *, ** and ?; one or a list
      changes: changesets              # bookmarks, tags, phases, obsoleted, removed
      # files: ["src/**"]
      # user: "*@example.com*"         # who wrote the changeset
      # pusher: alice                  # who pushed it
      # phase: public                  # or draft
      # origin: live                   # catchup, revealed, ping, baseline
    each: event                        # one run per event, head or changeset
    exec: ["./build.sh"]               # the event is on its stdin, ZMQHOOKS_* in its environment
    # exec:                            # the same with more to say
    #   command: ["./build.sh"]
    #   directory: work
    #   user: ci                       # where this daemon runs as root
    #   environment: {pass: [HTTPS_PROXY], set: {MODE: full}}
    #   limits: {memory: 2GiB, cpu: 10m, files: 1024, processes: 64}
    # webhook:                         # instead of exec: a signed request
    #   url: "https://chat.example.com/hooks/{rule}"    # {…}: values, in headers and body too
    #   secret: webhook.secret         # a file with whsec_… or whsk_…; of a list all sign
    #   body: '{"text": "{user} pushed to {branch} of {repo}"}'    # default: the event itself
    #   headers: {X-Branch: "{branch}"}
    #   method: POST                   # PUT, PATCH, GET
    #   preset: jenkins                # or buildbot: the form that they expect, instead of body
    #   credentials: jenkins.user      # a file with user:password, or Bearer TOKEN
    #   ca: ca.pem
    #   redirects: no
    #   private: no                    # whether redirects may lead to private addresses
    # redis:                           # instead of exec: a stream, and the head of each branch
    #   url: redis://127.0.0.1:6379/0  # or rediss://…, unix:///run/valkey.sock?db=0
    #   credentials: redis.user        # a file with user:password
    #   ca: ca.pem
    #   stream: "hg:{repo}"
    #   maxlen: 100000
    #   head: "head:{repo}:{branch}"
    #   ttl: 30d
    timeout: 15m                       # of a webhook, and of redis: 30s
    order: branch                      # or repo, none, or a template: "deploy-{repo}"
    overlap: queue                     # latest: of what waits in one order, only the newest
    # concurrency: 2                   # at most so many at once
    # lock: deploy-prod                # never together with those of other rules that name it
    retry: {attempts: 4, delays: [1s, 10s, 60s], patience: 3d}
"""
