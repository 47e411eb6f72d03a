"""The report in a real browser, Debian's Chromium, which `.ci/slow` installs: it works, and it looks as it should."""

import base64
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from runs import ask
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from hierdiff.pictures import report
from hierdiff.questions import QUESTIONS
from hierdiff.runs import record

pytestmark = pytest.mark.slow
# Widths and heights of the window, in CSS pixels.
DESKTOP, PHONE = (1280, 900), (390, 844)
# Elements that reach beyond the window, but for those in a box of their own that can be scrolled; in shadow trees too.
OVERFLOWING = """
const found = []
function scrolls(element) {
  for (let e = element.parentElement ?? element.getRootNode().host; e; e = e.parentElement ?? e.getRootNode().host)
    if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return true
  return false
}
function walk(root) {
  for (const e of root.querySelectorAll("*")) {
    const box = e.getBoundingClientRect()
    if (box.width && box.height && (box.right > innerWidth + 0.5 || box.left < -0.5) && !scrolls(e))
      found.push(`${e.tagName}.${e.className} ${box.left} ${box.right}`)
    if (e.shadowRoot) walk(e.shadowRoot)
  }
}
walk(document)
return [found, document.documentElement.scrollWidth]
"""
# The element of the model with a name, and where it is a slider, its handle.
ELEMENT = """
const views = [...Bokeh.index.roots].flatMap((root) => [...root.children()])
const it = views.find((view) => view.model.name === arguments[0]).el
return it.shadowRoot.querySelector(".noUi-handle") ?? it
"""
SQUARES = """
const at = Bokeh.documents[0].get_model_by_name("onset moment").value
const squares = Bokeh.documents[0].get_model_by_name("onset squares").data
return [at, [...squares.x], [...squares.y], [...squares.value]]
"""


@pytest.fixture(scope="module")
def folder(smoke_run, tmp_path_factory):
    """A run that was asked a question, whose report has two views."""
    folder = shutil.copytree(smoke_run[0], tmp_path_factory.mktemp("runs") / "run")
    ask("losses", ["--run", str(folder), "--targets", "100"])
    report.write(folder, QUESTIONS)
    return folder


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def opened(browser, folder, size=DESKTOP, scheme="light"):
    """The report, from its file, without a network; what the console says is empty."""
    width, height = size
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    nothing = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", nothing)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get((folder / report.NAME).as_uri())
    until(lambda: browser.execute_script("return Bokeh.documents.length == 1 && Bokeh.documents[0].is_idle"))
    return browser


def until(good):
    end = time.monotonic() + 20
    while not good():
        assert time.monotonic() < end
        time.sleep(0.1)


def picture(element):
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("L"), float)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_overflows_and_the_console_is_silent(browser, folder, size, scheme):
    opened(browser, folder, size, scheme)
    overflowing, width = browser.execute_script(OVERFLOWING)
    assert overflowing == []
    assert width <= size[0]
    said = [each for each in browser.get_log("browser") if each["level"] != "INFO"]
    assert said == []
    look = "return [...document.images].map((x) => [x.complete, x.naturalWidth, x.alt.length])"
    images = browser.execute_script(look)
    assert len(images) == 4
    assert all(complete and width > 0 and words > 100 for complete, width, words in images)


def test_nothing_is_asked_of_the_network(browser, folder):
    opened(browser, folder)
    names = browser.execute_script("return performance.getEntriesByType('resource').map((x) => x.name)")
    assert [name for name in names if not name.startswith("data:")] == []


def test_the_slider_moves_the_map(browser, folder):
    """A key at its handle takes the map to the checkpoint before, whose numbers are those of the record."""
    opened(browser, folder)
    curves = record.read_results(folder / "curves.nc").data_dependent.transpose("step", "noise", "height")
    chart, handle = (browser.execute_script(ELEMENT, f"onset {name}") for name in ("chart", "moment"))
    (before, _, _, first), drawn = browser.execute_script(SQUARES), picture(chart)
    np.testing.assert_allclose(first, curves[before].values.ravel(), rtol=1e-3)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    for _ in range(3):
        handle.send_keys(Keys.ARROW_LEFT)
    until(lambda: browser.execute_script(SQUARES)[0] == before - 3)
    at, x, y, values = browser.execute_script(SQUARES)
    np.testing.assert_allclose(values, curves[at].values.ravel(), rtol=1e-3)
    assert (x[0], y[:2], x[-1]) == ("0.1", ["prior", "0"], "0.3")
    until(lambda: np.abs(picture(chart) - drawn).max() > 10)


def test_a_quantity_is_chosen(browser, folder):
    """One without heights has a curve for each noise level, and no map."""
    opened(browser, folder)
    browser.execute_script("Bokeh.documents[0].get_model_by_name('onset quantity').value = 'split'")
    visible = "return ['chart', 'log', 'linear'].map((x) => Bokeh.documents[0].get_model_by_name(`onset ${x}`).visible)"
    until(lambda: browser.execute_script(visible) == [False, True, False])
    curves = record.read_results(folder / "curves.nc").split
    lines = browser.execute_script(
        "return Bokeh.documents[0].get_model_by_name('onset lines').data.ys.map((y) => [...y])"
    )
    np.testing.assert_allclose(lines[:3], curves.transpose("noise", "step"), rtol=1e-3)


def test_every_quantity_is_drawn_without_an_error_on_the_console(browser, folder):
    opened(browser, folder)
    named = "Bokeh.documents[0].get_model_by_name(arguments[0])"
    for part in ("onset", "losses"):
        names = browser.execute_script(f"return {named}.options.map((x) => x[0])", f"{part} quantity")
        assert len(names) > 5
        # There and back: curves become more and fewer.
        for name in names + names[::-2]:
            browser.execute_script(f"{named}.value = arguments[1]", f"{part} quantity", name)
            until(lambda: browser.execute_script("return Bokeh.documents[0].is_idle"))
            for slider in ("place", "moment"):
                browser.execute_script(f"{named}.value = 1 - {named}.value % 2", f"{part} {slider}")
    time.sleep(1)
    # That a hidden logarithmic axis has nothing to show is a warning.
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []


def test_a_dark_page_is_dark_and_its_words_can_be_read(browser, folder):
    shades = {}
    for scheme in ("light", "dark"):
        opened(browser, folder, scheme=scheme)
        words = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        back, ink = (luminance(each) for each in browser.execute_script(words))
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) > 7
        shades[scheme] = back
    assert shades["dark"] < 0.05 < 0.8 < shades["light"]


def luminance(colour):
    """Relative luminance, as WCAG has it."""
    parts = np.array(json.loads(colour.replace("rgb(", "[").replace(")", "]"))) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_a_finger_on_a_plot_moves_the_page(browser, folder):
    opened(browser, folder, PHONE)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    browser.execute_script("document.querySelector('.view').scrollIntoView({block: 'start'})")
    before = browser.execute_script("return scrollY")
    touch = "Input.dispatchTouchEvent"
    browser.execute_cdp_cmd(touch, {"type": "touchStart", "touchPoints": [{"x": 200, "y": 500}]})
    for y in range(490, 200, -15):
        browser.execute_cdp_cmd(touch, {"type": "touchMove", "touchPoints": [{"x": 200, "y": y}]})
    browser.execute_cdp_cmd(touch, {"type": "touchEnd", "touchPoints": []})
    until(lambda: browser.execute_script("return scrollY") > before + 100)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_it_can_be_printed(browser, folder):
    """On pages of paper, white, without what moves."""
    opened(browser, folder, scheme="dark")
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page/") <= 20
