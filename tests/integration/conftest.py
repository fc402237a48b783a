"""What tests of the whole share: a site, and its daemons' logs in the report of a failure."""

from collections.abc import Iterator

import pytest
from support.site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.made() as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    made = getattr(item, "funcargs", {}).get("site")
    if report.when == "call" and report.failed and made is not None:
        report.sections += [(f"log of {name}", text) for name, text in made.logs()]
    return report
