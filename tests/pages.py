"""Made-up runs for the page's tests, and a browser to open them in."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from schedcmp.pictures.image import pixels_sha256
from schedcmp.records import Cell, CellResult, StoredCell, Timing
from schedcmp.store.store import Store

SWEEP: dict[str, Any] = {
    "name": "made up", "schedulers": ["ddim", "euler"], "steps": [4, 8], "zip": [], "exclude": [],
    "grid": {"rows": ["scheduler"], "cols": ["steps"], "page": []},
}  # fmt: skip


def cell(scheduler: str, steps: int, seed: int = 0, **others: Any) -> Cell:
    plain: dict[str, Any] = {
        "prompt_name": "prompt", "prompt": "a cat", "negative_prompt": "", "guidance_scale": 2.0, "width": None,
        "height": None, "base": scheduler, "sigma_schedule": "default",
    }  # fmt: skip
    values = plain | others
    name = "-".join(map(str, (scheduler, steps, seed, values["prompt_name"], values["guidance_scale"])))
    return Cell(id=name.replace(" ", "_"), index=0, scheduler=scheduler, steps=steps, seed=seed, **values)


def result(of: Cell, latency_s: float | None = None, **others: Any) -> CellResult:
    timings = () if latency_s is None else (Timing(latency_s, 0.0, latency_s, 0.0, 0.0, ()),)
    values = {"status": "ok", "nfe": of.steps, "width": 8, "height": 8, "timings": timings} | others
    return CellResult(of, scheduler_config={"order": 2}, timesteps=tuple(range(of.steps, 0, -1)), **values)


def write_run(
    folder: Path,
    results: Iterable[CellResult],
    images: Mapping[str, Image.Image] | None = None,
    planned: Iterable[Cell] = (),
    **meta: Any,
) -> Path:
    """A run's folder with these results; images are by cell id, black ones of 8 × 8 px by default."""
    kept = [replace(r, cell=replace(r.cell, index=i)) for i, r in enumerate(results)]
    environment = {"checkpoint": "made-up", "device": "cpu", "fingerprint": str(folder)}
    with Store.create(folder) as store:
        plan = [r.cell for r in kept]
        plan += [replace(c, index=i) for i, c in enumerate(planned, len(plan))]
        store.begin(plan, {"sweep": yaml.safe_dump(SWEEP), "environment": environment, "warnings": []} | meta)
        for made in kept:
            image = (images or {}).get(made.cell.id) or Image.new("RGB", (made.width or 8, made.height or 8))
            has_image = made.status in ("ok", "flagged")
            if has_image:
                made = replace(made, width=image.width, height=image.height, image_sha256=pixels_sha256(image))
            store.add(made, "key", "machine", f"images/{made.cell.id}.png", png(image) if has_image else None)
    return folder


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def stored(results: Iterable[CellResult], image: str) -> list[StoredCell]:
    """Cells that share one image, for pages of more of them than a test can write."""
    return [StoredCell(replace(r, cell=replace(r.cell, index=i)), image) for i, r in enumerate(results)]


def start_browser() -> webdriver.Chrome:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = Options()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Browser:
    """A page as its reader has it: by keys, by clicks, by what there is to see."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, state: str = "", size: tuple[int, int] = (1200, 800)) -> None:
        self.driver.get("about:blank")
        self.size(*size)
        self.driver.get(f"{page.as_uri()}{f'#{state}' if state else ''}")
        self.wait("return document.querySelectorAll('[role=tab]').length > 0")

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        WebDriverWait(self.driver, 20, 0.02).until(lambda _: self.js(script), script)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector))

    def keys(self, *keys: str) -> None:
        """Type into whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def choose(self, name: str, value: str) -> None:
        """Choose an option of the select of this name."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))"
        self.js(script, self.one(f'select[name="{name}"]'), value)

    def table(self) -> dict[tuple[int, int], str]:
        """(row, column) → cell id, of what is drawn."""
        script = """return [...document.querySelectorAll('.tile')].map(t =>
            [t.closest('.row').ariaRowIndex, t.parentElement.ariaColIndex, t.dataset.id])"""
        return {(int(row), int(col)): id_ for row, col, id_ in self.js(script)}

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


UP, DOWN, LEFT, RIGHT = Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_RIGHT
ENTER, ESCAPE, TAB = Keys.ENTER, Keys.ESCAPE, Keys.TAB
