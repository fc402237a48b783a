"""Whatever an event says, a value stays in the place where the operator put it."""

import json
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import httpx
from hypothesis import given
from hypothesis import strategies as st

from subscriber.actions.template import Unfit, parse

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = parse('{"a": "<{repo}>", "b": ["{user}"]}', "json")
FORM = parse("a={repo}&b={user}&a={repo}", "form")
URL = parse("https://ci.example.com/job/{repo}/x?b={user}&c=%2F", "url")
HEADER = parse("on {repo}!", "header")
ALONE = parse("{repo}", "header")
KEY = parse("k:{repo}:{user}", "key")


@given(TEXTS, TEXTS)
def test_a_json_body_says_exactly_the_values(repo: str, user: str) -> None:
    made = JSON.fill({"repo": repo, "user": user})

    assert json.loads(made) == {"a": f"<{repo}>", "b": [user]}


@given(TEXTS, TEXTS)
def test_a_form_says_exactly_the_values(repo: str, user: str) -> None:
    made = FORM.fill({"repo": repo, "user": user})

    assert parse_qsl(made, keep_blank_values=True) == [("a", repo), ("b", user), ("a", repo)]


@given(TEXTS, TEXTS)
def test_a_url_keeps_its_host_its_steps_and_its_names(repo: str, user: str) -> None:
    try:
        made = URL.fill({"repo": repo, "user": user})
    except Unfit:
        assert repo in {".", ".."}
        return
    parts = urlsplit(made)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "ci.example.com", "")
    assert [unquote(step) for step in parts.path.split("/")] == ["", "job", repo, "x"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("b", user), ("c", "/")]
    # And so it is sent
    assert httpx.URL(made).raw_path.decode() == made.removeprefix("https://ci.example.com")


@given(TEXTS)
def test_a_header_is_one_line_of_ascii(repo: str) -> None:
    made = HEADER.fill({"repo": repo})

    assert made.isascii()
    assert made.isprintable()
    assert unquote(made) == f"on {repo[:4096]}!"


@given(TEXTS)
def test_a_header_of_a_value_alone_can_be_sent(repo: str) -> None:
    made = ALONE.fill({"repo": repo})

    h11.Request(method="GET", target="/", headers=[("host", "x"), ("x-repo", made)])
    assert unquote(made) == repo[:4096].strip(" ")


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_two_keys_are_the_same_only_for_the_same_values(a: str, b: str, c: str, d: str) -> None:
    one, other = (KEY.fill({"repo": repo, "user": user}) for repo, user in ((a, b), (c, d)))

    assert (one == other) == ((a, b) == (c, d))
