from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2s
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import DOWN, ENTER, ESCAPE, LEFT, RIGHT, TAB, UP, Browser, cell, result, start_browser, stored, write_run
from PIL import Image
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from schedcmp.cli import app
from schedcmp.pictures.image import pixels_sha256
from schedcmp.pictures.video import encode_webp
from schedcmp.report import page as module
from schedcmp.report.answer import answer
from schedcmp.report.page import write_page
from schedcmp.report.page.data import page_data
from schedcmp.report.page.render import render
from schedcmp.report.page.thumbs import SIDE
from schedcmp.report.paste import FORMS, paste
from schedcmp.report.paste.subject import subject
from schedcmp.store.store import Store

SMALL = [
    result(cell(name, steps, seed), (0.5 if name == "euler" else 1) * steps * (1 + seed))
    for seed in (0, 1)
    for name in ("ddim", "euler", "heun")
    for steps in (4, 8)
]

pytestmark = pytest.mark.plots


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    browser = Browser(start_browser())
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """A browser that must have nothing to complain about in the end, and must not have asked for anything far."""
    started.driver.get_log("performance")
    started.theme("light")
    yield started
    assert started.complaints() == []
    assert {address.partition(":")[0] for address in requests(started)} <= {"file", "data", "about"}


def requests(browser: Browser) -> list[str]:
    events = (json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance"))
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def page(folder: Path, **options: Any) -> Path:
    with Store.open(folder) as store:
        return write_page(store, **options)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return page(write_run(tmp_path / "small", SMALL))


def test_the_page_loads_from_disk_with_its_images_and_asks_for_nothing_else(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.wait("return [...document.images].length === 6 && [...document.images].every(i => i.naturalWidth === 8)")
    asked = [address for address in requests(browser) if address.startswith("file:")]
    assert all(address.startswith(small.parent.as_uri()) for address in asked)
    assert len(asked) >= 7


def test_a_page_away_from_its_folder_says_where_it_belongs(started: Browser, small: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone/report.html"
    alone.parent.mkdir()
    alone.write_bytes(small.read_bytes())
    started.open(alone)
    started.wait("return document.querySelectorAll('.trouble').length === 6")
    assert "keep it in its run's folder" in started.texts(".trouble")[0]
    started.complaints()


def test_the_page_forbids_itself_the_network_and_foreign_scripts(started: Browser, small: Path) -> None:
    browser = started
    browser.open(small)
    browser.js(
        """window.refused = [];
        document.addEventListener("securitypolicyviolation", e => refused.push(e.effectiveDirective));
        const image = document.createElement("img"); image.src = "http://127.0.0.1:9/"; document.body.append(image);
        const script = document.createElement("script"); script.textContent = "window.ran = 1";
        document.body.append(script); fetch("http://127.0.0.1:9/").catch(() => 0);"""
    )
    browser.wait("return window.refused.length === 3")
    assert sorted(browser.js("return refused")) == ["connect-src", "img-src", "script-src-elem"]
    assert browser.js("return window.ran") is None
    assert len(browser.complaints()) >= 3  # the browser's own words about these three


HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\u2028]]> \"&amp;' {{ 7*7 }} שלום"
)


def test_text_that_is_html_or_script_stays_text(browser: Browser, tmp_path: Path) -> None:
    cells = [
        result(cell("ddim", 4, prompt=HOSTILE, negative_prompt=HOSTILE)),
        result(cell("euler", 4, prompt=HOSTILE, negative_prompt=HOSTILE), status="failed", error=HOSTILE),
    ]
    folder = write_run(tmp_path / "hostile", cells, warnings=[HOSTILE], environment={"device": HOSTILE})
    (folder / "answer.md").write_text(f"# Which?\n\n- {HOSTILE}\n", encoding="utf-8")
    browser.open(page(folder))
    assert browser.texts("#prompt") == [f"“{HOSTILE}”"]
    assert HOSTILE in browser.texts(".trouble span")
    for view in ("plots", "timings", "blind", "run"):
        browser.one(f"#tab-{view}").click()
    assert HOSTILE in browser.texts("#view-run .list li")
    browser.open(page(folder), "cell=ddim-4-0-prompt-2.0")
    assert browser.texts(".details .prompt") == [HOSTILE]
    assert browser.one(".details .prompt").get_attribute("dir") == "auto"
    assert browser.js("return window.hacked") is None
    assert browser.js("return document.scripts.length") == 2


def test_any_two_axes_become_rows_and_columns(browser: Browser, small: Path) -> None:
    browser.open(small)
    assert browser.texts(".row-head") == ["ddim", "euler", "heun"]
    assert browser.texts(".col-head") == ["4 steps", "8 steps"]
    browser.choose("rows", "seed")
    browser.choose("cols", "scheduler")
    assert browser.texts(".row-head") == ["seed 0", "seed 1"]
    assert browser.texts(".col-head") == ["ddim", "euler", "heun"]
    assert browser.table()[3, 3] == "euler-4-1-prompt-2.0"
    browser.choose("at.steps", "8")
    assert browser.table()[3, 3] == "euler-8-1-prompt-2.0"
    browser.choose("rows", "scheduler")  # the other one's: they change places
    assert browser.texts(".col-head") == ["seed 0", "seed 1"]
    browser.choose("rows", "")
    browser.choose("cols", "")
    browser.choose("at.steps", "*")
    assert len(browser.table()) == 12


def test_schedulers_by_sigma_schedules_are_named_without_them(browser: Browser, tmp_path: Path) -> None:
    cells = [
        result(cell(name if sigmas == "default" else f"{name}-{sigmas}", 4, base=name, sigma_schedule=sigmas))
        for name in ("euler", "heun")
        for sigmas in ("default", "karras")
    ]
    browser.open(page(write_run(tmp_path / "sigmas", cells)), "cols=sigma_schedule")
    assert browser.texts(".row-head") == ["euler", "heun"]
    assert browser.texts(".col-head") == ["default sigmas", "karras sigmas"]
    assert browser.table()[3, 3] == "heun-karras-4-0-prompt-2.0"
    browser.choose("cols", "steps")
    assert browser.texts(".row-head") == ["euler", "euler-karras", "heun", "heun-karras"]


def test_the_address_brings_everything_back(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.choose("cols", "seed")
    browser.choose("at.steps", "8")
    browser.choose("sort", "latency")
    browser.choose("tint", "nfe")
    browser.all(".tile")[1].click()
    browser.wait("return document.querySelector('#lightbox').open")
    address, table, title = browser.driver.current_url, browser.table(), browser.texts("#lightbox-title")
    browser.open(small)
    assert browser.table() != table
    browser.open(small, address.partition("#")[2])
    assert browser.table() == table
    assert browser.texts("#lightbox-title") == title
    assert browser.driver.current_url == address


def test_an_address_of_another_run_does_no_harm(browser: Browser, small: Path) -> None:
    browser.open(
        small, "view=none&rows=nothing&cols=__proto__&sort=x&cell=gone&with=gone&mode=y&at.steps=99&x=toString"
    )
    assert browser.texts(".row-head") == ["ddim", "euler", "heun"]
    assert not browser.all("dialog[open]")


def test_rows_are_sorted_by_their_median_and_what_has_none_comes_last(browser: Browser, tmp_path: Path) -> None:
    cells = [result(cell("untimed", 4)), result(cell("untimed", 8)), *SMALL]
    browser.open(page(write_run(tmp_path / "run", cells)), "sort=latency")
    assert browser.texts(".row-head") == ["euler", "ddim", "heun", "untimed"]
    browser.one("input[name=down]").click()
    assert browser.texts(".row-head") == ["ddim", "heun", "euler", "untimed"]
    browser.choose("sort", "name")
    assert browser.texts(".row-head") == ["untimed", "heun", "euler", "ddim"]


TROUBLED = [
    result(cell("ddim", 4)),
    result(cell("euler", 4), status="flagged", error="the image is flat"),
    result(cell("heun", 4), status="failed", error="ValueError: no such thing"),
    result(cell("lms", 4), status="unsupported", error="takes no custom sigmas"),
    result(cell("pndm", 4)),
]


def test_cells_that_are_not_right_are_marked_with_their_reason(browser: Browser, tmp_path: Path) -> None:
    path = page(write_run(tmp_path / "run", TROUBLED), inert={TROUBLED[4].cell.id: "same image as ddim at 4 steps"})
    browser.open(path, "tile=s")
    assert browser.texts(".trouble") == ["✕ failedValueError: no such thing", "unsupportedtakes no custom sigmas"]
    assert browser.texts(".mark") == ["⚠ flagged: the image is flat", "⚠ same image as ddim at 4 steps"]
    for status, found in (("failed", ["heun"]), ("flagged", ["euler"]), ("inert", ["pndm"])):
        browser.choose("status", status)
        assert browser.texts(".row-head") == found
    browser.one("#tab-run").click()
    assert "flat" in browser.texts("#view-run .list")[0]


def test_the_filter_takes_all_its_words(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.keys("/")
    browser.keys("e", "u", "l", " ", "8")
    assert list(browser.table().values()) == ["euler-8-0-prompt-2.0"]
    assert browser.one("#count").text or browser.texts("#count") == ["1 cell shown"]


def test_the_keyboard_reaches_everything(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.all(".place")[0].click()
    browser.wait("return document.querySelector('#lightbox').open")
    browser.keys(RIGHT, DOWN)
    assert browser.texts("#lightbox-title") == ["euler, 8 steps, seed 0"]
    browser.keys(DOWN, DOWN, DOWN, LEFT, UP)
    assert browser.texts("#lightbox-title") == ["euler, 4 steps, seed 0"]
    browser.keys(ESCAPE)
    browser.wait("return document.activeElement.firstChild?.dataset?.id === 'euler-4-0-prompt-2.0'")
    assert "cell=" not in browser.driver.current_url
    browser.keys(UP, RIGHT, ENTER)
    assert browser.texts("#lightbox-title") == ["ddim, 8 steps, seed 0"]
    browser.keys("?")
    assert browser.all("#keys[open]")
    browser.keys(ESCAPE)
    assert browser.all("#lightbox[open]")
    assert not browser.all("#keys[open]")


def test_an_open_image_keeps_the_focus(browser: Browser, small: Path) -> None:
    browser.open(small, "cell=ddim-4-0-prompt-2.0&mode=slider")
    visited = set()
    for _ in range(25):
        browser.keys(TAB)
        where = "const e = document.activeElement; return e === document.body ? 'out' : Boolean(e.closest('#lightbox'))"
        visited.add(browser.js(where))
        if browser.js("return document.activeElement === document.body"):
            break
    assert True in visited
    assert False not in visited


FLAT = {
    "ddim-4-0-prompt-2.0": Image.new("RGB", (8, 8), (200, 100, 50)),
    "ddim-8-0-prompt-2.0": Image.new("RGB", (8, 8), (190, 120, 50)),
}


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return page(write_run(tmp_path / "flat", [result(cell("ddim", 4)), result(cell("ddim", 8))], FLAT))


def seen(browser: Browser) -> np.ndarray:
    """The stack of two images as the screen has it, (height, width, 3)."""
    browser.wait("return [...document.querySelectorAll('.stack img')].every(i => i.complete && i.width > 100)")
    picture = Image.open(io.BytesIO(browser.one(".stack").screenshot_as_png))
    return np.asarray(picture.convert("RGB")).astype(int)


def test_the_slider_moves_by_key_and_by_pointer(browser: Browser, flat: Path) -> None:
    browser.open(flat, "cell=ddim-4-0-prompt-2.0&mode=slider")
    assert "ddim, 8 steps" in browser.texts(".tag")
    left_share = lambda: float((seen(browser)[100] == (200, 100, 50)).all(1).mean())  # noqa: E731
    assert left_share() == pytest.approx(0.5, abs=0.02)
    slider = browser.one("input[type=range]")
    slider.send_keys(*[RIGHT] * 20)
    assert left_share() == pytest.approx(0.6, abs=0.02)
    browser.js(
        """const box = document.querySelector('.stack').getBoundingClientRect();
        const event = new PointerEvent('pointerdown', {clientX: box.left + box.width / 4, pointerId: 1, bubbles: true});
        document.querySelector('.stage').setPointerCapture = () => 0;
        document.querySelector('.stage').dispatchEvent(event)"""
    )
    assert left_share() == pytest.approx(0.25, abs=0.02)


def test_the_difference_is_that_of_the_pixels_times_its_amplification(browser: Browser, flat: Path) -> None:
    browser.open(flat, "cell=ddim-4-0-prompt-2.0&mode=difference")
    assert np.abs(seen(browser)[200, 200] - 4 * np.array((10, 20, 0))).max() <= 2
    browser.one("input[type=range]").send_keys(*[LEFT] * 4)
    assert np.abs(seen(browser)[200, 200] - np.array((10, 20, 0))).max() <= 1
    assert browser.texts("output") == ["× 1"]


def test_blinking_shows_one_and_then_the_other(browser: Browser, flat: Path) -> None:
    browser.open(flat, "cell=ddim-4-0-prompt-2.0&mode=blink")
    browser.one(".controls button[aria-pressed=true]").click()
    found = []
    for _ in range(2):
        found.append(tuple(seen(browser)[200, 200]))
        browser.keys("x")
    assert sorted(found) == [(190, 120, 50), (200, 100, 50)]


def test_a_converged_image_is_the_first_thing_to_compare_with(browser: Browser, tmp_path: Path) -> None:
    task = ["a cat", "", 2.0, None, None, 0]
    reference = {"task": task, "image": "references/0.png", "uncertainty": 0.002, "note": "", "origin": ""}
    folder = write_run(tmp_path / "run", [result(cell("ddim", 4))], references=[reference])
    (folder / "references").mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / "references" / "0.png")
    browser.open(page(folder), "cell=ddim-4-0-prompt-2.0&mode=beside")
    assert browser.texts("figcaption") == ["ddim, 4 steps", "converged image"]
    browser.wait("return [...document.querySelectorAll('.stage img')].every(i => i.naturalWidth === 8)")


def vote_file(votes: list[tuple[str, str, str]], path: Path) -> Path:
    made = [{"left": a, "right": b, "choice": choice, "at": str(i)} for i, (a, b, choice) in enumerate(votes)]
    path.write_text(json.dumps({"schedcmp_votes": 1, "votes": made}), encoding="utf-8")
    return path


def test_blind_votes_hide_names_and_are_kept(browser: Browser, small: Path) -> None:
    (small.parent / "answer.md").write_text(
        "# Which?\n\n- The best is euler.\n\n| a | b |\n| --- | --- |\n| c | **d** |\n"
    )
    browser.open(page(small.parent), "view=images")
    assert "The best is euler." in browser.one("body").text
    browser.one("#tab-run").click()
    assert browser.texts("#view-run td") == ["d"]
    browser.one("#tab-blind").click()
    browser.choose("by", "8")
    assert not re.search("ddim|euler|heun", browser.one("body").text)
    browser.keys(LEFT, RIGHT, DOWN, "s", "u", LEFT)
    browser.open(small, "view=blind&by=8")
    assert browser.texts("summary")[-1] == "Ranking from 3 votes"
    votes = json.loads(
        browser.js("return localStorage.getItem(Object.keys(localStorage).find(k => k.includes('votes')))")
    )
    assert [vote["choice"] for vote in votes] == ["left", "right", "left"]
    assert all(vote["left"].split("-")[1:3] == vote["right"].split("-")[1:3] for vote in votes)
    assert all("-8-" in vote["left"] for vote in votes)
    assert len({frozenset((vote["left"], vote["right"])) for vote in votes}) == 3  # each pair before any a second time


def test_the_ranking_is_the_posterior_of_bradley_and_terry(browser: Browser, small: Path, tmp_path: Path) -> None:
    names = ["ddim", "euler", "heun"]
    score = {"left": 1.0, "right": 0.0, "tie": 0.5}
    contests = [
        (0, 1, "left"),
        (0, 1, "left"),
        (1, 0, "tie"),
        (1, 2, "right"),
        (2, 0, "right"),
        (2, 1, "left"),
        (0, 2, "tie"),
    ]
    votes = [
        (f"{names[a]}-8-{i % 2}-prompt-2.0", f"{names[b]}-8-{i % 2}-prompt-2.0", c)
        for i, (a, b, c) in enumerate(contests)
    ]
    browser.open(small, "view=blind&by=8")
    browser.one("#votes-file").send_keys(str(vote_file(votes, tmp_path / "votes.json")))
    browser.wait("return document.querySelector('#told').textContent === '7 votes added'")
    browser.one("#votes-file").send_keys(str(tmp_path / "votes.json"))
    browser.wait("return document.querySelector('#told').textContent === '0 votes added'")

    def loss(strength: np.ndarray) -> float:
        gaps = [(strength[a] - strength[b], score[c]) for a, b, c in contests]
        return float(-sum(s * log_expit(g) + (1 - s) * log_expit(-g) for g, s in gaps) + (strength**2).sum() / 8)

    found = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    p = [expit(found.x[a] - found.x[b]) for a, b, _ in contests]
    precision = np.eye(3) / 4
    for (a, b, _), share in zip(contests, p, strict=True):
        gap = np.eye(3)[a] - np.eye(3)[b]
        precision += share * (1 - share) * np.outer(gap, gap)
    against_mean = np.eye(3) - 1 / 3
    sd = np.sqrt(np.diag(against_mean @ np.linalg.inv(precision) @ against_mean.T))
    order = np.argsort(-found.x)
    percent = [[100 * expit(found.x[i] + z * sd[i]) for z in (0, -1.96, 1.96)] for i in order]
    rows = browser.texts(".ranking tbody tr")
    assert [row[: len(names[i])] for row, i in zip(rows, order, strict=True)] == [names[i] for i in order]
    cells = browser.js(
        "return [...document.querySelectorAll('.ranking tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    for shown, expected in zip(cells, percent, strict=True):
        numbers = [float(n) for n in re.findall(r"\d+", f"{shown[2]} {shown[3]}")]
        assert numbers == pytest.approx(expected, abs=0.51)
    browser.js("URL.createObjectURL = blob => { blob.text().then(text => window.saved = text); return '#'; }")
    browser.js("[...document.querySelectorAll('button')].find(b => b.textContent.startsWith('Export')).click()")
    browser.wait("return window.saved")
    saved = json.loads(browser.js("return window.saved"))
    assert len(saved["votes"]) == 7
    assert [(row["scheduler"], row["steps"]) for row in saved["ranking"]] == [(names[i], 8) for i in order]
    assert [row["strength"] for row in saved["ranking"]] == pytest.approx([found.x[i] for i in order], abs=1e-4)
    assert [row["strength_sd"] for row in saved["ranking"]] == pytest.approx([sd[i] for i in order], abs=1e-4)


def many(folder: Path, count: int, image: str = "images/one.png") -> Path:
    """A page of `count` cells that share an image, without their store."""
    seeds = count // 20
    cells = [result(cell(f"s{i}", steps, seed), 1.0) for seed in range(seeds) for i in range(10) for steps in (4, 8)]
    write_run(folder, [result(cell("one", 4))])
    Image.new("RGB", (64, 64), (90, 120, 90)).save(folder / "images" / "one.png")
    with Store.open(folder) as store:
        data = page_data(store, stored(cells, image), {}, {}, [], running=False)
        return store.write_text("report.html", render(data))


def test_ten_thousand_cells_are_drawn_a_view_at_a_time(browser: Browser, tmp_path: Path) -> None:
    path = many(tmp_path / "many", 10_000)
    nodes = "return document.querySelectorAll('*').length"
    browser.open(path, "rows=seed&cols=scheduler")
    assert 0 < len(browser.table()) < 100
    start = browser.js(nodes)
    assert start < 2_500
    for share in (0.3, 0.7, 1):
        browser.js(f"const g = document.getElementById('grid'); g.scrollTop = {share} * g.scrollHeight")
        browser.wait("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        assert browser.js(nodes) < start + 500
    assert "s0-4-499-prompt-2.0" in browser.table().values()
    browser.open(path, "rows=&cols=")
    assert browser.js(nodes) < 2_500
    assert browser.texts("#count") == ["10,000 cells shown"]
    longest = """let longest = 0, last = performance.now(), frames = 0; const grid = document.getElementById('grid');
        return new Promise(done => { const step = now => { longest = Math.max(longest, now - last); last = now;
        grid.scrollTop += 400; if (++frames < 40) requestAnimationFrame(step); else done(longest); };
        requestAnimationFrame(now => { last = now; step(now); }); })"""
    alone = browser.js(longest.replace("grid.scrollTop += 400;", ""))
    assert browser.js(longest) < alone + 400  # ms; a page that draws all cells needs seconds


def test_large_images_are_shown_by_thumbnails_made_once(browser: Browser, tmp_path: Path) -> None:
    first, second = cell("ddim", 4), cell("ddim", 8)
    images = {c.id: Image.effect_noise((2 * SIDE, SIDE), s).convert("RGB") for c, s in ((first, 40), (second, 80))}
    folder = write_run(tmp_path / "large", [result(c) for c in (first, second)], images)
    path = page(folder, running=True)
    thumbs = folder / "thumbs"
    made = {p: p.stat().st_mtime_ns for p in thumbs.iterdir() if not p.name.startswith(".")}
    assert len(made) == 2
    stale, mine = (thumbs / f"{name}{next(iter(made)).suffix}" for name in ("stale", "mine"))
    for empty in (stale, mine):
        empty.touch()
    listed = json.loads((thumbs / ".written.json").read_text())
    digest = blake2s(b"", digest_size=16).hexdigest()
    (thumbs / ".written.json").write_text(json.dumps(listed | {stale.name: [digest, ""]}))
    page(folder)
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert mine.exists()
    assert not stale.exists()
    browser.open(path)
    browser.wait(f"return [...document.images].every(i => i.naturalWidth === {SIDE})")
    browser.all(".tile")[0].click()
    browser.wait(f"return document.querySelector('.stage img').naturalWidth === {2 * SIDE}")
    next(iter(made)).unlink()  # the image itself serves where its thumbnail is gone
    browser.open(path)
    browser.wait("return [...document.images].length === 2 && [...document.images].every(i => i.naturalWidth)")
    assert [m for m in browser.complaints() if "ERR_FILE_NOT_FOUND" in m]


def test_a_page_of_a_run_that_goes_on_finds_new_cells_when_loaded_again(browser: Browser, tmp_path: Path) -> None:
    folder, planned = tmp_path / "run", [r.cell for r in SMALL]
    write_run(folder, SMALL[:3], planned=planned[3:])
    browser.open(page(folder, running=True))
    assert "9 of 12 cells to come" in browser.one("#live").text
    assert len(browser.table()) == 3
    write_run(folder, SMALL)
    page(folder)
    browser.driver.refresh()
    browser.wait("return document.querySelectorAll('.tile').length === 6")
    assert not browser.one("#live").is_displayed()


def test_a_live_page_is_written_when_due_and_the_less_often_the_longer_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [100.0], []

    def write(store: Store, *, running: bool) -> None:
        assert running
        written.append(clock[0])
        clock[0] += 1.0

    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "write_page", write)
    follower = module.LivePage(store=None)  # type: ignore[arg-type]
    for _ in range(1200):
        follower.update()
        clock[0] += 0.1
    assert len(written) == 3
    assert all(b - a >= 50 for a, b in pairwise(written))


def test_what_is_recommended_is_copied_as_other_programs_take_it(
    browser: Browser, tmp_path: Path, write_sweep: Callable[..., Path]
) -> None:
    out = tmp_path / "out"
    sweep = write_sweep(schedulers=["dpmpp-2m-karras"], steps=[3], seeds=0)
    assert command("run", str(sweep), "-o", str(out)) == 0
    with Store.open(out) as store:
        (stored_cell,) = store.cells()
        texts = {form: paste(subject(store, stored_cell), form) for form in FORMS}
    browser.open(out / "report.html", "view=run")
    browser.js("window.copied = []; navigator.clipboard.writeText = async (text) => window.copied.push(text)")
    for form in texts:
        browser.one(f"[data-paste={form}]").click()
        browser.wait(f"return window.copied.length === {list(texts).index(form) + 1}")
    assert browser.js("return window.copied") == list(texts.values())
    assert "copied: InvokeAI's settings" in browser.texts("[role=status]")


def test_the_command_of_a_cell_makes_its_image_again(
    browser: Browser, tmp_path: Path, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"name": "third", "base": "dpmpp-2m", "options": {"solver_order": [2, 3]}, "steps": [3]}
    sweep = write_sweep(
        prompt={"it's": "a \"b\" $HOME 'c'\u2028😀", "other": "b"}, schedulers=["heun", own],
        sigmas=["default", "karras"], steps=[2, 3], seeds=[5, 6], negative_prompt="a #b: c",
        exclude=[{"scheduler": "heun", "steps": 2}],
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert command("run", str(sweep), "-o", "out") == 0
    with Store.open(tmp_path / "out") as store:
        cells = {c.cell.id: c for c in store.cells()}
        path = write_page(store)
        programs = {id_: paste(subject(store, stored), "diffusers") for id_, stored in cells.items()}
    wanted = [c for c in cells.values() if c.cell.seed == 5 and c.cell.prompt_name == "it's"]
    assert {c.cell.scheduler for c in wanted} == {
        "heun", "heun-karras", "third solver_order=2", "third solver_order=2-karras",
        "third solver_order=3", "third solver_order=3-karras",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path / "out")
    for one in wanted[::2]:  # each in a run of its own
        browser.open(path, f"cell={one.cell.id}")
        browser.js("window.copied = []; navigator.clipboard.writeText = async (text) => window.copied.push(text)")
        browser.one("[data-key=python]").click()
        browser.wait("return window.copied.length === 1")
        assert browser.js("return window.copied") == [programs[one.cell.id]]
        program, *arguments = shlex.split(browser.texts("#command")[0])
        assert program == "schedcmp"
        assert command(*arguments) == 0
        with Store.open(Path(f"remade-{one.cell.id}")) as store:
            assert {c.cell.id: c.result.image_sha256 for c in store.cells()} == {one.cell.id: one.result.image_sha256}


def test_the_command_of_a_cell_takes_its_images_alone(
    browser: Browser, tmp_path: Path, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, colour in {"a": "red", "b": "blue", "over": "white", "half": "gray"}.items():
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    images = {"image": ["a.png", "b.png"], "mask": ["over.png", "half.png"]}
    sweep = write_sweep(schedulers=["ddim"], steps=[2], seeds=[0], strength=1, **images)
    monkeypatch.chdir(tmp_path)
    assert command("run", str(sweep), "-o", "out") == 0
    with Store.open(tmp_path / "out") as store:
        cells = [c.cell for c in store.cells()]
    browser.open(tmp_path / "out/report.html", f"cell={cells[1].id}")
    _, *arguments = shlex.split(browser.texts("#command")[0])
    monkeypatch.chdir(tmp_path / "out")
    assert command(*arguments) == 0
    with Store.open(Path(f"remade-{cells[1].id}")) as store:
        assert [c.cell.id for c in store.cells()] == [cells[1].id]


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app([*arguments])
    return int(ended.value.code or 0)


CONTRAST = """
const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
    .getContext('2d', {willReadFrequently: true});
const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
return [...document.querySelectorAll('body *')].filter(e => own(e) && e.checkVisibility() && !e.disabled
    && !e.closest('.visually-hidden, .tag, svg, option, script, style')).map(e => {
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className + ': ' + e.textContent.slice(0, 40)]; });
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(browser: Browser, tmp_path: Path, theme: str) -> None:
    path = page(write_run(tmp_path / "run", [*TROUBLED, *SMALL[6:]], warnings=["careful"]), running=True)
    browser.theme(theme)
    for state in ("tint=nfe", "view=plots", "view=timings", "view=blind", "view=run", "cell=heun-4-0-prompt-2.0"):
        browser.open(path, state)
        found = browser.js(CONTRAST)
        assert len(found) > 10
        assert [text for ratio, text in found if ratio < 4.5] == []


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Browser, small: Path) -> None:
    for state in ("", "view=plots", "view=timings", "view=blind", "view=run", "cell=ddim-4-0-prompt-2.0&mode=beside"):
        browser.open(small, state, size=(360, 740))
        assert browser.js("return document.documentElement.scrollWidth") <= 360
    assert browser.js("return document.querySelector('.stage').clientWidth") > 320
    assert browser.one('[data-key="close"]').is_displayed()
    browser.one('[data-key="close"]').click()
    assert not browser.all("dialog[open]")
    browser.open(small, "view=plots", size=(360, 740))
    right = "return Math.max(...[...document.querySelectorAll('.scatter *')].map(e => e.getBoundingClientRect().right))"
    assert browser.js(right) <= 360


def test_a_point_of_the_scatter_opens_its_image(browser: Browser, small: Path) -> None:
    browser.open(small, "view=plots&x=latency&y=nfe")
    assert len(browser.all(".point")) == 6
    browser.js("document.querySelector('.point').focus()")
    assert browser.one("#hover strong").text == "ddim"
    browser.keys(ENTER)
    assert browser.texts("#lightbox-title") == ["ddim, 4 steps, seed 0"]


def test_the_scatter_shows_the_answers_numbers_and_front(browser: Browser, tmp_path: Path) -> None:
    errors = {("euler", 4): 0.3, ("ddim", 4): 0.4, ("euler", 8): 0.1, ("ddim", 8): 0.2}
    at = [(*key, seed) for key in errors for seed in range(6)]
    folder = write_run(tmp_path / "run", [result(cell(*a)) for a in at])
    with Store.create(folder) as store:
        store.measure({cell(*a).id: {"reference_rmse": errors[a[:2]] * (1 + a[2] / 10)} for a in at})
        (found,) = answer(list(store.cells()))
        write_page(store)
    browser.open(folder / "report.html", "view=plots")
    labels = browser.js(
        "return [...document.querySelectorAll('.point')].map(p => [p.ariaLabel, !!p.querySelector('.ring')])"
    )
    qualities = {(p.scheduler, p.steps): p.quality for p in found.measured}
    assert len(labels) == len(qualities) == 4
    for label, ring in labels:
        scheduler, steps, numbers = (
            label.split(", ", 1)[0],
            int(re.findall(r"(\d+) step", label)[0]),
            label.split("NFE, ")[1],
        )
        quality = qualities[scheduler, steps]
        read = [float(n) for n in re.findall(r"[\d.]+", numbers)]
        assert read == pytest.approx([quality.value, quality.low, quality.high], rel=0.005)
        assert ring == ((scheduler, steps) in {(p.scheduler, p.steps) for p in found.front})
    assert len(browser.all(".ends")) == 4
    browser.open(folder / "report.html", "view=plots&x=reference_rmse&y=nfe")
    names = (
        "return [...document.querySelectorAll('.point')].filter(p => p.querySelector('.ring')).map(p => p.ariaLabel)"
    )
    assert sorted(name.partition(":")[0] for name in browser.js(names)) == ["euler, 4 steps", "euler, 8 steps"]


def test_a_run_without_images_or_numbers_still_has_a_page(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(write_run(tmp_path / "empty", [], planned=[SMALL[0].cell])))
    for view in ("plots", "timings", "blind", "run", "images"):
        browser.one(f"#tab-{view}").click()
    infinite = replace(SMALL[0], scheduler_config={"s_tmax": float("inf"), "nan": float("nan")})
    browser.open(page(write_run(tmp_path / "infinite", [infinite])), f"cell={infinite.cell.id}")
    assert "inf" in browser.one(".details").get_attribute("textContent")


def test_a_video_plays_where_it_is_opened_and_not_for_who_wants_no_motion(browser: Browser, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    of = result(cell("ddim", 4), frames=3, fps=8.0, width=16, height=16, image_sha256=pixels_sha256(*frames))
    folder = write_run(tmp_path, [])
    with Store.create(folder) as store:
        store.begin([of.cell], {})
        store.add(of, "key", "machine", "images/ddim/steps-004/seed-0000.webp", encode_webp(frames, {}, "", 8))
    with Store.open(folder) as store:
        page = write_page(store)
    shown = "const e = document.querySelector('#lightbox img.full'); return e?.naturalWidth && e.src"
    browser.open(page, f"cell={of.cell.id}")
    browser.wait(shown)
    assert browser.js(shown).endswith("seed-0000.webp")
    assert "3 frames at 8 a second" in browser.one("#lightbox").text
    assert "/thumbs/" in browser.one(".tile img").get_attribute("src")
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.open(page, f"cell={of.cell.id}")
    browser.wait(shown)
    assert "/thumbs/" in browser.js(shown)
