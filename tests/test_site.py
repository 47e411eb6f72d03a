"""The site: what is written names no folder of one machine; as it is built, in a browser (slow)."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from selenium import webdriver

import hierdiff

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
OF_ONE_MACHINE = re.compile(r"(?<![\w.~$])/(?:home|root|work|tmp|mnt|Users)/\S*|file://\S*|localhost\S*|127\.0\.0\.1\S*")
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def written():
    """Text that Git has, of the site and of the first page."""
    of_git = subprocess.run(["git", "ls-files", "docs", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in of_git.stdout.splitlines() if Path(name).suffix in (".md", ".ipynb", ".py", ".json")]


def test_nothing_written_names_a_folder_of_one_machine():
    assert {path.name: found for path in written() if (found := OF_ONE_MACHINE.findall(path.read_text()))} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_how_to_install_and_holds_no_outputs(path):
    first, *_ = cells = json.loads(path.read_text())["cells"]
    assert "install" in "".join(first["source"])
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_every_public_name_has_its_place_in_the_api():
    said = re.findall(r"^::: hierdiff\.(?:compare\.)?(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert set(hierdiff.__all__) <= set(said)


# What sticks out of the page, and lies in nothing that scrolls.
STICKS_OUT = """
const width = document.documentElement.clientWidth, page = document.querySelector("article");
const scrolls = e => e !== page && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
const out = [...page.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > width && !scrolls(e));
return [document.documentElement.scrollWidth - width, ...out.map(e => e.outerHTML.slice(0, 200))];
"""
NOT_SET = "return [...document.querySelectorAll('.arithmatex')].filter(e => !e.querySelector('.katex')).map(e => e.textContent)"
FROM_ELSEWHERE = "return performance.getEntriesByType('resource').map(e => e.name).filter(e => !e.startsWith('file:'))"


@pytest.fixture(scope="module", params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def browser(request):
    width, scheme = request.param
    options = webdriver.ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options)
    device = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    yield driver
    driver.quit()


@pytest.mark.slow
def test_pages_fit_the_screen_without_the_network(browser):
    pages = sorted(SITE.rglob("*.html"))
    assert pages, "docs/generated.py and mkdocs build come first, as in .ci/slow"
    bad = {}
    for page in pages:
        browser.get(page.as_uri())
        found = {
            "sticks out": browser.execute_script(STICKS_OUT),
            "not set": browser.execute_script(NOT_SET),
            "from elsewhere": browser.execute_script(FROM_ELSEWHERE),
            "console": [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"],
            "of one machine": OF_ONE_MACHINE.findall(browser.find_element("css selector", "body").text),
        }
        if found != {"sticks out": [0], "not set": [], "from elsewhere": [], "console": [], "of one machine": []}:
            bad[page.name] = found
    assert bad == {}
