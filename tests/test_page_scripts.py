"""The page's modules by themselves, in the browser that opens the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pages import Browser, start_browser

from schedcmp.report.numbers import seconds
from schedcmp.report.page.render import ASSETS, script

SCRIPTS = sorted(path.stem for path in ASSETS.glob("*.js"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    started = Browser(start_browser())
    started.driver.get("about:blank")
    yield started
    started.driver.quit()


def called(browser: Browser, module: str, call: str, *arguments: Any) -> Any:
    """What an expression with a module's functions gives; `arguments` are its numbers and texts."""
    return browser.js(f"{script(module)}; const given = arguments; return {call};", *arguments)


def test_every_module_is_part_of_the_page_and_no_name_is_there_twice() -> None:
    page = script()
    for name in SCRIPTS:
        first_line = (ASSETS / f"{name}.js").read_text(encoding="utf-8").partition("\n")[0]
        assert page.count(first_line) == 1, name
    assert not re.search(r"^(import|export) ", page, re.MULTILINE)
    declared = re.findall(r"^(?:async )?(?:function|const|let|class) ([\w$]+)", page, re.MULTILINE)
    assert len(set(declared)) == len(declared)


def test_modules_import_what_others_export() -> None:
    exported = {
        name: set(re.findall(r"^export (?:async )?(?:function|const|let) ([\w$]+)", source, re.MULTILINE))
        for name in SCRIPTS
        for source in [(ASSETS / f"{name}.js").read_text(encoding="utf-8")]
    }
    imported: dict[str, set[str]] = {name: set() for name in SCRIPTS}
    for name in SCRIPTS:
        source = (ASSETS / f"{name}.js").read_text(encoding="utf-8")
        for names, other in re.findall(r"^import \{([^}]*)\} from \"\./(\w+)\.js\";$", source, re.MULTILINE):
            imported[other] |= {word.strip() for word in names.split(",") if word.strip()}
    assert imported == exported


def test_durations_are_written_as_in_the_tables(browser: Browser) -> None:
    rng = np.random.default_rng(0)
    values = [*(10 ** rng.uniform(-6, 4, 500)).tolist(), 0.9996, 999.7, 999.4, 1.0, 1e-3, 0.00099996]
    assert called(browser, "format", "given[0].map(seconds)", values) == [seconds(v) for v in values]


@pytest.mark.parametrize(
    ("call", "given", "told"),
    [
        ("digits(given[0])", 0.123456, "0.123"),
        ("digits(given[0])", 1234567.0, "1.23e+6"),
        ("digits(given[0])", None, "–"),
        ("plural(given[0], 'step')", 1, "1 step"),
        ("plural(given[0], 'step')", 1200, "1,200 steps"),
        ("median(given[0])", [3, None, 1, 10], 3),
        ("median(given[0])", [4, 1], 2.5),
        ("shellWord(given[0])", "steps=[4]", "'steps=[4]'"),
        ("shellWord(given[0])", "it's", "'it'\\''s'"),
        ("shellWord(given[0])", "model=a/b", "model=a/b"),
        ("yamlFlow(given[0])", "a\u2028b", '"a\\u2028b"'),
    ],
)
def test_numbers_and_words_for_people(browser: Browser, call: str, given: Any, told: Any) -> None:
    assert called(browser, "format", call, given) == told


def test_strengths_go_by_who_wins(browser: Browser) -> None:
    results = [[0, 1, 1]] * 6 + [[1, 2, 1]] * 6 + [[0, 2, 0.5]]
    found = called(browser, "ranking", "bradleyTerry(3, given[0])", results)
    assert found[0]["value"] > found[1]["value"] > found[2]["value"]
    assert sum(one["value"] for one in found) == pytest.approx(0, abs=1e-6)
    assert all(one["sd"] > 0 for one in found)
