"""`voltscreen serve` as it runs: the page in a real Chromium, the API against its description."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.conftest import KEY
from tests.web.small_campaign import NAME

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT_MS = 180_000
"""Longer than a page takes on the busiest machine."""
SIZES = {"desktop": {"width": 1200, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def address(filled) -> Iterator[str]:
    """`voltscreen serve` as a user starts it, on a free port."""
    keys = f"another-key-0123456789,{KEY}"
    with subprocess.Popen(
        [sys.executable, "-m", "voltscreen", "serve", "--port", "0", "--per-minute", "1e6"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "VOLTSCREEN_API_KEYS": keys},
    ) as server:  # fmt: skip
        try:
            line = server.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line + server.stderr.read()
            wait_for(found[0])
            yield found[0]
        finally:
            server.terminate()
            server.wait(30)
            assert KEY not in server.stderr.read()


def wait_for(address: str) -> None:
    import httpx

    end = time.monotonic() + 600
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/api/health").json()["model_ready"]:
                return
        time.sleep(0.3)
    raise AssertionError("the server does not get ready")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH (Debian's package chromium): the page is not driven")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """A page that fails the test on errors of scripts and on requests to anywhere else."""
    context = browser.new_context(viewport=SIZES["desktop"], base_url=address)
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    opened.on(
        "request",
        lambda request: (
            problems.append(request.url) if not request.url.startswith((address, "data:")) else None
        ),
    )
    yield opened
    context.close()
    assert problems == []


def command_line(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "voltscreen", *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_upload_a_cif_choose_ions_read_the_voltages_of_the_command_line(page, tmp_path) -> None:
    import json

    from voltscreen.sources.known_hosts import known_hosts

    host = next(host for host in known_hosts() if host.name == "v2o5-alpha")
    cif = tmp_path / "v2o5.cif"
    host.structure().to(filename=str(cif))
    expected = {
        row["ion"]: row["voltage"]
        for row in json.loads(command_line("predict", cif, "--ion", "Mg", "--ion", "Zn", "--json"))
    }
    page.goto("/")
    page.set_input_files("#file", cif)
    for ion in expected:
        page.get_by_label(ion, exact=True).check()
    page.get_by_role("button", name="Predict").click()
    page.wait_for_selector("table.voltages")
    shown = {
        row.get_attribute("data-ion"): row.locator("td").first.inner_text()
        for row in page.locator("table.voltages tbody tr").all()
    }
    assert shown == {ion: f"{voltage:.2f}" for ion, voltage in expected.items()}
    # The structure is drawn, and another ion's local voltages come by a click.
    assert painted(page)
    before = page.locator("[data-viewer] canvas").first.evaluate("c => c.toDataURL()")
    page.locator(".viewer").get_by_role("button", name="Zn").click()
    assert page.locator("details.sites[data-ion=Zn]").get_attribute("open") is not None
    canvas = page.locator("[data-viewer] canvas").first
    assert canvas.evaluate("c => c.toDataURL()") != before
    turned = canvas.evaluate("c => c.toDataURL()")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    assert canvas.evaluate("c => c.toDataURL()") != turned


def painted(page) -> bool:
    """Whether the first 3-D view holds more than one colour."""
    return page.locator("[data-viewer] canvas").first.evaluate(
        """c => new Set(new Uint32Array(
            c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size > 50"""
    )


def test_a_wrong_file_is_refused_beside_the_form(browser, address, tmp_path) -> None:
    (tmp_path / "x.cif").write_text("<script>alert(1)</script>")
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto("/")
    page.set_input_files("#file", tmp_path / "x.cif")
    page.get_by_role("button", name="Predict").click()
    assert "not a readable structure" in page.get_by_role("alert").inner_text()
    context.close()


def test_browse_a_campaign_filter_it_and_open_a_dossier(page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Campaigns").click()
    page.get_by_role("link", name=NAME, exact=True).click()
    page.locator("main .tabs").get_by_role("link", name="Mg").click()
    rows = page.locator("table.ranked tbody tr")
    every = rows.count()
    assert every >= 5
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("With elements").fill("Mn O")
    page.keyboard.press("Enter")
    page.wait_for_url("**elements=Mn*")
    assert 0 < rows.count() < every
    assert all("MnO₂" in text for text in rows.locator("td.who").all_inner_texts())
    page.get_by_role("link", name="V", exact=True).click()
    voltages = [float(v) for v in rows.locator("td.strong").all_inner_texts()]
    assert voltages == sorted(voltages, reverse=True)
    # A point of the plot opens its dossier; by keyboard alone.
    page.locator("svg.plot a:not([tabindex='-1'])").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("table.voltages")
    assert "MnO₂" in page.locator("h1").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Dossier as one file").click()
    file = Path(download.value.path()).read_text()
    assert "http://" not in file
    assert "https://" not in file.replace("https://next-gen.materialsproject.org", "")


def test_the_progress_of_a_running_campaign_comes_by_itself(page, filled) -> None:
    running = {**filled.campaigns.find_one({"_id": NAME}), "_id": "in-work", "state": "running"}
    filled.campaigns.insert_one(running)
    batch = {**filled.batches.find_one({"campaign": NAME}), "_id": "in-work:1"}
    filled.batches.insert_one({**batch, "campaign": "in-work", "state": "running", "predicted": 0})
    try:
        page.goto("/campaigns/in-work")
        assert "0 predicted" in page.locator("#progress").inner_text()
        filled.batches.update_one({"_id": "in-work:1"}, {"$set": {"predicted": 4}})
        page.get_by_text("4 predicted").wait_for()
        filled.campaigns.update_one({"_id": "in-work"}, {"$set": {"state": "done"}})
        page.locator("#progress[data-state=done]").wait_for()
    finally:
        filled.campaigns.delete_one({"_id": "in-work"})
        filled.batches.delete_one({"_id": "in-work:1"})


def test_a_dossier_file_is_whole_without_server_or_network(browser, filled, tmp_path) -> None:
    from voltscreen.report.dossier import stored_dossier
    from voltscreen.report.pages import dossier_file

    path = tmp_path / "dossier.html"
    path.write_text(dossier_file(stored_dossier(filled, "mno2-lambda")))
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert painted(page)
    assert asked == [path.as_uri()]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_its_window_in_light_and_dark(browser, address, size, scheme) -> None:
    context = browser.new_context(base_url=address, viewport=SIZES[size], color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    folder = os.environ.get("VOLTSCREEN_SCREENSHOTS")
    for path in (
        "/", "/campaigns", f"/campaigns/{NAME}", f"/campaigns/{NAME}/Mg?min_voltage=0",
        f"/campaigns/{NAME}/Mg/periodic-table", f"/campaigns/{NAME}/Mg/substitutions",
        "/structures/mno2-lambda", "/models",
    ):  # fmt: skip
        answer = page.goto(path)
        assert answer.status == 200, path
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], path
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        # Whatever is named for those who do not see it has a name.
        unnamed = page.evaluate(
            """[...document.querySelectorAll('input:not([type=hidden]), select, button, a')]
               .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label')
                              || e.labels && e.labels.length)).length"""
        )
        assert unnamed == 0, path
        if folder:
            name = re.sub(r"\W+", "-", path).strip("-") or "start"
            page.screenshot(path=f"{folder}/{name}-{size}-{scheme}.png", full_page=True)
    context.close()


def test_no_request_breaks_the_server(address, filled) -> None:
    described = schemathesis.openapi.from_url(f"{address}/api/openapi.json")
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:

        @settings(
            max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def ask(case) -> None:
            # With a key, so that what lies behind it is asked, too.
            case.call_and_validate(headers={"X-API-Key": KEY}, checks=checks)

        ask()
    filled.campaigns.delete_many({"_id": {"$ne": NAME}})
