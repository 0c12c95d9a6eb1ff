"""The report page in a headless Chromium: quiet, alone, as wide as the screen, legible, and open to keys and readers.

The browser is spoken to over its debugging pipe, so nothing but Chromium itself is needed.
"""

import fcntl
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from reports.cli import main
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Profile, Record, Verdict, write_record

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")

OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"
# Text of each element that has any, against the nearest ground that is painted; WCAG 2.2, success criterion 1.4.3.
FAINT = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const shine = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(rgb[i] / 255), 0);
  const ground = node => {
    for (let each = node; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.body.querySelectorAll('*')) {
    const has = [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim());
    if (!has || !node.checkVisibility() || ['STYLE', 'TITLE'].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const ink = parse(node.closest('svg') ? style.fill : style.color);
    const [low, high] = [shine(ink), shine(ground(node))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faint.push(`${node.tagName} ${node.textContent.trim().slice(0, 30)} ${contrast.toFixed(2)}`);
  }
  return faint;
})()
"""


class Browser:
    """A headless Chromium."""

    def __init__(self, program: str, folder: Path) -> None:
        ours_in, theirs_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in os.pipe())
        theirs_in, ours_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in os.pipe())
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ]

        def take_pipes() -> None:  # nothing but two system calls runs between fork and exec
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [program, *options, "about:blank"],
            preexec_fn=take_pipes,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._read = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        message = {"id": next(self._numbers), "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, page: Path, *, width: int, scheme: str) -> None:
        self._session, self.events = None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        while not self.told("Page.loadEventFired"):
            self.events.append(self._receive())

    def run(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def told(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser has gone"
            self._read += chunk
        message, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(message))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on the path; with one (apt-get install chromium) `make test-slow` looks at the page")
    running = Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything that one can hold, from runs with hostile names."""
    folder = tmp_path_factory.mktemp("report")
    tree = folder / "data" / "coco"
    tree.mkdir(parents=True)
    (tree / "miniworld.json").write_text("{}", encoding="utf-8")
    Image.new("RGB", (64, 48), "teal").save(tree / "a.png")
    box = {"id": f"1 {EVIL}", "picture": "a.png", "text": EVIL, "truth": [1, 2, 30, 40], "prediction": [5, 6, 60, 44]}
    for number, record in enumerate(
        [_record("paper"), _record("mini"), _record("mini", started_at=_day(2)), _ablation()]
    ):
        run = folder / "runs" / str(number)
        write_record(record.model_copy(update={"run_id": f"{number} {EVIL}"}), run)
        (run / "predictions.jsonl").write_text(json.dumps({**box, "iou": 0.4}) + "\n", encoding="utf-8")
        steps = ({"step": step, "loss": 9.0 / step, "lr": 1e-4} for step in range(1, 50))
        (run / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")
    target = folder / "report.html"
    args = ["html", "--records", str(folder / "runs"), "--data-root", str(folder / "data"), "-o", str(target)]
    assert main(args) == 0
    return target


def _day(day: int) -> str:
    return f"2024-01-{day:02}T12:00:00+00:00"


def _record(profile: Profile, **changes: Any) -> Record:
    data = DataInfo(
        name=f"RefCOCO {EVIL}", version="miniworld", root_name="coco", digest="d", n=8, n_expected=9, ids_sha256="e5"
    )
    beside = Comparison(
        target_id="L1", metric="accuracy", published=92.58, printed="92.58", source="table 9", profile=profile,
        gap=-0.58 if profile == "paper" else None, reason=f"so it is {EVIL}",
        verdict=Verdict.OFF if profile == "paper" else Verdict.NOT_COMPARABLE,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "run_id": "r",
        "task": "refcoco",
        "dataset": "RefCOCO",
        "split": "val",
        "profile": profile,
    }
    fields |= {"model_size": profile, "setting": "fine-tuned", "protocol": "p/fine-tuned", "protocol_sha256": "ab" * 32}
    fields |= {"metrics": (MetricValue(name="accuracy", value=92.0, n=8, ci_low=91.2, ci_high=92.9),), "data": data}
    fields |= {"checkpoint": CheckpointInfo(name="w" * 80, sha256="c0" * 32, loaded=1), "commit": "0123456"}
    fields |= {"config": {"a": {"b": "c" * 200}}, "dtype": "float32", "device": "cpu", "seed": 0, "is_dirty": True}
    fields |= {"versions": {"torch": "2.11.0"}, "duration_s": 1.0, "command": "python " + "x" * 300}
    fields |= {"started_at": _day(1), "comparisons": (beside,), "artifacts": {"predictions": "predictions.jsonl"}}
    fields |= {"per_class": {f"class {number}": float(number) for number in range(30)}}
    return Record(**{**fields, **changes})


def _ablation() -> Record:
    name = "share_nothing_recall_at_1_image_to_text"
    metrics = (MetricValue(name=name, value=1.5, ci_low=0.5, ci_high=2.5, ci_method="Student's t over seeds, 95 %"),)
    beside = _record("mini").comparisons[0]
    beside = beside.model_copy(update={"metric": name, "target_id": f"sharing/nothing {EVIL}"})
    return _record("mini", task="pretrain_ablation_sharing", metrics=metrics, comparisons=(beside,))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_is_quiet_alone_and_as_wide_as_the_screen(
    browser: Browser, page: Path, width: int, scheme: str
) -> None:
    browser.open(page, width=width, scheme=scheme)
    for unfold in ("0", OPEN_ALL):
        browser.run(unfold)
        assert browser.run("innerWidth") == width
        assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    said = [browser.told(name) for name in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")]
    assert said == [[], [], []]
    assert browser.told("Page.javascriptDialogOpening") == []
    asked = {each["request"]["url"].partition(",")[0] for each in browser.told("Network.requestWillBeSent")}
    assert asked == {page.as_uri(), "data:image/webp;base64"}
    shown = browser.run(
        "[...document.querySelectorAll('svg image')].every(one => one.getBoundingClientRect().width > 40)"
    )
    assert shown


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_stands_out_from_its_ground(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.open(page, width=width, scheme=scheme)
    browser.run(OPEN_ALL)
    assert browser.run(FAINT) == []


def test_keys_lead_to_the_results_and_open_them(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280, scheme="light")
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().top >= 0")
    browser.press("Enter", 13)
    assert browser.run("location.hash") == "#content"
    for _ in range(40):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.parentElement.className") == "run":
            break
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13)
    assert browser.run("document.activeElement.parentElement.open")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_screen_reader_meets_tables_headings_and_named_drawings(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width, scheme="light")
    browser.run(OPEN_ALL)
    nodes = [node for node in browser.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    names = {role: [name for other, name in roles if other == role] for role, _ in roles}
    assert {"banner", "navigation", "main", "contentinfo"} <= set(names)
    assert "Results of the paper profile beside the published numbers" in names["table"]
    assert "Results of the mini profile beside the numbers accepted last" in names["table"]
    assert {"columnheader", "rowheader", "cell"} <= set(names)
    assert all(names["heading"])
    drawings = [name for role in ("image", "img", "graphics-document") for name in names.get(role, [])]
    assert any(name.startswith("92.00, interval 91.20 to 92.90, published 92.58") for name in drawings)
    assert all(drawings)
