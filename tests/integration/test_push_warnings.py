"""What hg has to say reaches who pushes, over every transport."""

import pytest
from support.site import Site

WARNING = "zmqhooks: unknown setting zmqhooks.kye: did you mean 'key'?"


@pytest.mark.parametrize("transport", ["local", "ssh", "http"])
def test_who_pushes_reads_the_warnings(site: Site, transport: str) -> None:
    # Given a repository with a setting that means nothing
    app = site.repository("team/app")
    with (app.path / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write("[zmqhooks]\nkye = x\n")
    if transport == "http":
        url = site.web(app)
    else:
        url = str(app.path) if transport == "local" else f"ssh://host/{app.path}"
    # When somebody pushes, then they are told, once
    client = site.clone(app, url)
    client.build(2, "default", plain=True)
    ran = client.hg("push")
    said = ran.out + ran.err
    assert said.count(WARNING) == 1, said
