"""The folder that ``export --target web`` writes, with made-up files in the place of those of others."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from http.client import IncompleteRead

import pytest
from typer.testing import CliRunner

import autosam_edge
from autosam_edge.bundle import open_bundle
from autosam_edge.cli import app
from autosam_edge.errors import BundleError, ExportError, OutputError
from autosam_edge_export.web import site as web_site
from autosam_edge_export.web import third_party as finder
from autosam_edge_export.web.packages import own_package, pruned
from autosam_edge_export.web.site import write_site
from autosam_edge_export.web.third_party import PinnedFile, ThirdParty, pinned_files


def wheel(files):
    """A wheel with these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def pinned(name, content, group="package", sources=("pypi:nothing==1",)):
    digest = hashlib.sha256(content).hexdigest()
    return PinnedFile(name, group, len(content), digest, "MIT", tuple(sources))


@pytest.fixture
def others(tmp_path, monkeypatch):
    """A folder with one small file for every pinned one, and the list of them."""
    folder, listed = tmp_path / "others", []
    folder.mkdir()
    for file in pinned_files():
        content = wheel({"code.py": "x"}) if file.group == "package" else file.name.encode()
        (folder / file.name).write_bytes(content)
        listed.append(pinned(file.name, content, file.group, file.sources))
    monkeypatch.setattr(web_site, "pinned_files", lambda: tuple(listed))
    return folder


def test_the_site_holds_what_its_list_says(tmp_path, others):
    """Every file with its size and hash, the version in the service worker, and nothing for WebGPU."""
    report = write_site(open_bundle(), tmp_path / "site", ThirdParty([others]))
    site = json.loads((tmp_path / "site" / "site.json").read_text())
    held = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.*")}
    held = {name for name in held if (tmp_path / "site" / name).is_file()}
    assert held == {*site["files"], "site.json", "service-worker.js"}
    for name, entry in site["files"].items():
        content = (tmp_path / "site" / name).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert f"'{site['version']}'" in (tmp_path / "site" / "service-worker.js").read_text()
    assert {*site["python"]["packages"], *(f"model/{name}" for name in site["model"]["files"])} <= held
    assert list(site["providers"]) == ["wasm"]
    assert report["files"] == len(held)
    assert not [name for name in held if "webgpu" in name or "asyncify" in name]


def test_the_same_site_is_written_again_in_the_place_of_the_first(tmp_path, others):
    """Equal input gives equal bytes, so that a browser loads nothing twice; anything else stays."""
    out = tmp_path / "site"
    write_site(open_bundle(), out, ThirdParty([others]))
    first = (out / "site.json").read_bytes()
    write_site(open_bundle(), out, ThirdParty([others]))
    assert (out / "site.json").read_bytes() == first
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    (other / "site.json").write_text("{}")  # a name that other programs give too
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        write_site(open_bundle(), other, ThirdParty(download=False))  # before any file of others is asked for


def test_the_command_tells_what_was_written_and_how_to_serve_it(tmp_path, others):
    """For a person and as JSON; without torch, which the site does not need."""
    site = tmp_path / "site"
    arguments = ["export", "--target", "web", "-o", str(site), "--pyodide", str(others)]
    told = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert told.exception is None
    assert f"python -m http.server -d {site}" in told.stdout
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"], standalone_mode=False).stdout)
    assert report["site"] == str(site)
    assert report["providers"] == "wasm"


def test_a_precision_that_the_bundle_lacks_is_refused(tmp_path, others):
    with pytest.raises(BundleError, match="AE-BUNDLE-005"):
        write_site(open_bundle(), tmp_path / "site", ThirdParty([others]), precision="int8")


@pytest.mark.parametrize("fault", ["absent", "altered"])
def test_a_file_of_others_that_is_not_the_pinned_one_is_refused(tmp_path, others, fault):
    """With its sources, and nothing is written."""
    file = others / "pyodide.asm.wasm"
    if fault == "absent":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(ExportError, match=r"AE-EXPORT-016: pyodide.asm.wasm is not at hand") as refused:
        write_site(open_bundle(), tmp_path / "site", ThirdParty([others]))
    assert "npm:pyodide@" in refused.value.remedy
    assert not (tmp_path / "site").exists()


def test_an_answer_that_ends_early_is_no_file(tmp_path, monkeypatch):
    """AE-EXPORT-016, as for every file that cannot be had."""

    def cut(*_, **__):
        raise IncompleteRead(b"half")

    monkeypatch.setattr(finder.urllib.request, "urlopen", cut)
    with (
        ThirdParty(download=True) as third_party,
        pytest.raises(ExportError, match=r"AE-EXPORT-016: a\.js was found at none"),
    ):
        third_party.read(pinned("a.js", b"whole", "viewer", ["https://example.org/a.js"]))


@pytest.mark.parametrize("kind", ["npm", "pypi", "pypi member"])
def test_packages_are_fetched_once_by_the_ordinary_clients(tmp_path, monkeypatch, kind):
    """The first source that gives the right bytes wins; what was fetched is kept by its hash."""
    content, calls = b"the file", []

    def run(command, cwd, **_):
        calls.append(command)
        if "npm" in command[0]:
            with tarfile.open(cwd / "thing.tgz", "w:gz") as archive:
                entry = tarfile.TarInfo("package/x.js")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        elif kind == "pypi":
            (cwd / "thing.whl").write_bytes(content)
        else:
            (cwd / "thing.whl").write_bytes(wheel({"a/x": content}))

    monkeypatch.setattr(subprocess, "run", run)
    source = {"npm": "npm:thing@1:package/x.js", "pypi": "pypi:thing==1", "pypi member": "pypi:thing==1:a/x"}
    file = pinned("x", content, sources=("file:///nowhere", source[kind]))
    with ThirdParty(cache=tmp_path / "cache", download=True) as third_party:
        assert third_party.read(file) == content
        assert third_party.read(replace(file, name="y")) == content
    assert len(calls) == 1
    assert calls[0][-1] == ("thing@1" if kind == "npm" else "thing==1")
    with ThirdParty(cache=tmp_path / "cache") as offline:
        assert offline.read(file) == content


def test_a_source_with_other_bytes_is_passed_over(tmp_path):
    """Here an address whose file is another one."""
    (tmp_path / "x").write_bytes(b"another file")
    file = pinned("x", b"the file", sources=(f"file://{tmp_path}/x",))
    with (
        ThirdParty(cache=tmp_path / "cache", download=True) as third_party,
        pytest.raises(ExportError, match="none of its sources with the right SHA-256"),
    ):
        third_party.read(file)
    assert not (tmp_path / "cache").exists()


def test_every_file_of_others_is_pinned():
    """With a license, a hash and a source each, and for all that the site needs."""
    files = pinned_files()
    assert {file.group for file in files} == {"python", "package", "wasm", "webgpu", "viewer"}
    assert len({file.name for file in files}) == len(files)
    for file in files:
        assert file.license
        assert file.size > 0
        assert len(bytes.fromhex(file.sha256)) == 32
        assert all(source.split(":")[0] in ("npm", "pypi", "https") for source in file.sources)


def test_a_wheel_keeps_its_code_and_licenses():
    """And loses tests, headers, types and decoders that nobody calls; the same wheel gives the same bytes."""
    full = wheel(
        {
            "numpy/__init__.py": "1",
            "numpy/tests/test_x.py": "1",
            "numpy/core.h": "1",
            "numpy/__init__.pyi": "1",
            "numpy-1.dist-info/METADATA": "1",
            "numpy-1.dist-info/RECORD": "1",
            "numpy-1.dist-info/licenses/LICENSE": "1",
            "imagecodecs/_jpegls.abi3.so": "1",
            "imagecodecs/_tiff.abi3.so": "1",
            "imagecodecs/zarr.py": "1",
        }
    )
    with zipfile.ZipFile(io.BytesIO(pruned(full))) as small:
        assert set(small.namelist()) == {
            "numpy/__init__.py",
            "numpy-1.dist-info/METADATA",
            "numpy-1.dist-info/licenses/LICENSE",
            "imagecodecs/_jpegls.abi3.so",
        }
    assert pruned(full) == pruned(full)


def test_our_own_package_imports_without_what_a_browser_lacks(tmp_path):
    """Pillow is the stand-in; ``resource``, ``lzma`` and ``fcntl`` are not there; no preview is offered."""
    with zipfile.ZipFile(io.BytesIO(own_package())) as archive:
        archive.extractall(tmp_path)
    assert not (tmp_path / "autosam_edge" / "bundles").exists()
    script = """
import sys
sys.path.insert(0, sys.argv[1])
for name in ("resource", "lzma", "_lzma", "fcntl"):
    sys.modules[name] = None
import autosam_edge.browser.worker, autosam_edge.dicom.segmentation
import autosam_edge.system.file_lock, autosam_edge.system.memory
import autosam_edge.formats.zip_archive, highdicom, PIL
from autosam_edge.system.platform import can_draw
assert autosam_edge.__file__.startswith(sys.argv[1]), autosam_edge.__file__
assert PIL.__file__.startswith(sys.argv[1]), PIL.__file__
assert not can_draw()
assert autosam_edge.system.memory.peak_mb() >= 0
print(autosam_edge.__version__)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == autosam_edge.__version__


def test_the_finder_takes_a_folder_of_pyodide_first(tmp_path, monkeypatch):
    """Nothing is fetched for a file that is there."""
    (tmp_path / "x").write_bytes(b"the file")
    monkeypatch.setattr(finder.ThirdParty, "_fetch", lambda *_: pytest.fail("fetched"))
    with ThirdParty([tmp_path], download=True) as third_party:
        assert third_party.read(pinned("x", b"the file")) == b"the file"
