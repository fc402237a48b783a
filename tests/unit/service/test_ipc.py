import grp
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import zmq
from support.nobody import unprivileged

from hgext_zmqhooks.service import endpoints, ipc
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.ipc import AlreadyServed, lock_ipc


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="zh", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class TestIpc:
    def endpoint(self, folder, name="run/publish"):
        return Endpoint.parse(f"ipc://{folder}/{name}")

    def test_the_longest_path_is_accepted_and_can_be_bound(self, folder, new):
        name = "x" * (endpoints.IPC_PATH_MAX - len(f"{folder}/d/"))
        endpoint = Endpoint.parse(f"ipc://{folder}/d/{name}")
        lock = lock_ipc(endpoint)
        ipc.bind_ipc(new(zmq.PUB), lock)
        lock.close()

    def test_modes_do_not_depend_on_the_umask(self, folder, new):
        group = grp.getgrgid(os.getegid()).gr_name
        before = os.umask(0)
        try:
            lock = lock_ipc(self.endpoint(folder), group=group)
            ipc.bind_ipc(new(zmq.PUB), lock)
            assert os.umask(0) == 0, "the umask is as it was"
        finally:
            os.umask(before)
        run = folder / "run"
        assert stat.S_IMODE(run.stat().st_mode) == 0o2750
        assert stat.S_IMODE((run / "publish").stat().st_mode) == 0o660
        assert stat.S_IMODE((run / "publish.lock").stat().st_mode) == 0o600
        assert grp.getgrgid((run / "publish").stat().st_gid).gr_name == group
        lock.close()
        assert not (run / "publish").exists()

    def test_a_directory_that_is_closed_to_the_group_is_refused(self, folder):
        run = folder / "run"
        run.mkdir(mode=0o700)
        group = grp.getgrgid(os.getegid()).gr_name

        with pytest.raises(ServiceError, match=f"the group {group} may not enter it") as caught:
            lock_ipc(self.endpoint(folder), group=group)
        assert "0700" in str(caught.value)
        assert caught.value.hint == f"chgrp {group} {run} && chmod 2750 {run}"
        run.chmod(0o2750)
        lock_ipc(self.endpoint(folder), group=group).close()

    def test_a_file_of_another_user_is_named(self, folder):
        run = folder / "run"
        run.mkdir(mode=0o755)
        folder.chmod(0o755)
        lock = run / "publish.lock"
        lock.touch(0o400)

        with unprivileged() as user, pytest.raises(ServiceError) as caught:
            lock_ipc(self.endpoint(folder))
        assert f"{lock} (" in str(caught.value)
        assert f"0400) may not be written by user {user}" in str(caught.value)
        assert "must belong to the user" in caught.value.hint

    def test_an_existing_directory_is_used_unless_anyone_may_write(self, folder):
        run = folder / "run"
        run.mkdir(mode=0o755)
        lock_ipc(self.endpoint(folder)).close()
        assert stat.S_IMODE(run.stat().st_mode) == 0o755
        run.chmod(0o1777)
        with pytest.raises(ServiceError, match="anyone may write there") as caught:
            lock_ipc(self.endpoint(folder))
        assert f"chmod 2750 {run}" in caught.value.hint

    def test_an_unknown_group(self, folder):
        with pytest.raises(ServiceError, match="there is no group 'nosuch'"):
            lock_ipc(self.endpoint(folder), group="nosuch")

    def test_a_missing_parent(self, folder):
        with pytest.raises(ServiceError, match=f"{folder}/no does not exist") as caught:
            lock_ipc(self.endpoint(folder, "no/such/path"))
        assert caught.value.hint.startswith(f"mkdir -p {folder}/no;")

    HOLD = """
import sys
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.ipc import lock_ipc
lock = lock_ipc(Endpoint.parse(sys.argv[1]), serves=sys.argv[2:])
print("held", flush=True)
sys.stdin.read()
"""

    @pytest.mark.parametrize("serves", [["ipc:///run/z/sub"], []])
    def test_a_second_process_is_told_who_serves_and_what_to_do(self, folder, serves):
        endpoint = self.endpoint(folder)
        command = [sys.executable, "-c", self.HOLD, endpoint, *serves]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(AlreadyServed) as caught:
                lock_ipc(endpoint)
            holder.stdin.close()
        assert str(caught.value) == f"{endpoint} is already served by pid {holder.pid}"
        shown = serves[0] if serves else f"ipc://{folder}/run/subscribe"
        assert caught.value.hint.endswith(f"\nrelays:\n  - {{address: {shown}}}")
        assert ("no subscribe endpoint" in caught.value.hint) == (not serves)
        lock_ipc(endpoint).close()  # a lock ends with its process, however that ended

    def test_the_certificate_beside_the_socket(self, folder):
        endpoint = self.endpoint(folder)
        assert ipc.read_certificate(endpoint) is None
        lock = lock_ipc(endpoint)
        ipc.publish_certificate(endpoint, b"old")
        ipc.publish_certificate(endpoint, b"token")
        assert ipc.read_certificate(endpoint) == b"token"
        assert stat.S_IMODE((folder / "run/publish.cert").stat().st_mode) == 0o640
        lock.close()
