"""The report says what the records say, to the letter, in one file that needs no other; and what is said on the way."""

import html.parser
import re
import shutil
import sys

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from runs import OPTIONS, ask

from hierdiff.pictures import report, view
from hierdiff.pictures.alt import in_words
from hierdiff.questions import QUESTIONS
from hierdiff.runs import record, saying
from hierdiff.statistics.words import aligned

VOID = {"meta", "img", "br", "hr", "link", "input", "base", "col", "source", "wbr"}
# What a page, or a style in it, loads by these.
LOADING = ("src", "href", "srcset", "data", "action", "poster", "style")


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the text outside scripts and styles; no bad nesting."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.styles = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), tag
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)
        elif self.open[-1] == "style":
            self.styles.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "".join(self.texts)


def read(folder):
    return Page((folder / report.NAME).read_text(encoding="utf-8"))


def needs_nothing_else(page):
    for tag, attributes in page.elements:
        for name in LOADING:
            address = attributes.get(name) or ""
            assert tag == "a" or "//" not in address.partition(",")[0], (tag, name, address[:80])
    assert not [style for style in page.styles if "url(" in style or "@import" in style]
    assert not page.of("link")


@pytest.fixture(autouse=True)
def aloud():
    yield
    saying.be_quiet(False)


@pytest.fixture(scope="module")
def asked(smoke_run, tmp_path_factory):
    """A run that was asked a question, in a folder with a name of signs; the report of both."""
    folder = tmp_path_factory.mktemp("runs") / "<b>a & b</b> $x_1$ \"'{{ name }}"
    shutil.copytree(smoke_run[0], folder)
    (folder / report.NAME).unlink()
    made = record.read_json(folder / "config.json")
    record.write_json(folder / "config.json", made | {"command": "python <i>&amp; '$a$' \"{{ x }}\""})
    ask("losses", ["--run", str(folder), "--targets", "100"])
    assert report.write(folder, QUESTIONS) == [folder / report.NAME]
    return folder


def test_a_run_leaves_a_report_that_says_what_it_found(smoke_run):
    folder, printed = smoke_run
    assert str(folder / report.NAME) in printed
    page, summary = read(folder), record.read_json(folder / "summary.json")
    assert (folder / report.NAME).stat().st_size < 5_000_000
    needs_nothing_else(page)
    assert page.of("html") == [{"lang": "en"}]
    assert summary["verdict"] in page.text
    assert "\n".join(summary["table"]) in page.text
    assert record.read_json(folder / "config.json")["command"] in page.text
    for option in ("--depth", "--average-width", "--onset-noise"):
        assert option in page.text


def test_each_cell_of_the_table_is_a_cell_of_the_page(smoke_run):
    summary = record.read_json(smoke_run[0] / "summary.json")
    page = (smoke_run[0] / report.NAME).read_text(encoding="utf-8")
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    found = [re.sub("&[^;]*;", lambda sign: html.unescape(sign[0]), "  ".join(row)) for row in rows]
    lines = ["  ".join(line.split("  ")) for line in summary["table"]]
    tabular = [re.sub(" {2,}", "  ", line.strip()) for line in lines if "  " in line.strip()]
    assert len(tabular) > 10
    assert [line for line in tabular if line not in found] == []


def test_figures_are_there_with_what_they_show_in_words(smoke_run):
    summary, images = record.read_json(smoke_run[0] / "summary.json"), read(smoke_run[0]).of("img")
    assert len(images) == 3
    for image in images:
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert len(re.findall(r"\d", image["alt"])) > 20
    curves = record.read_results(smoke_run[0] / "curves.nc").excess
    assert f"excess, held-out, all t from {float(curves[0]):.3g} at {int(curves.step[0])}" in images[0]["alt"]
    assert summary["onset_noise"] == 0.15
    assert "t/T = 0.15" in images[0]["alt"]


def test_names_and_commands_are_text_and_no_markup(asked):
    page = read(asked)
    needs_nothing_else(page)
    assert asked.name in page.text
    assert "python <i>&amp; '$a$' \"{{ x }}\"" in page.text
    assert not page.of("b")
    assert not page.of("i")


def test_a_question_to_the_run_is_a_part_of_its_report(asked):
    page, summary = read(asked), record.read_json(asked / "summary.json")
    assert [each["id"] for each in page.of("section")] == ["onset", "losses", "made"]
    for words in (summary["losses"]["sentence"], summary["agreement"], "\n".join(summary["losses"]["table"])):
        assert words in page.text
    assert QUESTIONS["losses"].asks in page.text
    assert len(page.of("img")) == 4
    assert "losses" in next(each["aria-label"] for each in page.of("figure") if "losses" in each.get("aria-label", ""))


def test_a_part_is_drawn_where_its_records_are_there_alone(asked):
    """Not for other sizes of the training set, of which this run knows nothing."""
    titles = [figure.__name__ for figure in report.figures_of("onset", asked, QUESTIONS)]
    assert titles == ["training", "spectrum"]
    assert [figure.__name__ for figure in report.figures_of("uturn", asked, QUESTIONS)] == []


def test_a_figure_that_cannot_be_drawn_is_said_and_the_others_are_there(smoke_run, monkeypatch, tmp_path):
    shutil.copytree(smoke_run[0], tmp_path / "run")

    def fail(*_):
        raise ValueError("no <ink>")

    monkeypatch.setattr("hierdiff.pictures.onset.divergences", fail)
    report.write(tmp_path / "run", QUESTIONS)
    page = read(tmp_path / "run")
    assert len(page.of("img")) == 2
    assert "This figure cannot be drawn: no <ink>" in page.text


def test_too_many_figures_and_numbers_are_left_out(smoke_run, monkeypatch, tmp_path):
    folder = shutil.copytree(smoke_run[0], tmp_path / "run")
    monkeypatch.setattr(report, "FIGURES", 1000)
    report.write(folder, QUESTIONS)
    assert read(folder).of("img") == []
    assert "too large" in read(folder).text
    steps = np.arange(1, 3001)
    x = xr.DataArray(np.ones((3000, 6, 10)), {"step": steps, "noise": np.arange(6.0), "height": np.arange(10)})
    kept, quantities = view.numbers(xr.Dataset({"x": x, "x_half": x}), 200_000)
    assert kept[-1] == 3000
    assert 100 < len(kept) < 300
    assert len(quantities["x"]["mean"]) == len(kept) * 60


def test_a_view_holds_the_numbers_of_the_record():
    """In the order step, the slider's dimension, curves; what is not estimated is null."""
    rng = np.random.default_rng(0)
    x = xr.DataArray(rng.uniform(1, 2, (3, 2, 4)), dims=("height", "step", "noise"))
    x = x.assign_coords(height=[-1, 0, 1], step=[10, 20], noise=[0.1, 0.15, 0.2, 0.3])
    flat = x.isel(height=0, noise=0, drop=True)
    curves = xr.Dataset({"x": x, "x_half": x.where(x > 1.5), "flat": flat, "flat_half": flat, "y": flat})
    steps, quantities = view.numbers(curves, 10**6)
    assert steps == [10, 20]
    assert set(quantities) == {"x", "flat"}
    found = quantities["x"]
    assert (found["over"], found["at"]) == (["prior", "0", "1"], ["0.1", "0.15", "0.2", "0.3"])
    assert found["curves"] == ["prior", "height 0", "height 1"]
    expected = x.transpose("step", "noise", "height").values.ravel()
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-3)
    assert [value is None for value in found["half"]] == (expected <= 1.5).tolist()
    assert (quantities["flat"]["over"], quantities["flat"]["at"]) == ([""], [""])


def test_older_tables_whose_columns_one_space_parts_are_shown_as_they_are():
    lines = ["  height     learned   step (95%) before best", "       4   0.05   167 (73 to 228)         1.00"]
    assert list(report.blocks(["a caption", "", *lines])) == [
        report.Block(text=["a caption"]),
        report.Block(laid_out="\n".join(lines)),
    ]


def test_tables_facts_and_text_are_told_apart():
    rows = [
        {"step": "1", "a > b": "0.1 > 0.2", "of it": "-"},
        {"step": "1,000", "a > b": "2 > 3", "of it": "1 (0 to 2)"},
    ]
    lines = ["what it is: words", *aligned(rows), "after it", "", "one: 1", "two: 2: 3"]
    assert list(report.blocks(lines)) == [
        report.Block(caption="what it is: words", rows=[list(rows[0]), *(list(row.values()) for row in rows)]),
        report.Block(text=["after it"]),
        report.Block(facts=[("one", "1"), ("two", "2: 3")]),
    ]


def test_a_figure_in_words():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1, 10, 100], [3.0, 1.0, 2.0], label="loss")
    left.axvline(10)
    left.annotate("best", (10, 0))
    left.set(title="a title", xlabel="step")
    right.imshow([[1.0, 2.0], [np.nan, 4.0]])
    right.set_xticks([0, 1], ["0.1", "0.2"])
    right.set_yticks([0, 1], ["0", "1"])
    right.set(title="a map", xlabel="noise")
    assert in_words(figure) == (
        "Panel 1 of 2: a title over step: loss from 3 at 1 to 2 at 100, smallest 1 at 10; marked: best 10. "
        "Panel 2 of 2: a map over noise: smallest 1 at height 0 and t/T 0.1, largest 4 at height 1 and t/T 0.2."
    )


def test_a_report_that_cannot_be_written_is_one_sentence(write_report, monkeypatch, tmp_path, capsys):
    def fail(*_):
        raise ImportError("no module\nnamed bokeh")

    monkeypatch.setattr(report, "write", fail)
    ask("onset", [*OPTIONS, "--out", str(tmp_path / "run")])
    out, errors = capsys.readouterr()
    assert record.read_json(tmp_path / "run" / "summary.json")["verdict"] in out
    assert "the report cannot be written: no module named bokeh; the results are whole" in errors.splitlines()


@pytest.mark.slow
def test_a_report_is_written_unless_it_is_not_asked_for(write_report, monkeypatch, tmp_path, capsys):
    written = []
    monkeypatch.setattr(report, "write", lambda folder, registry: written.append(folder) or [])
    folder = str(tmp_path / "run")
    ask("onset", [*OPTIONS, "--out", folder, "--report", "off"])
    ask("losses", ["--run", folder, "--targets", "50", "--report", "off"])
    ask("onset", [*OPTIONS, "--out", folder, "--plan", "--resume", "never"])
    assert written == []
    ask("onset", [*OPTIONS, "--out", folder])
    ask("losses", ["--run", folder, "--targets", "50"])
    assert [str(each) for each in written] == [folder, folder]


def test_quietly_the_table_alone_is_printed(tmp_path, capsys):
    ask("onset", [*OPTIONS, "--out", str(tmp_path / "run"), "--quiet"])
    out, errors = capsys.readouterr()
    summary = record.read_json(tmp_path / "run" / "summary.json")
    assert out.strip().splitlines() == [*summary["table"], "", summary["verdict"]]
    assert errors == ""


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    now = [1000.0]
    monkeypatch.setattr(saying.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    return now


def test_a_log_has_a_line_a_minute_and_the_first_one_soon(clock, capsys):
    """What was there before says nothing of the pace: 10 steps a second, from step 500 on."""
    with saying.progress(10_000, "step") as show:
        for done in (100, 500):
            show(done, excess="2.0")
        for done in range(510, 10_001, 10):
            clock[0] += 1
            show(done, **({"excess": f"{done / 1000:.3f}", "split": "0.1"} if done % 100 == 0 else {}))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 510 of 10,000, excess 2.0; about 16 min left"
    assert lines[1] == "step 1,110 of 10,000, excess 1.100, split 0.1; about 15 min left"
    assert lines[-1] == "step 10,000 of 10,000, excess 10.000, split 0.1; about 0 s left"
    assert len(lines) == 17


def test_the_pace_does_not_count_what_is_compiled_before_something_is_found(clock, capsys):
    with saying.progress(1000, "step") as show:
        show(1)
        clock[0] += 100
        show(10, excess="2.0")
        clock[0] += 2
        show(20)
    assert capsys.readouterr().err == "step 20 of 1,000, excess 2.0; about 3 min left\n"


def test_short_work_has_one_line_and_none_when_it_was_done_before(clock, capsys):
    with saying.progress(3, "snapshot") as show:
        for done in range(4):
            show(done)
            clock[0] += 0.6
    assert capsys.readouterr().err == "snapshot 3 of 3; about 0 s left\n"
    with saying.progress(3, "snapshot") as show:
        show(3)
    assert capsys.readouterr().err == ""


def test_in_a_terminal_progress_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with saying.progress(10, "step") as show:
        show(10, excess="0.5")
    assert "10/10" in capsys.readouterr().err


def test_a_command_in_a_log_says_how_far_it_is(smoke_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(saying, "FIRST", 0.0)
    ask("onset", [*OPTIONS, "--out", str(tmp_path / "run")])
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"step 60 of 60, excess \d+\.\d+, split \d+\.\d+; about 0 s left", last)
