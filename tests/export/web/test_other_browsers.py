"""The exported site in the engines of Safari and Firefox: a real scan, in the page, without a network.

Slow. Needs node and npm for the site, ``apt-get install webkit2gtk-driver firefox-esr xvfb``, ``pip install
selenium marionette_driver``, and ../shared/data/tcga-ov-abdomen. WebKitGTK shares layout, JavaScript and
WebAssembly with Safari; what is Apple's own (memory limits, GPU, file dialogs) is not tested here.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from autosam_edge_test_web import SCAN, SiteHandler, serving

from autosam_edge import open_session, read
from autosam_edge.system.machine import describe_machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:selenium.*"),  # selenium warns of its own calls
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # files that marionette leaves open
]

MINI_BROWSER = "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"
READY = "return document.getElementById('ready')?.classList.contains('done')"
ENDED = "return !document.getElementById('result').hidden || !document.getElementById('failure').hidden"
WATCH = """
window.faults = [];
addEventListener('error', (event) => faults.push(event.message));
addEventListener('unhandledrejection', (event) => faults.push(String(event.reason)));
addEventListener('securitypolicyviolation', (event) => faults.push(event.violatedDirective));
window.saved = new Map();
const makeUrl = URL.createObjectURL;
URL.createObjectURL = (blob) => {
  const url = makeUrl.call(URL, blob);
  saved.set(url, blob);
  return url;
};
"""
CHOOSE = """
(async () => {
  const chosen = new DataTransfer();
  for (const name of NAMES)
    chosen.items.add(new File([await (await fetch(`/scan/${name}`)).arrayBuffer()], name));
  const input = document.getElementById('files');
  input.files = chosen.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
})();
"""
SAVED = """
const done = arguments[arguments.length - 1];
const links = [...document.querySelectorAll('#downloads a')];
const reader = new FileReader();
reader.onload = () => done([links[0].download, reader.result.split(',')[1]]);
reader.readAsDataURL(saved.get(links[0].href));
"""


class _Host(SiteHandler):
    """The site without headers of isolation, and the real scan in `/scan/`, also when the site is away."""

    is_away = False

    def do_GET(self) -> None:  # noqa: N802  the name in the base class
        if _Host.is_away and not self.path.startswith("/scan/"):
            self.send_error(503)
            return
        super().do_GET()

    def translate_path(self, path: str) -> str:
        return str(SCAN / Path(path).name) if path.startswith("/scan/") else super().translate_path(path)


@contextlib.contextmanager
def _webkit(tmp_path: Path) -> Iterator[Any]:
    """WebKitGTK on a screen of its own."""
    webdriver = pytest.importorskip("selenium.webdriver")
    for program in ("WebKitWebDriver", "Xvfb"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install webkit2gtk-driver xvfb")
    read_end, write_end = os.pipe()
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1400x1300x24"],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    try:
        display = f":{os.read(read_end, 16).decode().strip()}"
        options = webdriver.WebKitGTKOptions()
        options.binary_location = MINI_BROWSER
        options.add_argument("--automation")
        environment = {
            **os.environ,
            "DISPLAY": display,
            "XDG_DATA_HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path),
        }
        service = webdriver.WebKitGTKService(shutil.which("WebKitWebDriver"), env=environment)
        driver = webdriver.WebKitGTK(options=options, service=service)
        try:
            driver.set_script_timeout(60)
            driver.set_window_size(820, 1180)
            driver.navigate, driver.version = driver.get, driver.capabilities["browserVersion"]
            yield driver
        finally:
            driver.quit()
    finally:
        os.close(read_end)
        os.close(write_end)
        screen.terminate()
        screen.wait()


@contextlib.contextmanager
def _firefox(tmp_path: Path) -> Iterator[Any]:
    """Firefox by its own protocol, without a program between."""
    marionette = pytest.importorskip("marionette_driver.marionette")
    if shutil.which("firefox-esr") is None:
        pytest.skip("firefox-esr is not installed: apt-get install firefox-esr")
    log = str(tmp_path / "gecko.log")  # in the working folder otherwise
    browser = marionette.Marionette(bin=shutil.which("firefox-esr"), headless=True, gecko_log=log)
    browser.start_session({"timeouts": {"script": 60_000}})
    try:
        browser.version = browser.session_capabilities["browserVersion"]
        for name in ("execute_script", "execute_async_script"):  # in the page itself, not beside it
            setattr(browser, name, functools.partial(getattr(browser, name), sandbox=None, new_sandbox=False))
        yield browser
    finally:
        browser.cleanup()


def _wait(browser: Any, condition: str, limit_s: float = 480) -> None:
    """Wait until the page says that the condition is true."""
    end = time.monotonic() + limit_s
    while not browser.execute_script(condition):
        assert time.monotonic() < end, browser.execute_script("return document.body.innerText")
        time.sleep(1)


BROWSERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Any]]] = {
    "WebKitGTK": _webkit,
    "Firefox": _firefox,
}


@pytest.fixture(scope="module", params=BROWSERS)
def seen(request, exported, tmp_path_factory) -> dict[str, Any]:
    """What one browser did; AUTOSAM_EDGE_WEB_BROWSERS names a file that keeps it, with the machine."""
    if not SCAN.is_dir():
        pytest.skip("the real scan is not here")
    folder = tmp_path_factory.mktemp("browser")
    _Host.is_away = False
    with BROWSERS[request.param](folder) as browser, serving(exported, _Host) as address:
        browser.navigate(address)
        _wait(browser, READY)
        _Host.is_away = True
        browser.navigate(f"{address}index.html")
        _wait(browser, READY)
        browser.execute_script(WATCH)
        names = json.dumps(sorted(path.name for path in SCAN.glob("*.dcm")))
        browser.execute_script(CHOOSE.replace("NAMES", names))
        _wait(browser, ENDED)
        found = {
            "browser": request.param,
            "version": browser.version,
            "isolated": browser.execute_script("return crossOriginIsolated"),
            "ready": browser.execute_script("return document.getElementById('ready-text').innerText"),
            "faults": browser.execute_script("return faults"),
            "text": browser.execute_script("return document.body.innerText"),
        }
        assert "organs found" in found["text"], found["text"]
        name, content = browser.execute_async_script(SAVED)
    (folder / name).write_bytes(base64.b64decode(content))
    labels = np.asarray(nib.load(folder / name).dataobj).T
    native = open_session(engine="onnx", precision="fp32", tier="fast").segment(read(SCAN)).labels
    found["voxels_that_differ"] = int(np.count_nonzero(labels != native))
    if kept := os.environ.get("AUTOSAM_EDGE_WEB_BROWSERS"):
        _keep(Path(kept), found)
    return found


def _keep(path: Path, found: dict[str, Any]) -> None:
    """Add what a browser did to the file, in place of what the same browser did before."""
    browsers = json.loads(path.read_text())["browsers"] if path.exists() else []
    told = {name: value for name, value in found.items() if name not in {"text", "ready"}}
    others = [other for other in browsers if other["browser"] != found["browser"]]
    content = {"machine": describe_machine(), "browsers": [*others, told]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def test_the_site_works_without_its_host(seen):
    """Isolated after the first visit, ready again from what is stored, and without a fault."""
    assert seen["isolated"]
    assert "the test tile gave the right result" in seen["ready"]
    assert seen["faults"] == []


def test_the_real_scan_is_labeled_as_on_this_machine(seen):
    """At most 100 of its 42 million voxels differ."""
    assert seen["voxels_that_differ"] <= 100
    assert "13 of 13 organs found" in seen["text"]
