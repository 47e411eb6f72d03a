"""The site: what is written names no folder of one machine; as it is built, in a browser (slow)."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from selenium import webdriver

import hierdiff

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.~$])/(?:home|root|work|tmp|mnt|Users)/\S*|file://\S*|localhost\S*|127\.0\.0\.1\S*"
)
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def written():
    """Text that Git has, of the site and of the first page."""
    of_git = subprocess.run(["git", "ls-files", "docs", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        ROOT / name for name in of_git.stdout.splitlines() if Path(name).suffix in (".md", ".ipynb", ".py", ".json")
    ]


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


# What is wrong with a page. An element sticks out that lies in nothing which scrolls or clips it.
WRONG = {
    "sticks out": """
        const width = document.documentElement.clientWidth, page = document.querySelector("article");
        const held = e => e !== page && (getComputedStyle(e).overflowX !== "visible" || held(e.parentElement));
        const out = [...page.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > width && !held(e));
        return out.map(e => e.outerHTML.slice(0, 200)).concat(
            document.documentElement.scrollWidth > width ? ["the page"] : []);""",
    "is not typeset": """
        const formulas = [...document.querySelectorAll(".arithmatex")];
        return formulas.filter(e => !e.querySelector(".katex")).map(e => e.textContent);""",
    "comes from elsewhere": """
        const loaded = performance.getEntriesByType("resource").map(e => e.name);
        return loaded.filter(name => !name.startsWith("file:"));""",
}


@pytest.fixture(scope="module", params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def browser(request):
    width, scheme = request.param
    options = webdriver.ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    device = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    yield driver
    driver.quit()


@pytest.mark.slow
def test_pages_fit_the_screen_without_the_network(browser):
    pages = sorted({*SITE.rglob("*.html")} - {SITE / "404.html"})
    assert pages, "docs/generated.py and mkdocs build come first, as in .ci/slow"
    bad = []
    for page in pages:
        browser.get(page.as_uri())
        found = {what: browser.execute_script(script) for what, script in WRONG.items()}
        found["console"] = [line["message"] for line in browser.get_log("browser")]
        found["names a folder"] = OF_ONE_MACHINE.findall(browser.find_element("css selector", "body").text)
        bad += [f"{page.name}: {what}: {each}" for what, several in found.items() for each in several]
    assert "\n".join(bad) == ""
