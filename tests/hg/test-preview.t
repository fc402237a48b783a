The event that a push of one changeset would make, without a push.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgext_zmqhooks =
  > [zmqhooks]
  > root = $TESTTMP/srv
  > EOF
  $ hg init srv/app
  $ cd srv/app
  $ without='--config extensions.hgext_zmqhooks=!'
  $ echo a > a
  $ hg commit -Aqm one -d '0 0' $without
  $ echo b > b
  $ hg commit -Aqm two $without
  $ hg branch -q stable
  $ hg commit -qm three $without
  $ hg commit -qm four --close-branch $without
  $ cat > show.py <<EOF
  > import json, sys
  > for line in sys.stdin:
  >     data = json.loads(line)["data"]
  >     heads = data["heads"]
  >     nodes = [one["description"] for one in data["changesets"]]
  >     print(data["branch"], nodes, data["origin"], data["transaction"]["name"],
  >           heads["count"], len(heads["added"]), len(heads["removed"]))
  > EOF

It needs no key, and writes nothing.

  $ hg events --preview -r 0
  {"specversion":"1.0","type":"hg.transaction.v1","source":"hg:app","subject":"default","id":"00000000000000000000000000000000/1","time":"*Z","datacontenttype":"application/json","sequence":"00000000000000000001","data":{"repo":"app","branch":"default","journal":"00000000000000000000000000000000","sequence":1,"previous":null,"transaction":{"id":"preview","name":"preview","source":null,"part":1,"parts":1},"pusher":{"user":"*","via":"local","address":null},"origin":"live","heads":{"tip":"*","count":1,"added":["*"],"removed":[]},"changesets":[{"node":"*","parents":[],"user":"test","date":"1970-01-01T00:00:00+00:00","description":"one","phase":"draft","topic":null,"closes_branch":false,"files":["a"],"truncated":false}]}} (glob)
  $ for rev in 1 2 3; do hg events --preview -r $rev | "$PYTHON" show.py; done
  default ['two'] live preview 1 1 1
  stable ['three'] live preview 1 1 0
  stable ['four'] live preview 0 0 1
  $ ls .hg/store | grep zmqhooks
  [1]

A repository that publishes nothing needs a name for it.

  $ hg init $TESTTMP/elsewhere
  $ cd $TESTTMP/elsewhere
  $ echo a > a
  $ hg commit -Aqm one
  $ hg events --preview -r .
  abort: no name to publish under: $TESTTMP/elsewhere is outside zmqhooks.root = $TESTTMP/srv (*), and zmqhooks.repo is not set (glob)
  (--config zmqhooks.repo=NAME gives it a name for this command)
  [255]
  $ hg events --preview -r . --config zmqhooks.repo=team/x | grep -o '"source":"[^"]*"'
  "source":"hg:team/x"

Of a secret changeset nothing is told, and only one can be told of.

  $ cd $TESTTMP/srv/app
  $ hg phase --secret --force 3 $without
  $ hg events --preview -r 3
  abort: this changeset is secret: nothing is told of it
  (`hg phase --draft --force` makes it one that can be pushed)
  [255]
  $ hg events --preview
  abort: --preview is of exactly one changeset
  (give one with --rev)
  [10]
  $ hg events --preview -r 0:2
  abort: --preview is of exactly one changeset
  (give one with --rev)
  [10]
  $ hg events --preview -r nonesuch
  abort: unknown revision 'nonesuch'
  [10]
  $ hg events --preview -r 0 -b default
  abort: cannot specify both --preview and --branch
  [10]
