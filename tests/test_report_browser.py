"""The report in a real browser: headless Chromium, from files, without a network.

Needs Chromium, its driver and axe-core (`npm ci --prefix tests/browser`), and skips without them; where
PCTHEORY_NEEDS_BROWSER is set, as in .ci/run, it fails instead.
"""

import base64
import io
import os
import shutil
from pathlib import Path

import pytest
from pypdf import PdfReader
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from pctheory.figures import collect_figures, run_figures
from pctheory.ledger import signed

from .reports import ROOT, built, every_status, known_claims, made_ledger, planted_fault
from .toy_figures import checkout as figure_checkout

AXE = Path(__file__).parent / "browser" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"""
KINDS = [
    "index.html",
    "claims.html",
    "graph.html",
    "derivations.html",
    "derivations/activity-hessian.html",
    "figures.html",
    "figures/saddles-escape.html",
    "run.html",
    "audit.html",
]
FAULT = planted_fault("half", tests=["tests/test_energy.py::test_feedforward_and_loss"], reasons=["", "1 != 2"])


def _missing() -> str:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    named = {"chromium": chromium, "chromedriver": driver, f"axe-core ({AXE.relative_to(ROOT)})": AXE.is_file()}
    return ", ".join(name for name, there in named.items() if not there)


@pytest.fixture(scope="module", autouse=True)
def needed():
    """Skip, or fail where a browser must be there."""
    if missing := _missing():
        message = f"no {missing}; .ci/run says how to install it"
        if os.environ.get("PCTHEORY_NEEDS_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="module")
def site(needed, tmp_path_factory) -> Path:
    """The site of this checkout with every status, one figure drawn and an audit."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "figures").mkdir()
    figure_checkout(folder, name="escape", key="saddles/escape", quick="P((1, 2))")
    run_figures(collect_figures(folder).values(), "quick", folder / "out")
    ledger = made_ledger(ROOT, every_status()) | {"audit": {"seconds": 60.0, "faults": [FAULT]}}
    return built(ROOT, signed(ledger), folder / "out", folder / "site", all_theorems=True)


@pytest.fixture(scope="module")
def browser(needed, tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def look(browser, *, width: int = 1200, dark: bool = False) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def visit(browser, file: Path, fragment: str = "") -> None:
    browser.get("about:blank")  # so that a new fragment is a new page
    browser.get(file.as_uri() + fragment)


def shown(browser) -> list[str]:
    return [
        e.get_attribute("id") for e in browser.find_elements(By.CSS_SELECTOR, "[data-item]") if e.is_displayed()
    ]


def axe(browser, *rules: str) -> list[str]:
    """What axe-core has against the page by these rules, or by all, one line each."""
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script(
        "axe.run(document, arguments[0]).then(arguments[1], error => arguments[1]({error: `${error}`}))",
        {"runOnly": list(rules)} if rules else {},
    )
    assert "error" not in found, found
    return [f"{v['id']}: {node['html'][:120]}" for v in found["violations"] for node in v["nodes"]]


def pages_of_every_kind(site: Path) -> list[str]:
    """One page of each kind; of claims one of each status, and one that was not checked."""
    checked = every_status()
    keys = [*checked, next(key for key in known_claims() if key not in checked)]
    return [*KINDS, *(f"claims/{known_claims()[key].slug}.html" for key in keys)]


def test_every_page_loads_without_errors_and_fits_a_phone(browser, site):
    look(browser, width=375)
    browser.get_log("browser")
    files = sorted(site.rglob("*.html"))
    assert len(files) > 100
    wide = {}
    for file in files:
        browser.get(file.as_uri())
        width = browser.execute_script(
            "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
        )
        wide |= {str(file.relative_to(site)): width} if width > 375 else {}
    assert wide == {}
    assert browser.get_log("browser") == []


def test_errors_missing_files_and_wide_pages_would_be_seen(browser, site, tmp_path):
    """The same looks at a page that has all three faults."""
    look(browser, width=375)
    text = (site / "index.html").read_text().replace("assets/script.js", "assets/none.js")
    (site / "wrong.html").write_text(text.replace("</main>", "<p style='width: 376px'>wide</p></main>"))
    visit(browser, site / "wrong.html")
    (site / "wrong.html").unlink()
    assert browser.execute_script("return document.documentElement.scrollWidth") > 375
    assert any("none.js" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_barrier(browser, site, dark):
    """In the dark only the colours are others."""
    found, rules = {}, ["color-contrast"] if dark else []
    for name in pages_of_every_kind(site):
        look(browser, width=375 if name.startswith(("claims/", "derivations/")) else 1200, dark=dark)
        visit(browser, site / name)
        background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ("253" in background) != dark, background
        found |= {name: problems} if (problems := axe(browser, *rules)) else {}
    assert found == {}


def test_axe_would_find_a_barrier(browser, site):
    look(browser)
    visit(browser, site / "claims.html")
    browser.execute_script(
        "document.querySelector('form label').replaceWith(document.querySelector('select'));"
        "document.querySelector('h1').style.color = '#ccc'"
    )
    assert {line.partition(":")[0] for line in axe(browser)} >= {"select-name", "color-contrast"}


def test_filters_narrow_the_list_and_write_their_address(browser, site):
    look(browser)
    visit(browser, site / "claims.html")
    claims, checked = known_claims(), every_status()
    assert len(shown(browser)) == len(claims)
    select = {name: Select(browser.find_element(By.NAME, name)) for name in ("paper", "status", "attribution")}
    for status in ("proved", "failed"):
        select["status"].select_by_value(status)
        assert shown(browser) == [claims[key].slug for key in claims if checked.get(key) == status]
    select["status"].select_by_value("")
    select["paper"].select_by_value("own")
    own = [claim.slug for claim in claims.values() if claim.paper == "own"]
    assert shown(browser) == own
    headings = [h.text for h in browser.find_elements(By.TAG_NAME, "h2") if h.is_displayed()]
    assert headings == ["own"]
    assert f"{len(own)} of {len(claims)} shown" in browser.find_element(By.TAG_NAME, "output").text
    select["attribution"].select_by_value("stated")
    assert shown(browser) == [c.slug for c in claims.values() if c.paper == "own" and c.attribution == "stated"]
    assert browser.current_url.endswith("#paper=own&attribution=stated")
    browser.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert len(shown(browser)) == len(claims)


def test_a_link_to_a_filtered_list_and_to_a_claim(browser, site):
    look(browser)
    claims = known_claims()
    visit(browser, site / "claims.html", "#paper=saddles-2024&attribution=stated")
    wanted = [c.slug for c in claims.values() if c.paper == "saddles-2024" and c.attribution == "stated"]
    assert shown(browser) == wanted
    visit(browser, site / "claims.html", "#paper=einstein-1905")
    assert len(shown(browser)) == len(claims), "an unknown paper filters nothing"
    visit(browser, site / "claims.html", "#words=strict%20saddle")
    assert shown(browser) == [
        c.slug for c in claims.values() if all(w in f"{c.key} {c.statement}".lower() for w in ("strict", "saddle"))
    ]
    last = list(claims.values())[-1]
    visit(browser, site / "claims.html", f"#{last.slug}")
    top = browser.find_element(By.ID, last.slug).rect["y"] - browser.execute_script("return scrollY")
    assert 0 <= top < 800
    visit(browser, site / "figures.html", "#paper=trust-region-2023")
    assert shown(browser)
    assert all(name.startswith("trust-region-") for name in shown(browser))


def test_nodes_of_the_graph_lead_to_their_claims(browser, site):
    look(browser)
    claims = known_claims()
    for key in [*every_status(), "own/bottleneck"]:
        visit(browser, site / "graph.html")
        node = browser.find_element(By.CSS_SELECTOR, f'svg a[aria-label^="{key},"]')
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", node)
        node.find_element(By.TAG_NAME, "rect").click()
        assert browser.current_url.endswith(f"/claims/{claims[key].slug}.html")
        assert browser.find_element(By.TAG_NAME, "h1").text == claims[key].name


def test_keyboard_alone(browser, site):
    look(browser)
    visit(browser, site / "claims.html")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "To the content"
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "content"
    browser.find_element(By.NAME, "words").send_keys("bottleneck")
    assert "own-bottleneck" in shown(browser)
    link = browser.find_element(By.CSS_SELECTOR, "#own-bottleneck h3 a")
    link.send_keys(Keys.ENTER)
    assert browser.find_element(By.TAG_NAME, "h1").text == "bottleneck"
    look(browser, width=375)
    visit(browser, site / "claims" / "own-bottleneck.html")
    unreachable = """return [...document.querySelectorAll("*")].filter(box => box.scrollWidth > box.clientWidth + 1
        && getComputedStyle(box).overflowX === "auto" && box.tabIndex < 0).map(box => box.outerHTML.slice(0, 99))"""
    assert browser.execute_script(unreachable) == []


def test_without_scripts_everything_is_there(browser, site):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit(browser, site / "claims.html")
        assert len(shown(browser)) == len(known_claims())
        assert not browser.find_element(By.CSS_SELECTOR, "form.filter").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_print_opens_what_is_folded(browser, site):
    look(browser)
    visit(browser, site / "figures" / "saddles-escape.html")
    closed = "return document.querySelectorAll('details:not([open])').length"
    assert browser.execute_script(closed) == 2
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert browser.execute_script(closed) == 0
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(printed)).pages)
    assert "numpy" in text
    assert "Derivations" not in text, "the navigation is not printed"
