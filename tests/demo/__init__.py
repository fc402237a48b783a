"""What `make demo` runs: the whole way of a real `hg push` to a script that ran.

    python -m tests.demo             set up a new folder under /tmp, run, and say where it is
    python -m tests.demo setup DIR   only make the folder, to look at or to change something in
    python -m tests.demo run DIR     only run what such a folder holds

place.py   the folder: keys, hgrc, subscriber.yml, scripts, repositories
serve.py   the two daemons: zmq-subscriber with the relay inside, and `hg serve`
push.py    the clients, over ssh-style stdio and over http
report.py  what the subscriber says of it, as a table, and whether all is as it should be
"""
