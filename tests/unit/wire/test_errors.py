"""What a refusal says."""

from hgext_zmqhooks.wire.errors import Refused


def test_a_refusal_shows_kind_and_detail() -> None:
    refused = Refused("bad-thing", "it is odd")

    assert str(refused) == "bad-thing: it is odd"
    assert (refused.kind, refused.detail) == ("bad-thing", "it is odd")
    assert isinstance(refused, ValueError)
