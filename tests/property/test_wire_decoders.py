"""Whatever bytes come, a decoder gives a value or Refused, and soon; what we write, we read."""

import json
from collections.abc import Callable
from typing import Any

import wirekit
import wirestrategies as draw
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hgext_zmqhooks.service import parsing
from hgext_zmqhooks.wire import certificates, envelope, events, keyfiles, messages, topics
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.topics import Pattern
from hgext_zmqhooks.wire.values import Event

soon = settings(deadline=2000)
KEY = wirekit.key("publisher", draw.CERTIFICATE).encode()
PEM = keyfiles.encode_public_pem(wirekit.ROOT.public)


def value_or_refused(decode: Callable[[Any], Any], data: Any) -> Any:
    """The value, None for Refused; anything else fails the test."""
    try:
        return decode(data)
    except Refused:
        return None


def dumped(document: Any) -> bytes:
    """JSON as a careless or hostile writer makes it: NaN, escaped surrogates."""
    return json.dumps(document).encode()


@soon
@given(st.text(max_size=40) | draw.any_topic() | st.text("hg:%*?aA0/", max_size=30))
def test_any_text_is_a_topic_or_refused(text: str) -> None:
    """A text that splits is the topic of what it splits into."""
    if parts := value_or_refused(topics.split, text):
        scheme, name, subject = parts
        assert topics.topic(topics.source(scheme, name), subject) == text
    value_or_refused(topics.split_source, text)


@soon
@given(st.text(max_size=40) | st.text("hg:%*?aA0/", max_size=30), draw.any_topic() | st.text())
@example("hg:" + "*a" * 2000 + ":x:", "hg:" + "a" * 4000 + ":x:")
def test_any_text_is_a_pattern_or_refused(text: str, topic: str) -> None:
    """A pattern is kept as it was written and answers for any text."""
    if pattern := value_or_refused(Pattern.parse, text):
        assert pattern.text == text
        assert pattern.matches(topic) in {True, False}
        assert pattern.matches_source(topic) in {True, False}
        pattern.prefix.encode()


@soon
@given(st.binary(max_size=200) | draw.damaged(draw.events().map(events.encode)))
def test_any_bytes_are_an_event_or_refused(data: bytes) -> None:
    """An event that is read can be written, and its topic is one."""
    if event := value_or_refused(events.decode, data):
        assert events.decode(events.encode(event)) == event
        assert topics.split(event.topic) == ("hg", event.repo, event.branch)


@soon
@given(draw.events().flatmap(lambda e: draw.edited(json.loads(events.encode(e)))).map(dumped))
def test_any_json_is_an_event_or_refused(data: bytes) -> None:
    """One odd value anywhere in an event is refused or harmless."""
    if event := value_or_refused(events.decode, data):
        assert events.decode(events.encode(event)) == event


CLAIMS = json.loads(wirekit.unb64(draw.CERTIFICATE.split(b".")[1]))
HEADER = json.loads(wirekit.unb64(draw.CERTIFICATE.split(b".")[0]))


@soon
@given(st.binary(max_size=200) | draw.damaged(st.just(draw.CERTIFICATE)))
def test_any_bytes_are_a_certificate_or_refused(token: bytes) -> None:
    """No damage to a certificate makes one that the keyring takes."""
    value_or_refused(certificates.decode, token)
    ring = Keyring([wirekit.ROOT.public])
    assert value_or_refused(ring.certificate, token) is None or token == draw.CERTIFICATE


@soon
@given(draw.edited(HEADER).map(dumped), draw.edited(CLAIMS).map(dumped), st.booleans())
def test_any_signed_json_is_a_certificate_or_refused(
    header: bytes, claims: bytes, keep: bool
) -> None:
    """Whatever a root signs, the keyring gives a whole certificate or Refused."""
    token = wirekit.forged(json.dumps(HEADER).encode() if keep else header, claims)

    if certificate := value_or_refused(Keyring([wirekit.ROOT.public]).certificate, token):
        assert (len(certificate.public), len(certificate.curve)) == (32, 40)
        assert certificate.nbf < certificate.exp
        f"{certificate.iss}{certificate.sub}{certificate.jti}".encode()


@soon
@given(
    st.binary(max_size=200) | draw.damaged(st.just(KEY)) | draw.edited(json.loads(KEY)).map(dumped)
)
def test_any_bytes_are_a_key_file_or_refused(data: bytes) -> None:
    """A key that is read can be used and written."""
    if key := value_or_refused(SecretKey.decode, data):
        assert SecretKey.decode(key.encode()) == key
        assert (len(key.public), len(key.curve_public)) == (32, 40)


@soon
@given(st.binary(max_size=200) | draw.damaged(st.just(PEM)))
@example(b"-----BEGIN PUBLIC KEY-----" + b" \n" * 500_000)
def test_any_bytes_are_a_public_key_or_refused(data: bytes) -> None:
    """A PEM gives 32 bytes or Refused."""
    key = value_or_refused(keyfiles.decode_public_pem, data)
    assert key is None or len(key) == 32


@soon
@given(draw.session_frames)
def test_any_frames_are_a_message_of_a_session_or_refused(frames: list[bytes]) -> None:
    """A message that is read can be written and is read again."""
    if message := value_or_refused(messages.decode, frames):
        assert messages.decode(messages.encode(message)) == message


@soon
@given(draw.session_messages, st.data())
def test_any_header_is_one_of_a_message_or_refused(message: Any, data: st.DataObject) -> None:
    """One odd value anywhere in a header is refused or harmless."""
    frames = messages.encode(message)
    frames[2] = dumped(data.draw(draw.edited(json.loads(frames[2]))))

    if found := value_or_refused(messages.decode, frames):
        assert messages.decode(messages.encode(found)) == found


@soon
@given(
    st.lists(st.binary(max_size=80), max_size=6),
    st.integers(0, 3),
    st.binary(max_size=80),
)
def test_no_frames_but_the_signed_ones_are_authentic(
    frames: list[bytes], index: int, other: bytes
) -> None:
    """Of a message with one frame exchanged, nothing is authentic."""
    ring = Keyring([wirekit.ROOT.public])
    honest = wirekit.message().frames()

    def check(given: list[bytes]) -> Any:
        return ring.authenticate(Message.from_frames(given), wirekit.NOW)

    assert value_or_refused(check, frames) is None
    exchanged = [*honest[:index], other, *honest[index + 1 :]]
    assert value_or_refused(check, exchanged) is None


@given(draw.events())
def test_an_event_survives_its_bytes(event: Any) -> None:
    """Decode undoes encode, and the other way round."""
    data = events.encode(event)
    assert events.decode(data) == event
    assert events.encode(events.decode(data)) == data
    assert len(data.splitlines()) == 1


@given(draw.session_messages)
def test_a_message_survives_its_frames(message: Any) -> None:
    """Decode undoes encode, and the other way round; numbers count among the frames."""
    frames = messages.encode(message)
    assert messages.decode(frames) == message
    assert messages.encode(messages.decode(frames)) == frames


@given(draw.text, draw.text)
def test_two_events_never_share_what_is_signed(one: str, other: str) -> None:
    """The pre-authentication encoding is injective."""
    assert (envelope.pae(one.encode()) == envelope.pae(other.encode())) is (one == other)


@given(st.binary(max_size=64), st.binary(max_size=32).map(lambda raw: raw[: len(raw) // 4 * 4]))
def test_the_two_alphabets_are_undone(raw: bytes, words: bytes) -> None:
    """Base64url and Z85 give back the bytes they were made of."""
    assert keyfiles.b64url_decode(keyfiles.b64url_encode(raw)) == raw
    assert keyfiles.z85_decode(keyfiles.z85_encode(words)) == words


@given(st.text(max_size=12) | st.text(keyfiles._Z85, max_size=10))
def test_no_two_texts_stand_for_the_same_bytes(text: str) -> None:
    """A text that decodes is the one that its bytes encode to."""
    for decode, encode in [
        (keyfiles.b64url_decode, keyfiles.b64url_encode),
        (keyfiles.z85_decode, keyfiles.z85_encode),
    ]:
        try:
            raw = decode(text)
        except ValueError:
            continue
        assert encode(raw) == text


def read_or_not(read: Callable[[bytes], Event], data: bytes) -> str:
    """What a reader makes of it, so that 1, 1.0 and True differ; or why it refuses."""
    try:
        return repr(read(data))
    except Refused as error:
        return str(error)


def event_with(**data: Any) -> bytes:
    """The bytes of an event some of whose data are exchanged, written as events are."""
    document = json.loads(events.encode(PLAIN))
    document["data"].update(data)
    return events.dumps(document)


PLAIN = events.Event(
    repo="app",
    branch="default",
    journal="1" * 32,
    sequence=7,
    time="2026-01-01T00:00:00.000000Z",
    transaction=events.Transaction("t", "serve"),
)
BYTES = events.encode(PLAIN)
LINK = {"sequence": 6, "sha256": "a" * 64}


@soon
@given(
    st.binary(max_size=200)
    | draw.events().map(events.encode)
    | draw.damaged(draw.events().map(events.encode))
    | draw.events().flatmap(lambda e: draw.edited(json.loads(events.encode(e)))).map(dumped)
    | draw.events().flatmap(lambda e: draw.edited(json.loads(events.encode(e)))).map(events.dumps)
    | draw.json_values.map(events.dumps)
)
@example(BYTES.replace(b'"repo":"app"', b'"repo":"app","repo":"app"'))
@example(BYTES.replace(b'"repo":"app"', b'"repo":"evil","repo":"app"'))
@example(BYTES.replace(b'"app"', b'"\\u0061pp"'))
@example(BYTES.replace(b'"app"', b'"\\ud800"'))
@example(BYTES.replace(b'"part":1', b'"part":1.0'))
@example(BYTES.replace(b'"part":1', b'"part":2'))
@example(BYTES.replace(b'"part":1', b'"part":true'))
@example(BYTES.replace(b'"part":1', b'"part": 1'))
@example(BYTES.replace(b"}}", b'},"more":1e999}'))
@example(BYTES.replace(b"}}", b'},"more":{}}'))
@example(BYTES.replace(b"2026-01-01", b"2026-02-30"))
@example(BYTES.replace(b"2026-01-01", "\uff12\uff10\uff12\uff16-01-01".encode()))
@example(BYTES.replace(b'000Z"', b'000Z\\n"'))
@example(BYTES.replace(b'"source":"hg:app"', b'"source":"hg:other"'))
@example(BYTES + b"\n")
@example(b"\xef\xbb\xbf" + BYTES)
@example(b"[" * 100_000)
@example(event_with(sequence=2**63))
@example(event_with(sequence=10**400))
@example(event_with(previous=LINK))
@example(event_with(previous=LINK | {"sequence": 7}))
@example(event_with(previous=LINK, continues=None))
@example(event_with(continues=None))
@example(event_with(continues=LINK | {"journal": "2" * 32}))
@example(event_with(pusher=None, changesets=[], heads={"tip": None, "count": 0}))
@example(event_with(removed=["a" * 40 + "\n"]))
@example(event_with(branch="x" * events.MAX_LENGTH))
def test_the_reader_of_the_daemons_is_the_reader_of_the_wire(data: bytes) -> None:
    """Faster, and for all bytes the same event or the same refusal."""
    assert read_or_not(parsing.decode, data) == read_or_not(events.decode, data)


@given(draw.events())
def test_the_reader_of_the_daemons_needs_no_help_for_what_we_write(event: Event) -> None:
    """Its own form fits every event that is written by us."""
    form = parsing._decode(events.encode(event))

    assert parsing._encode(form) == events.encode(event)
    assert parsing._event(form) == event
    assert parsing._is_consistent(form, event)
