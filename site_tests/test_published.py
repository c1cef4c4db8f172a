"""The site as the workflow publishes it: built with its own address and with links to the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from built_site import ROOT, Site
from test_built_pages import links_with_problems

ADDRESS, REPOSITORY = "https://example.org/turbo/", "https://github.com/example/turbo"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Site:
    """A site that was built anew."""
    folder = tmp_path_factory.mktemp("published")
    variables = {"SITE_URL": ADDRESS, "REPO_URL": REPOSITORY, "EDIT_URI": "edit/main/docs/"}
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | variables | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return Site(folder, "/turbo/")


def test_its_links_lead_somewhere(published):
    assert links_with_problems(published) == []


def test_the_site_map_lists_every_page(published):
    places = ElementTree.parse(published.root / "sitemap.xml").iterfind(".//{*}loc")
    wanted = {ADDRESS + name.removesuffix("index.html") for name in published.pages if name != "404.html"}
    assert sorted(str(place.text).removesuffix("index.html") for place in places) == sorted(wanted)


def test_every_page_can_be_edited(published):
    for name, page in published.pages.items():
        edits = [link.url for link in page.links if link.url.startswith(f"{REPOSITORY}/edit/")]
        if name != "404.html":
            assert edits == [f"{REPOSITORY}/edit/main/docs/{name.removesuffix('.html')}.md"]
            assert (ROOT / edits[0].removeprefix(f"{REPOSITORY}/edit/main/")).is_file()


def test_the_repository_is_linked_and_not_asked(published):
    for page in published.pages.values():
        assert any(link.url == REPOSITORY for link in page.links)
        assert "source" not in page.components  # the theme's script would ask GitHub for stars and forks


def test_without_addresses_there_is_no_link_to_a_repository(site):
    if os.environ.get("REPO_URL"):
        pytest.skip("this site was built with REPO_URL")
    for page in site.pages.values():
        assert not any("/edit/" in link.url for link in page.links)
