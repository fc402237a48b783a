from itertools import count

import pytest

from hgext_zmqhooks.relay import catalog
from hgext_zmqhooks.relay.catalog import Scanner, scan


@pytest.fixture
def tree(tmp_path):
    for name in ("app", "team/lib", "team/deep/er", "app/nested", "team/lib/build/out"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("app", "team/lib", "team/deep/er", "app/nested"):
        (tmp_path / name / ".hg/store/data").mkdir(parents=True)
    return tmp_path


def names(tree, *patterns):
    found = scan(tuple(f"{tree}/{pattern}" for pattern in patterns))
    return [one.path.removeprefix(f"{tree}/") for one in found if one]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["**"], ["app", "app/nested", "team/deep/er", "team/lib"]),
        (["*"], ["app"]),
        (["*/"], ["app"]),
        (["*/*"], ["app/nested", "team/lib"]),
        (["team/**"], ["team/deep/er", "team/lib"]),
        (["team/li?"], ["team/lib"]),
        (["app"], ["app"]),
        (["team/lib", "**"], ["team/lib", "app", "app/nested", "team/deep/er"]),
        (["nothing/**", "no*"], []),
    ],
)
def test_globs(tree, patterns, expected):
    assert names(tree, *patterns) == expected


def test_a_shared_store_is_found_once_under_its_first_name(tree):
    share = tree / "zshare/.hg"
    share.mkdir(parents=True)
    (share / "sharedpath").write_bytes(f"{tree}/app/.hg\n".encode())
    assert "zshare" not in names(tree, "**")
    (found,) = [one for one in scan((f"{tree}/zshare",)) if one]
    assert found.store == str(tree / "app/.hg/store")


def test_symbolic_links_do_not_lead_in_circles(tree):
    (tree / "team/loop").symlink_to(tree)
    assert names(tree, "**") == ["app", "app/nested", "team/deep/er", "team/lib"]


def test_a_scan_is_done_in_steps_and_repeated_later(tree):
    clock = count(0.0, 0.01)
    now = [0.0]

    def tick():
        now[0] = next(clock)
        return now[0]

    scanner = Scanner((f"{tree}/**",), clock=tick)
    steps = 0
    while (found := scanner.step(0.005)) is None:
        steps += 1
    assert steps > 5
    assert len(found) == 4
    assert scanner.step(0.005) is None
    assert scanner.due >= now[0] + 20
    scanner.ask()
    assert scanner.due < now[0] + 20, "somebody waits for it"


def test_asking_again_and_again_does_not_scan_all_the_time(tree):
    now = [0.0]
    scanner = Scanner((f"{tree}/**",), clock=lambda: now[0])
    assert scanner.step(1) is not None
    scans = 0
    for _ in range(1000):
        now[0] += 0.01
        scanner.ask()
        scans += scanner.step(1) is not None
    assert 0 < scans <= 10 / catalog.RESCAN_SECONDS


def test_the_number_of_repositories_is_bounded(tree, monkeypatch):
    monkeypatch.setattr(catalog, "MAX_REPOSITORIES", 2)
    assert len(names(tree, "**")) == 2
