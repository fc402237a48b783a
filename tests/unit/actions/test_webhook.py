"""The webhook action, against real servers: what is sent, what answers mean, and every limit."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest
import wirekit
from actionskit import job, run
from nacl.signing import SigningKey, VerifyKey
from signing import changeset
from standardwebhooks.webhooks import Webhook as Reader
from standardwebhooks.webhooks import WebhookVerificationError
from support.receiver import Authority, Receiver
from support.waiting import wait_for

from hgext_zmqhooks.service.clock import boot_clock
from hgext_zmqhooks.wire import events
from subscriber.actions import exchange, webhook
from subscriber.actions.base import LEASE_OVER, OUTPUT_LIMIT, Cancel, Job, Kind, Verdict
from subscriber.actions.make import described, make, missing, refused
from subscriber.actions.place import Place
from subscriber.actions.webhook_settings import PRESETS, WebhookSettings, wrong_webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
ANSWERED = 15.0

CHANGE = changeset(1, user="Alice <alice@example.com>", description='say "hi"\n50 %', files=("a",))
EVENT = events.encode(wirekit.event(changesets=(CHANGE,)))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def place(folder: Path) -> Place:
    return Place(folder, folder / "runners")


def secret(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.touch(0o600)
    path.write_text(text + "\n")
    return name


def said(url: str, **more: object) -> WebhookSettings:
    found = msgspec.convert({"url": url, **more}, WebhookSettings)
    assert list(wrong_webhook(found)) == []
    return found


def send(folder: Path, url: str, what: Job | None = None, **more: object) -> Verdict:
    made = make(said(url, **more), place(folder))
    return run(made, what or job(EVENT, node=CHANGE.node, timeout=ANSWERED))


class TestRequest:
    def test_it_is_the_exact_event_with_its_headers(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        verdict = send(tmp_path, f"{receiver.url}/hook?a=%2F&b")

        (seen,) = receiver.requests
        assert (verdict.kind, verdict.reason) == (Kind.DONE, "HTTP 200 OK")
        assert (seen.method, seen.target, seen.body) == ("POST", "/hook?a=%2F&b", EVENT)
        headers = seen.headers
        assert abs(int(headers.pop("webhook-timestamp")) - time.time()) < ANSWERED
        assert headers == {
            "host": f"localhost:{receiver.port}",
            "content-type": "application/cloudevents+json",
            "content-length": str(len(EVENT)),
            "user-agent": "zmqhooks",
            "accept-encoding": "identity",
            "webhook-id": "d1",
            "zmqhooks-fence": "7",
            "zmqhooks-attempt": "2",
            "traceparent": "00-1-2-01",
        }

    def test_several_parts_are_a_list_of_their_exact_bytes(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        send(tmp_path, receiver.url, job(EVENT, b'{"b" :2}', traceparent=None))

        (seen,) = receiver.requests
        assert seen.body == b"[" + EVENT + b',{"b" :2}]'
        assert seen.headers["content-type"] == "application/cloudevents-batch+json"
        assert "traceparent" not in seen.headers

    def test_a_receiver_of_standard_webhooks_verifies_it(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        send(tmp_path, receiver.url, secret=secret(tmp_path, "one", SECRET))

        (seen,) = receiver.requests
        assert Reader(SECRET).verify(seen.body, seen.headers) == json.loads(EVENT)
        with pytest.raises(WebhookVerificationError):
            Reader(SECRET).verify(seen.body + b" ", seen.headers)
        with pytest.raises(WebhookVerificationError):
            Reader(OTHER).verify(seen.body, seen.headers)

    def test_all_secrets_sign_so_that_each_receiver_finds_its_own(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        key = SigningKey.generate()
        private = "whsk_" + base64.b64encode(bytes(key) + bytes(key.verify_key)).decode()
        names = [
            secret(tmp_path, "old", OTHER),
            secret(tmp_path, "new", SECRET),
            secret(tmp_path, "key", private),
        ]

        send(tmp_path, receiver.url, secret=names)

        (seen,) = receiver.requests
        for text in (SECRET, OTHER):
            assert Reader(text).verify(seen.body, seen.headers)
        (signature,) = [
            each.removeprefix("v1a,")
            for each in seen.headers["webhook-signature"].split(" ")
            if each.startswith("v1a,")
        ]
        signed = f"d1.{seen.headers['webhook-timestamp']}.".encode() + seen.body
        VerifyKey(bytes(key.verify_key)).verify(signed, base64.b64decode(signature))

    def test_a_secret_is_read_at_each_attempt(self, tmp_path: Path, receiver: Receiver) -> None:
        made = make(said(receiver.url, secret=secret(tmp_path, "one", SECRET)), place(tmp_path))

        run(made, job(EVENT))
        secret(tmp_path, "one", OTHER)
        run(made, job(EVENT))

        first, second = receiver.requests
        assert Reader(SECRET).verify(first.body, first.headers)
        assert Reader(OTHER).verify(second.body, second.headers)

    @pytest.mark.parametrize("text", ["whsec_c2hvcnQ=", "hello", "whsk_YQ==", "whsec_no base64!"])
    def test_a_file_without_a_secret_sends_nothing_and_repeats_nothing(
        self, tmp_path: Path, receiver: Receiver, text: str
    ) -> None:
        name = secret(tmp_path, "one", text)
        given = said(receiver.url, secret=name)

        verdict = run(make(given, place(tmp_path)), job(EVENT))
        (wrong,) = missing("webhook", given, place(tmp_path))

        assert receiver.requests == []
        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
        assert "holds no secret such as" in verdict.reason
        assert (wrong[0], text in verdict.reason, text in wrong[2]) == (
            "webhook.secret",
            False,
            False,
        )

    def test_a_secret_that_others_may_read_is_not_used(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        name = secret(tmp_path, "one", SECRET)
        (tmp_path / name).chmod(0o644)

        verdict = send(tmp_path, receiver.url, secret=name)

        assert receiver.requests == []
        assert "mode 0644" in verdict.reason

    @pytest.mark.parametrize(
        ("text", "header"),
        [
            ("ci:s3cret", "Basic Y2k6czNjcmV0"),
            ("Bearer abc.def", "Bearer abc.def"),
            ("ci:with space", "Basic Y2k6d2l0aCBzcGFjZQ=="),
        ],
    )
    def test_credentials_come_from_a_file(
        self, tmp_path: Path, receiver: Receiver, text: str, header: str
    ) -> None:
        verdict = send(tmp_path, receiver.url, credentials=secret(tmp_path, "user", text))

        assert receiver.requests[0].headers["authorization"] == header
        assert text not in repr(verdict)

    @pytest.mark.parametrize("text", ["Bearer hidden ", "Bearer hid\x01den", "Bearer hiddén"])
    def test_credentials_that_no_header_holds_are_not_repeated(
        self, tmp_path: Path, receiver: Receiver, text: str
    ) -> None:
        given = said(receiver.url, credentials=secret(tmp_path, "user", text))

        verdict = run(make(given, place(tmp_path)), job(EVENT))
        (wrong,) = missing("webhook", given, place(tmp_path))

        assert receiver.requests == []
        assert "holds characters that no header has" in verdict.reason
        assert "hid" not in f"{verdict}{wrong}"

    def test_no_proxy_of_the_environment_is_asked(
        self, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        assert send(tmp_path, receiver.url).kind is Kind.DONE


class TestTemplates:
    def test_values_cannot_change_what_stands_around_them(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        hostile = 'a/../b?x=1&y="q"\r\nevil: 1 %41 é'

        send(
            tmp_path,
            f"{receiver.url}/job/{{branch}}/x?b={{branch}}",
            job(EVENT, branch=hostile, node=CHANGE.node),
            headers={"X-Branch": "on {branch}", "Content-Type": "application/json; charset=utf-8"},
            body='{"branch": "{branch}", "who": "{author}", "files": {files}, "event": {event}}',
        )

        (seen,) = receiver.requests
        assert seen.path.count("/") == 3
        assert seen.query == {"b": hostile}
        assert "evil" not in seen.headers
        assert seen.headers["x-branch"] == 'on a/../b?x=1&y="q"%0D%0Aevil: 1 %2541 %C3%A9'
        assert json.loads(seen.body) == {
            "branch": hostile,
            "who": CHANGE.user,
            "files": ["a"],
            "event": json.loads(EVENT),
        }
        assert seen.headers["content-type"] == "application/json; charset=utf-8"

    @pytest.mark.parametrize("branch", [".", ".."])
    def test_a_value_that_would_climb_in_the_path_is_dead(
        self, tmp_path: Path, receiver: Receiver, branch: str
    ) -> None:
        verdict = send(tmp_path, f"{receiver.url}/job/{{branch}}/", job(EVENT, branch=branch))

        assert (verdict.kind, receiver.requests) == (Kind.DEAD, [])
        assert "the path would have the part" in verdict.reason

    def test_plain_text_is_as_it_is(self, tmp_path: Path, receiver: Receiver) -> None:
        send(
            tmp_path,
            receiver.url,
            method="PUT",
            headers={"content-type": "text/plain"},
            body="{user}: {description} ({{user}} {x)",
        )

        (seen,) = receiver.requests
        assert (seen.method, seen.body) == (
            "PUT",
            f"alice: {CHANGE.description} ({{user}} {{x)".encode(),
        )

    def test_what_the_event_does_not_say_is_empty(self, tmp_path: Path, receiver: Receiver) -> None:
        names = ["user", "node", "author", "date", "description", "phase", "via", "traceparent"]
        body = "&".join(f"{name}={{{name}}}" for name in names)

        send(
            tmp_path,
            receiver.url,
            job(events.encode(wirekit.event(pusher=None)), user=None, node=None, traceparent=None),
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=body,
        )

        assert receiver.requests[0].form == dict.fromkeys(names, "")


class TestPresets:
    def test_jenkins_gets_the_parameters_of_a_build(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        receiver.answers.append((201, {"location": "http://ci/queue/item/7/"}, b""))

        verdict = send(
            tmp_path,
            f"{receiver.url}/job/build/buildWithParameters",
            job(EVENT, node=CHANGE.node, branch="a & b"),
            preset="jenkins",
            credentials=secret(tmp_path, "user", "ci:token"),
        )

        (seen,) = receiver.requests
        assert verdict.kind is Kind.DONE
        assert (seen.method, seen.path) == ("POST", "/job/build/buildWithParameters")
        assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
        assert seen.headers["authorization"].startswith("Basic ")
        assert seen.form == {
            "REPO": "app",
            "BRANCH": "a & b",
            "NODE": CHANGE.node,
            "PUSHER": "alice",
            "EVENT_ID": "j/1",
            "DELIVERY_ID": "d1",
        }

    def test_jenkins_is_told_to_poll_by_a_url(self, tmp_path: Path, receiver: Receiver) -> None:
        url = (
            f"{receiver.url}/mercurial/notifyCommit?url=https://hg.example.com/{{repo}}"
            "&branch={branch}&changesetId={node}"
        )

        send(tmp_path, url, job(EVENT, repo="team/app", node=CHANGE.node), method="GET")

        (seen,) = receiver.requests
        assert (seen.method, seen.path, seen.body) == ("GET", "/mercurial/notifyCommit", b"")
        assert seen.query == {
            "url": "https://hg.example.com/team/app",
            "branch": "default",
            "changesetId": CHANGE.node,
        }

    def test_buildbot_gets_a_change(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answers.append((202, {}, b""))

        verdict = send(tmp_path, f"{receiver.url}/change_hook/base", preset="buildbot")

        form = receiver.requests[0].form
        assert verdict.kind is Kind.DONE
        assert json.loads(form.pop("files")) == ["a"]
        assert json.loads(form.pop("properties")) == {"delivery_id": "d1"}
        assert form == {
            "revision": CHANGE.node,
            "branch": "default",
            "author": CHANGE.user,
            "who": "alice",
            "comments": CHANGE.description,
            "repository": "app",
            "project": "app",
        }

    def test_every_preset_is_a_good_template(self) -> None:
        for name in PRESETS:
            said("https://ci.example.com/", preset=name)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("status", "kind", "reason"),
        [
            (200, Kind.DONE, "HTTP 200 OK"),
            (204, Kind.DONE, "HTTP 204 No Content"),
            (299, Kind.DONE, "HTTP 299"),
            (410, Kind.DEAD, "HTTP 410 Gone: the receiver is disabled"),
            (400, Kind.RETRY, "HTTP 400 Bad Request"),
            (404, Kind.RETRY, "HTTP 404 Not Found"),
            (429, Kind.RETRY, "HTTP 429 Too Many Requests"),
            (500, Kind.RETRY, "HTTP 500 Internal Server Error"),
            (502, Kind.RETRY, "HTTP 502 Bad Gateway"),
            (503, Kind.RETRY, "HTTP 503 Service Unavailable"),
            (504, Kind.RETRY, "HTTP 504 Gateway Timeout"),
            (304, Kind.RETRY, "HTTP 304 Not Modified"),
        ],
    )
    def test_a_status_means(
        self, tmp_path: Path, receiver: Receiver, status: int, kind: Kind, reason: str
    ) -> None:
        receiver.answers.append((status, {}, b"" if status in {204, 304} else b"why"))

        verdict = send(tmp_path, receiver.url)

        assert (verdict.kind, verdict.reason) == (kind, reason)
        assert (verdict.interrupted, verdict.patient, verdict.retry_after) == (False, False, None)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    @pytest.mark.parametrize(
        ("text", "least", "most"),
        [
            ("7", 7, 7),
            ("in an hour", 3000, 3600),
            (formatdate(0, usegmt=True), 0, 0),
            ("999999999999999999", 86400, 86400),
        ],
    )
    def test_the_time_to_wait_is_obeyed_within_a_day(
        self,
        tmp_path: Path,
        receiver: Receiver,
        *,
        status: int,
        text: str,
        least: float,
        most: float,
    ) -> None:
        # Said when it runs: much of an hour may pass before, and workers must agree on its name.
        said = formatdate(time.time() + 3600, usegmt=True) if text == "in an hour" else text
        receiver.answers.append((status, {"retry-after": said}, b""))

        verdict = send(tmp_path, receiver.url)

        assert verdict.retry_after is not None
        assert least <= verdict.retry_after <= most

    def test_a_time_to_wait_that_is_none_is_passed_over(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        receiver.answers.append((503, {"retry-after": f"Thu, 01 Jan {10**20} 00:00:00 GMT"}, b""))

        verdict = send(tmp_path, receiver.url)

        assert (verdict.retry_after, verdict.reason) == (None, "HTTP 503 Service Unavailable")

    def test_the_end_of_the_answer_is_kept(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answers += [(200, {}, b"fine"), (500, {}, b"x" * 200_000 + b"end")]

        small, large = (send(tmp_path, receiver.url) for _ in range(2))

        assert (small.output, small.truncated) == (b"fine", False)
        assert (len(large.output), large.truncated) == (OUTPUT_LIMIT, True)
        assert large.output.endswith(b"end")

    def test_an_answer_without_end_is_read_to_a_limit(
        self, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "MOST_READ", 100_000)

        def flood(handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while True:
                handler.wfile.write(b"x" * 4096)

        receiver.answers.append(flood)

        verdict = send(tmp_path, receiver.url)

        assert (verdict.kind, verdict.truncated) == (Kind.DONE, True)

    def test_an_answer_that_breaks_off_counts_by_its_status(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        def torn(handler) -> None:
            handler.send_response(200)
            handler.send_header("content-length", "100")
            handler.end_headers()
            handler.wfile.write(b"half")
            handler.close_connection = True

        receiver.answers.append(torn)

        verdict = send(tmp_path, receiver.url)

        assert (verdict.kind, verdict.output) == (Kind.DONE, b"half")

    def test_a_refused_connection_is_a_failure(self, tmp_path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        verdict = send(tmp_path, f"http://127.0.0.1:{port}/")

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
        assert "refused" in verdict.reason

    def test_a_connection_that_is_closed_is_a_failure(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        def hang_up(handler) -> None:
            handler.close_connection = True

        receiver.answers.append(hang_up)

        verdict = send(tmp_path, receiver.url)

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
        assert "disconnected" in verdict.reason

    def test_a_host_without_threads_is_no_failure_of_the_receiver(
        self, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        before = len(list(Path("/proc/self/fd").iterdir()))
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            verdict = send(tmp_path, receiver.url)

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_a_name_that_is_not_there_is_a_failure(self, tmp_path: Path) -> None:
        verdict = send(tmp_path, "http://nowhere.invalid/")

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)


def silent(receiver: Receiver) -> threading.Event:
    """Its next answer comes only when the event is set."""
    go = threading.Event()

    def wait(handler) -> None:
        go.wait(60)
        handler.send_response(200)
        handler.send_header("content-length", "0")
        handler.end_headers()

    receiver.answers.append(wait)
    return go


class TestBreakingOff:
    def test_the_time_limit_is_for_all_of_it(self, tmp_path: Path, receiver: Receiver) -> None:
        go = silent(receiver)

        verdict = send(tmp_path, receiver.url, job(EVENT, timeout=0.3))
        go.set()

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
        assert verdict.reason == "the time limit of 0.3 s was reached"

    def test_it_is_broken_off_in_the_middle_and_does_not_count(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        go, verdicts = silent(receiver), []
        made = make(said(receiver.url), place(tmp_path))
        with Cancel() as cancel:
            thread = threading.Thread(
                target=lambda: verdicts.append(made.run(job(EVENT, timeout=600.0), cancel))
            )
            thread.start()
            wait_for(lambda: receiver.requests)
            cancel.set("the daemon ends")
            thread.join(ANSWERED)
            go.set()

        (verdict,) = verdicts
        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
        assert verdict.reason == "stopped: the daemon ends"
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "webhook"])

    def test_it_ends_before_its_lease(self, tmp_path: Path, receiver: Receiver) -> None:
        go = silent(receiver)
        with Cancel() as cancel:
            deadline = boot_clock() + 4.0
            cancel.until(deadline)
            verdict = make(said(receiver.url), place(tmp_path)).run(job(EVENT), cancel)
            ended = boot_clock()
        go.set()

        assert ended < deadline
        assert (verdict.interrupted, verdict.reason) == (True, LEASE_OVER)

    def test_an_extended_lease_lets_it_go_on(self, tmp_path: Path, receiver: Receiver) -> None:
        go, verdicts = silent(receiver), []
        with Cancel() as cancel:
            first = boot_clock() + 2.0
            cancel.until(first)
            made = make(said(receiver.url), place(tmp_path))
            thread = threading.Thread(target=lambda: verdicts.append(made.run(job(EVENT), cancel)))
            thread.start()
            cancel.until(boot_clock() + 60)
            wait_for(lambda: boot_clock() > first)
            go.set()
            thread.join(ANSWERED)

        assert [verdict.kind for verdict in verdicts] == [Kind.DONE]

    def test_after_its_lease_nothing_is_sent(self, tmp_path: Path, receiver: Receiver) -> None:
        with Cancel() as cancel:
            cancel.until(boot_clock() - 1)
            verdict = make(said(receiver.url), place(tmp_path)).run(job(EVENT), cancel)

        assert (verdict.interrupted, verdict.reason) == (True, LEASE_OVER)
        assert receiver.connections == 0

    def test_what_was_still_looking_up_a_name_sends_nothing_afterwards(
        self, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go, found = threading.Event(), threading.Event()

        def slow(host: str, port: int, *, private: bool) -> list[str]:
            go.wait(60)
            found.set()
            return ["127.0.0.1"]

        monkeypatch.setattr(exchange, "addresses", slow)
        monkeypatch.setattr("subscriber.actions.webhook._PATIENCE", 0.1)

        verdict = send(tmp_path, receiver.url, job(EVENT, timeout=0.2))
        go.set()

        assert "time limit" in verdict.reason
        assert found.wait(ANSWERED)
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "webhook"])
        assert (receiver.connections, receiver.requests) == (0, [])

    def test_many_leave_no_descriptor_and_no_thread(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        send(tmp_path, receiver.url)
        wait_for(lambda: threading.active_count() <= 3)
        before = len(list(Path("/proc/self/fd").iterdir()))

        for _ in range(30):
            assert send(tmp_path, receiver.url).kind is Kind.DONE

        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "webhook"])
        wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


class TestTls:
    def test_a_certificate_is_verified(self, tmp_path: Path) -> None:
        with Receiver(tls=Authority(tmp_path)) as receiver:
            unknown = send(tmp_path, receiver.url)
            known = send(tmp_path, receiver.url, ca="ca.pem")
            wrong = send(tmp_path, f"https://127.0.0.1:{receiver.port}/", ca="ca.pem")

        assert (unknown.kind, known.kind, wrong.kind) == (Kind.RETRY, Kind.DONE, Kind.RETRY)
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.reason
        assert "mismatch" in wrong.reason

    def test_a_missing_ca_is_named(self, tmp_path: Path, receiver: Receiver) -> None:
        given = said(receiver.url, ca="none.pem")

        verdict = run(make(given, place(tmp_path)), job(EVENT))
        (wrong,) = missing("webhook", given, place(tmp_path))

        assert "none.pem" in verdict.reason
        assert wrong[0] == "webhook.ca"


class TestRedirects:
    def test_by_default_none_is_followed(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answers.append((302, {"location": "/there"}, b""))

        verdict = send(tmp_path, receiver.url)

        assert len(receiver.requests) == 1
        assert verdict.kind is Kind.RETRY
        assert "redirects are not followed" in verdict.reason

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_the_same_request_is_sent_again(
        self, tmp_path: Path, receiver: Receiver, status: int
    ) -> None:
        receiver.answers.append((status, {"location": "/there?x=1"}, b""))
        user = secret(tmp_path, "user", "ci:x")

        verdict = send(tmp_path, receiver.url, redirects=True, private=True, credentials=user)

        first, second = receiver.requests
        assert verdict.kind is Kind.DONE
        assert (second.method, second.target, second.body) == ("POST", "/there?x=1", EVENT)
        assert second.headers == first.headers

    def test_three_are_followed_and_no_more(self, tmp_path: Path, receiver: Receiver) -> None:
        receiver.answers += [(307, {"location": f"/{at}"}, b"") for at in range(9)]

        verdict = send(tmp_path, receiver.url, redirects=True, private=True)

        assert len(receiver.requests) == 4
        assert "redirected more than 3 times" in verdict.reason

    def test_another_origin_gets_no_credentials(self, tmp_path: Path, receiver: Receiver) -> None:
        with Receiver() as other:
            receiver.answers.append((307, {"location": f"{other.url}/there"}, b""))
            user = secret(tmp_path, "user", "ci:x")
            send(
                tmp_path,
                receiver.url,
                redirects=True,
                private=True,
                credentials=user,
                headers={"Cookie": "a=b", "X-Gitlab-Token": "geheim"},
            )

        personal = {"authorization", "cookie", "x-gitlab-token"}
        assert personal <= receiver.requests[0].headers.keys()
        assert not personal & other.requests[0].headers.keys()

    @pytest.mark.parametrize(
        "host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"]
    )
    def test_a_private_address_is_not_asked(
        self, tmp_path: Path, receiver: Receiver, host: str
    ) -> None:
        """Given a receiver that redirects to this machine, Then it is not asked, by any name."""
        receiver.answers.append((307, {"location": f"http://{host}:{receiver.port}/"}, b""))

        verdict = send(tmp_path, receiver.url, redirects=True)

        assert (len(receiver.requests), receiver.connections) == (1, 1)
        assert (verdict.kind, "private address" in verdict.reason) == (Kind.RETRY, True)

    def test_what_was_looked_up_is_what_is_connected_to(
        self, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Given a name that is public once and private ever after, Then it is asked for once."""
        receiver.answers.append((307, {"location": f"http://twice.test:{receiver.port}/"}, b""))
        asked: list[str] = []
        real, connected = socket.getaddrinfo, socket.create_connection

        def resolve(host, *rest, **more):
            if host != "twice.test":
                return real(host, *rest, **more)
            asked.append(host)
            return real("93.184.215.14" if len(asked) == 1 else "127.0.0.1", *rest, **more)

        def connect(address, *rest, **more):
            if address[0] == "93.184.215.14":
                asked.append(address[0])
                raise ConnectionRefusedError
            return connected(address, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(socket, "create_connection", connect)

        verdict = send(tmp_path, receiver.url, redirects=True)

        assert asked == ["twice.test", "93.184.215.14"]
        assert verdict.kind is Kind.RETRY

    @pytest.mark.parametrize(
        "location",
        ["", "ftp://example.com/", "http://[x/", "http://x:y/", "http://xn--/", "//x:99999/"],
    )
    def test_what_is_no_url_is_a_failure(
        self, tmp_path: Path, receiver: Receiver, location: str
    ) -> None:
        receiver.answers.append((307, {"location": location}, b""))

        verdict = send(tmp_path, receiver.url, redirects=True, private=True)

        assert len(receiver.requests) == 1
        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
        assert "defective" not in verdict.reason

    def test_from_https_it_does_not_go_to_http(self, tmp_path: Path, receiver: Receiver) -> None:
        with Receiver(tls=Authority(tmp_path)) as safe:
            safe.answers.append((307, {"location": receiver.url}, b""))
            verdict = send(tmp_path, safe.url, ca="ca.pem", redirects=True, private=True)

        assert receiver.requests == []
        assert "from https to http" in verdict.reason


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        ({"url": "ci.example.com/hook"}, "url", "not a URL"),
        ({"url": "ftp://ci/"}, "url", "not a URL"),
        ({"url": "https:///hook"}, "url", "not a URL"),
        ({"url": "https://ci:x/"}, "url", "Port"),
        ({"url": "https://me:pass@ci/"}, "url", "names a user"),
        ({"url": "https://ci/a b"}, "url", "no URL has"),
        ({"url": "https://ci/#x"}, "url", "no URL has"),
        ({"url": "https://ci/../x"}, "url", "has . or .."),
        ({"url": "https://ci/{brunch}"}, "url", "{brunch} is no value"),
        ({"url": "https://ci/{event}"}, "url", "in a body only"),
        ({"url": "https://{repo}.ci/"}, "url", "in the path or behind it only"),
        ({"url": "https://u:a/s3cret@ci/"}, "url", "not a URL"),
        ({"headers": {"A B": "x"}}, "headers.A B", "not the name"),
        ({"headers": {"Authorization": "Bearer s3cret"}}, "headers.Authorization", "secret"),
        ({"headers": {"Webhook-Id": "x"}}, "headers.Webhook-Id", "set by the webhook itself"),
        ({"headers": {"zmqhooks-fence": "x"}}, "headers.zmqhooks-fence", "itself"),
        ({"headers": {"Host": "x"}}, "headers.Host", "itself"),
        ({"headers": {"X": "a\nb"}}, "headers.X", "no header has"),
        ({"headers": {"X": "{nobody}"}}, "headers.X", "is no value"),
        ({"headers": {"X": "1", "x": "2"}}, "headers", "twice"),
        ({"headers": {"Content-Type": "text/{repo}"}}, "headers.Content-Type", "values in it"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers", "without a body"),
        ({"headers": {"Content-Type": "text/xml"}, "body": "<a/>"}, "headers", "cannot be escaped"),
        ({"body": '{"a": {repo}}'}, "body", "double quotes"),
        ({"body": '{"a": "{event}"}'}, "body", "is not JSON once values stand in it"),
        ({"body": '{"a": "{files}"}'}, "body", "is not JSON once values stand in it"),
        ({"body": "{repo}", "preset": "jenkins"}, "preset", "body of its own"),
        ({"method": "GET", "preset": "jenkins"}, "method", "no body"),
        ({"method": "GET", "body": "{}"}, "method", "no body"),
        ({"secret": ""}, "secret", "not a path"),
        ({"secret": ["a", "b\0"]}, "secret[1]", "not a path"),
        ({"credentials": ""}, "credentials", "not a path"),
        ({"ca": ""}, "ca", "not a path"),
        ({"private": True}, "private", "for redirects"),
    ],
)
def test_what_is_wrong_in_itself_is_named(value: dict[str, object], key: str, reason: str) -> None:
    given = msgspec.convert({"url": "https://ci.example.com/", **value}, WebhookSettings)

    wrong, *_ = wrong_webhook(given)

    assert (wrong[0], reason in wrong[2]) == (key, True), wrong
    assert wrong[3]
    assert not any("s3cret" in str(part) or "pass@" in str(part) for part in wrong)


def test_what_is_there_is_not_missing(tmp_path: Path) -> None:
    Authority(tmp_path)
    given = said(
        "https://ci.example.com/{repo}",
        secret=[secret(tmp_path, "one", SECRET)],
        credentials=secret(tmp_path, "user", "a:b"),
        ca="ca.pem",
    )

    assert list(missing("webhook", given, place(tmp_path))) == []
    assert list(refused("webhook", given)) == []
    assert described(given, place(tmp_path)) == "POST https://ci.example.com/{repo}"


def test_missing_credentials_are_named(tmp_path: Path) -> None:
    given = said("https://ci.example.com/", credentials="none")

    (wrong,) = missing("webhook", given, place(tmp_path))

    assert wrong[0] == "webhook.credentials"


def test_a_lease_that_ends_while_we_stand_still_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between the look at the clock and the wait, which must not last for ever then."""
    begin, looks = boot_clock(), iter([0.0, 0.0])
    monkeypatch.setattr(webhook, "boot_clock", lambda: begin + next(looks, 3600.0))
    silent, other = socket.socketpair()
    late = threading.Timer(5.0, other.close)
    late.start()
    with Cancel() as cancel, silent:
        cancel.until(begin + 600.0)
        cancel.hear()

        found = webhook._awaited(silent, cancel, time.monotonic() + 60.0, 60.0)

    late.cancel()
    other.close()
    assert found == (LEASE_OVER, True)
