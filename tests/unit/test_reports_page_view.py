"""The page as HTML: its numbers are the JSON's, nothing from records becomes markup, mini stays apart."""

import base64
import hashlib
import itertools
import json
import math
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest

from reports.page.build import build_page
from reports.page.data import Box, Page, Picture, Said, Sample, Samples, Score, Swatch
from reports.page.plots import SHARES
from reports.page.sources import Sources, TaskFacts
from reports.page.view import TEMPLATES, locate, render_html
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict
from reports.target import Target

VOID = {"meta", "link", "br", "image", "line", "path", "circle", "rect", "polyline"}
EVIL = '<script>alert("x")</script>"\'><img src=x onerror=alert(1)>'
PIXEL = "data:image/png;base64,iVBORw0KGgo="
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: tuple[str, ...]
    text: str = ""
    children: list["Element"] = field(default_factory=list)


class Reader(HTMLParser):
    """Reads a page into a flat list of elements, and the texts between tags with the tags around them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        self._open: list[Element] = []
        self.feed(html)
        assert not self._open, f"never closed: {[one.tag for one in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs}, tuple(one.tag for one in self._open))
        self.elements.append(element)
        for one in self._open:
            one.children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for one in self._open:
            one.text += data
        self.texts.append((data, tuple(one.tag for one in self._open)))

    def find(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {key.strip("_"): value for key, value in attributes.items()}
        return [one for one in self.elements if one.tag == tag and wanted.items() <= one.attributes.items()]


def _record(**changes: Any) -> Record:
    data = DataInfo(name="ADE20K", version="miniworld", root_name="ade", digest="d", n=8, n_expected=9, ids_sha256="e5")
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "mini"}
    fields |= {
        "model_size": "mini",
        "setting": "fine-tuned",
        "protocol": "slide-96-64/ss",
        "protocol_sha256": "ab" * 32,
    }
    fields |= {"metrics": (_metric(),), "data": data, "config": {"lr": 0.001}, "dtype": "float32", "device": "cpu"}
    fields |= {"checkpoint": CheckpointInfo(name="w.safetensors", sha256="c0" * 32, loaded=367), "seed": 3}
    fields |= {"commit": "0123456789", "is_dirty": False, "versions": {"torch": "2.11.0"}, "command": "python run"}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "timings": {"train_s": 2.25}}
    fields |= {"per_class": {"sky": 91.64, "bed": None, "tree": 82.07}, "peak_memory_gib": 1.061}
    return Record(**{**fields, **changes})


def _metric(name: str = "miou", value: float = 66.1278814, **changes: Any) -> MetricValue:
    fields: dict[str, Any] = {"n": 8, "ci_low": 63.927, "ci_high": 67.896, "ci_method": "bootstrap"}
    return MetricValue(name=name, value=value, **{**fields, **changes})


def _comparison(metric: str, gap: float | None, verdict: Verdict, **changes: Any) -> Comparison:
    fields: dict[str, Any] = {"target_id": f"T-{metric}", "metric": metric, "published": 62.0, "printed": "62.0"}
    fields |= {"source": "table 3", "gap": gap, "verdict": verdict, "reason": "so it is", "profile": "paper"}
    return Comparison(**{**fields, **changes})


def _paper(**changes: Any) -> Record:
    metrics = (
        _metric("miou", 61.9712, ci_low=61.01, ci_high=62.9),
        _metric("aacc", 55.5, ci_low=None, ci_high=None),
        _metric("macc", math.nan, ci_low=None, ci_high=None),
        _metric("loss", 0.6561, unit="nats", ci_low=0.65, ci_high=0.66, n=None),
        _metric("odd", 12.0),
    )
    comparisons = (
        _comparison("miou", -0.0288, Verdict.MATCH),
        _comparison("aacc", -31.68, Verdict.OFF, published=87.18, printed="87.18"),
        _comparison("macc", None, Verdict.OFF),
        _comparison("odd", None, Verdict.NOT_COMPARABLE, reason="7 samples against 2000"),
    )
    fields = {"run_id": "p1", "profile": "paper", "model_size": "4b", "metrics": metrics, "comparisons": comparisons}
    return _record(**{**fields, **changes})


def _mini(**changes: Any) -> Record:
    beside = _comparison("miou", None, Verdict.NOT_COMPARABLE, published=62.98, printed="62.98", profile="mini")
    return _record(**{"comparisons": (beside,), **changes})


def _sample(**changes: Any) -> Sample:
    box = Box(role="prediction", left=10.0, top=20.0, right=5.0, bottom=40.0)
    picture = Picture(
        role="picture", caption="seen", alt="a bird", source=PIXEL, width_px=64, height_px=48, boxes=(box,)
    )
    fields: dict[str, Any] = {"id": "s1", "is_right": False, "said": (Said(name="truth", text="a bird"),)}
    fields |= {"scores": (Score(name="IoU", value=0.123456),), "pictures": (picture,), "note": "Not shown: x: gone."}
    return Sample(**{**fields, **changes})


def _page(*records: Record, sample: Sample | None = None, **sources: Any) -> Page:
    page = build_page(records or (_paper(), _mini()), Sources(**sources))
    shown = Samples(
        rule="by IoU", num_rows=77, worst=(sample or _sample(),), legend=(Swatch(colour="#88ccee", name="sky"),)
    )
    return page.model_copy(update={"runs": tuple(run.model_copy(update={"samples": shown}) for run in page.runs)})


def _resolve(page: Page, at: str) -> Any:
    value: Any = json.loads(page.to_json())
    for part in at.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _is_rounding(text: str, value: float) -> bool:
    """Tell whether a text has the digits of a value, rounded to as many as it shows."""
    shown = text.replace("\N{MINUS SIGN}", "-")
    mantissa, _, exponent = shown.partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(float(shown) - value) <= 0.5 * 10.0**-decimals * (1 + 1e-9) + 1e-12


def test_every_number_of_the_page_is_one_of_the_json() -> None:
    page = _page()
    numbers = Reader(render_html(page)).find("data")
    assert len(numbers) > 60
    for number in numbers:
        value = _resolve(page, number.attributes["data-at"])
        assert float(number.attributes["value"]) == value, number
        assert _is_rounding(number.text, value) or number.text == f"{value:.4g}".replace("e-0", "e-"), number


def test_there_is_no_digit_beside_those_of_the_json_and_of_the_templates() -> None:
    page = _page()
    reader = Reader(render_html(page))
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', page.to_json())
    fixed = [re.sub(r"{{.*?}}|{%.*?%}|<[^>]*>", " ", path.read_text("utf-8")) for path in TEMPLATES.glob("*.j2")]
    allowed = {number for text in (*strings, *fixed) for number in NUMBER.findall(text)}
    cut = {string[:length] for string in strings for length in (7, 8, 10, 12, 16)}
    allowed |= {number for text in cut for number in NUMBER.findall(text)}
    for text, around in reader.texts:
        if not {"data", "style", "text", "title"} & set(around):
            assert set(NUMBER.findall(text)) <= allowed, text


def test_plots_stand_where_their_numbers_are() -> None:
    page = _page()
    reader = Reader(render_html(page))
    plots = [one for one in reader.find("svg", class_="forest") if one.children[-1].tag == "circle"]
    assert len(plots) == 4  # one beside the paper, one of mini, two histories
    for plot in plots:
        places = [value for one in plot.children for name, value in one.attributes.items() if "data-" in name]
        told = set(NUMBER.findall(plot.attributes["aria-label"]))
        assert told <= {f"{abs(_resolve(page, place)):.2f}" for place in places}
    table = reader.find("section", id="mini")[0].children
    (dot,) = [one for one in table if one.tag == "circle" and "data-at" in one.attributes]
    (bar,) = [one for one in table if "data-from" in one.attributes]
    assert float(dot.attributes["cx"]) == SHARES.place(66.1278814)
    assert float(bar.attributes["x1"]) == SHARES.place(63.927)
    assert float(bar.attributes["x2"]) == SHARES.place(67.896)


def test_a_mini_result_is_never_shown_as_if_it_were_the_papers() -> None:
    html = render_html(_page())
    paper, mini = html.partition('<section id="mini"')[0], html.partition('<section id="mini"')[2]
    table = mini.partition("</section>")[0]
    assert "66.13" not in paper
    assert "66.13" in table
    assert "62.98" not in paper
    assert "62.98" not in table  # no published number beside a mini one
    assert "says nothing of the paper" in mini or "say nothing of the paper" in " ".join(table.split())
    details = Reader(html).find("details", id="ade20k-mini-mini-fine-tuned-val-ss")
    assert "not comparable" in details[0].text
    assert "mini" in details[0].children[0].text


def test_a_page_of_mini_results_alone_says_that_nothing_stands_beside_the_paper() -> None:
    text = " ".join(Reader(render_html(_page(_mini()))).find("section", id="paper")[0].text.split())
    assert "nothing stands beside the paper yet" in text


def test_a_gap_that_does_not_exist_is_not_drawn() -> None:
    reader = Reader(render_html(_page(_paper())))
    rows = [one for one in reader.find("section", id="paper")[0].children if one.tag == "tr"]
    drawn = {row.text.split()[0]: {child.tag for child in row.children} & {"circle", "path"} for row in rows}
    assert drawn["miou"] == {"circle", "path"}
    assert drawn["aacc"] == {"path"}  # far off: an arrow and the published number
    assert drawn["macc"] == set()  # NaN
    assert drawn["odd"] == set()  # not comparable
    assert "NaN" in next(row.text for row in rows if row.text.split()[0] == "macc")


@pytest.mark.parametrize(
    "place", ["run_id", "task", "device", "command", "sample", "class", "title", "reason", "config"]
)
def test_nothing_from_a_record_becomes_markup(place: str) -> None:
    records, sources, sample = [_paper(), _mini()], Sources(), _sample()
    if place in ("run_id", "task", "device", "command"):
        records[1] = _mini(**{place: EVIL})
    elif place == "sample":
        sample = _sample(id=EVIL, said=(Said(name=EVIL, text=EVIL),), note=EVIL)
    elif place == "class":
        records[1] = _mini(per_class={EVIL: 1.5})
    elif place == "title":
        sources = Sources(tasks={"ade20k": TaskFacts(EVIL, (EVIL,))})
    elif place == "reason":
        records[0] = _paper(
            comparisons=(_comparison("miou", None, Verdict.OFF, reason=EVIL, source=EVIL, printed=EVIL),)
        )
    else:
        records[1] = _mini(config={EVIL: EVIL})
    html = render_html(_page(*records, sample=sample, tasks=sources.tasks))
    reader = Reader(html)
    assert not reader.find("script")
    assert not reader.find("img")
    assert not [one for one in reader.elements if any(name.startswith("on") for name in one.attributes)]
    assert "alert(" in html  # as text


def test_the_page_asks_nothing_of_the_outside_and_runs_nothing() -> None:
    reader = Reader(render_html(_page()))
    for one in reader.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            assert one.attributes.get(name, "#")[:1] == "#" or one.attributes[name].startswith("data:"), one
        assert "style" not in one.attributes
    policy = [one for one in reader.find("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy"]
    style = reader.find("style")[0].text
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy[0].attributes["content"] == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    assert "url(" not in style
    assert "@import" not in style


def test_readers_of_the_screen_find_their_way() -> None:
    reader = Reader(render_html(_page()))
    assert reader.elements[0].attributes["lang"] == "en"
    assert [one.text for one in reader.find("title") if "svg" not in one.parents] == ["ONE-PEACE, reproduced: results"]
    levels = [int(one.tag[1]) for one in reader.elements if re.fullmatch(r"h[1-6]", one.tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {one.tag for one in reader.elements}
    ids = [one.attributes["id"] for one in reader.elements if "id" in one.attributes]
    assert len(set(ids)) == len(ids)
    for link in reader.find("a"):
        assert link.attributes["href"][1:] in ids
        assert link.text.strip()
    named = {one.attributes["aria-labelledby"] for one in reader.elements if "aria-labelledby" in one.attributes}
    assert named <= set(ids)
    for table in reader.find("table"):
        assert [child for child in table.children if child.tag == "caption"]
    assert all(one.attributes.get("scope") for one in reader.find("th"))
    for drawing in reader.find("svg"):
        assert drawing.attributes.get("aria-hidden") == "true" or drawing.attributes["aria-label"]


def test_boxes_are_drawn_in_the_pictures_own_pixels_whichever_corner_comes_first() -> None:
    boxes = [one.attributes for one in Reader(render_html(_page())).find("rect") if "class" in one.attributes]
    assert {(box["x"], box["y"], box["width"], box["height"]) for box in boxes} == {("5.0", "20.0", "5.0", "20.0")}
    assert any("dashed" in box["class"] for box in boxes)


def test_pictures_that_were_left_out_are_told() -> None:
    picture = _sample().pictures[0].model_copy(update={"source": None})
    text = " ".join(Reader(render_html(_page(sample=_sample(pictures=(picture,))))).find("main")[0].text.split())
    assert "a bird: left out to keep the page small." in text


def test_published_numbers_without_a_run_are_listed() -> None:
    target = Target(
        id="V9", task="ade20k", dataset="ADE20K", dataset_version="2016", split="val", metric="miou", unit="%",
        direction="higher", value=62.98, printed="62.98", num_samples=2000, setting="fine-tuned", protocol="p/ms",
        resolution_px=896, scales=(1.0,), flip=True, duration_s=None, precision=None, train_data="ADE20K",
        source="table 3", confidence="high",
    )  # fmt: skip
    html = render_html(_page(targets=(target,)))
    listed = Reader(html).find("section", id="paper")[0].text
    assert "62.98" in listed
    assert [tally.count for tally in _page(targets=(target,)).tallies if tally.state == "no run"] == [1]


def test_the_same_records_give_the_same_bytes() -> None:
    records = [_paper(), _mini(), _mini(run_id="r0", started_at="2024-01-30T12:00:00+00:00")]
    assert render_html(build_page(records, Sources())) == render_html(build_page(records[::-1], Sources()))


def test_numbers_know_their_place() -> None:
    located = locate({"runs": [{"n": 3, "is_right": True, "name": "x", "none": None}]})
    assert (located.runs[0].n.value, located.runs[0].n.at) == (3, "/runs/0/n")
    assert (located.runs[0].is_right, located.runs[0].name, located.runs[0].none) == (True, "x", None)
