"""The documentation is true: snippets run, numbers are those of the result files, links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import autosam_edge_test_hazards
import autosam_edge_test_plausibility_page
import pytest
from autosam_edge_test_cli_page import PAGE, cli_page
from autosam_edge_test_support import RESULTS

from autosam_edge.bundle import default_bundle_path, open_bundle
from autosam_edge.output_formats import DEFAULT_FORMATS, FILE_NAMES, FORMATS
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

ROOT = Path(__file__).parents[1]


def page_text(page):
    return (ROOT / page).read_text()


def result(name):
    return json.loads((RESULTS / name).read_text())


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page_text(page), flags=re.DOTALL)


def table_rows(page, columns):
    """Body rows of the page's tables with this header, each as a list of cells."""
    header = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    (table,) = re.findall(re.escape(header) + r"((?:\|.*\n)+)", page_text(page))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def spoken(organ):
    """A label's name in plain English: ``kidney_left`` is the left kidney."""
    plain = re.sub(r"(.*)_(left|right)", r"\2 \1", organ).replace("_", " ")
    return plain.replace("portal vein and", "portal and")


def test_the_readmes_python_labels_a_scan(tmp_path):
    """Read, segment, write: five files. In its own process, as the memory limit is that of the process."""
    write_dicom_series(make_phantom(5, spacing_mm=(5.0, 3.0, 3.0)).volume, tmp_path / "SCAN", seed=5)
    (block,) = python_blocks("README.md")
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_the_readme_is_a_front_page():
    """At most 120 lines."""
    assert len(page_text("README.md").splitlines()) <= 120


@pytest.mark.parametrize(
    ("marker", "option", "start", "end", "runs"),
    [
        ("demo", "", "pip install .", "autosam-edge demo -o out", ["$line"]),
        (
            *("tests", "--upgrade-deps ", "pip install torch==", "pytest -n auto --dist worksteal"),
            ["${line% && *}", "${line##* && }"],  # all steps but the last, and the last
        ),
    ],
)
def test_the_readmes_commands_are_one_line_each_and_ci_runs_them(marker, option, start, end, runs):
    """Each makes the environment, installs into it and ends with what it promises, on a new machine."""
    block = rf"<!-- {marker} -->\n```sh\n(.*?)```\n<!-- end -->"
    fences = re.findall(block, page_text("README.md"), flags=re.DOTALL)
    assert [len(fence.splitlines()) for fence in fences] == [1]
    steps = fences[0].strip().split(" && ")
    assert steps[0] == f"python3 -m venv {option}.venv"
    assert all(step.startswith(".venv/bin/") for step in steps[1:])
    assert steps[1].startswith(f".venv/bin/{start}")
    assert steps[-1] == f".venv/bin/{end}"
    ci = page_text(".ci/run").partition(f"line=$(readme_line {marker})\n")[2]
    assert re.findall(r'bash -euxo pipefail -c "(.*?)"', ci)[: len(runs)] == runs


def test_the_readmes_accuracy_is_that_of_the_scored_default_model():
    """Every organ once, with its Dice of the test cases; the scored weights are the default bundle's."""
    summary = result("btcv_test/summary.json")
    cells = [cell for row in table_rows("README.md", ["organ", "Dice"] * 3) for cell in row]
    shown = {organ: value for organ, value in zip(cells[::2], cells[1::2], strict=True) if organ}
    assert shown == {spoken(organ): f"{scores['dice']:.2f}" for organ, scores in summary["organs"].items()}
    assert f"**{summary['mean_dice']:.3f}**" in page_text("README.md")
    manifest = json.loads((default_bundle_path() / "manifest.json").read_text())
    assert summary["engine"]["sha256"] == manifest["files"]["onnx/fp32.onnx"]


def test_the_readmes_accuracy_of_the_standard_tier_is_that_of_its_bundle():
    """Scored as users run it, behind the fast model."""
    summary, bundle = result("btcv_test_standard/summary.json"), open_bundle(tier="standard")
    assert f"**{summary['mean_dice']:.3f}**" in page_text("README.md")
    assert summary["engine"]["sha256"] == bundle.manifest.sha256_of("onnx/fp32.onnx")
    assert summary["method"] == bundle.manifest.name
    card = bundle.read("MODEL_CARD.md").decode()
    for organ, scores in summary["organs"].items():
        assert f"| {organ} | {scores['dice']:.3f} | {scores['nsd_1']:.3f} |" in card


def test_the_memory_of_a_slice_is_that_of_the_benchmark():
    """The growth from the smallest scan of a row to the largest; and the comparison with MONAI's window."""
    page = page_text("docs/performance.md")
    small, *_, large = result("bench/openvino-fp32-2.json")["end_to_end"]
    slices = [scan["shape"][0] for scan in (small, large)]
    growth = (large["peak_mb"] - small["peak_mb"]) / (slices[1] - slices[0])
    assert f"by {growth:.2f} MB a slice of 512 x 512 between {slices[0]} and {slices[1]} slices" in page
    streaming = result("streaming_parity.json")
    assert f"{streaming['different']} of {streaming['voxels']:,} voxels" in page


@pytest.mark.skipif(not (RESULTS / "bench").is_dir(), reason="no row was stored yet")
def test_the_table_of_rows_is_that_of_the_stored_rows():
    """Run the last command of docs/bench.md after a measurement."""
    from autosam_edge_benchmarks.rows.report import BEGIN, END, as_markdown, read_rows

    shown = page_text("docs/performance.md").partition(BEGIN)[2].partition(END)[0]
    peers = json.loads((RESULTS / "peers.json").read_text())
    assert shown == as_markdown(read_rows(RESULTS / "bench"), peers)


def test_the_times_of_the_readme_are_those_of_quiet_rows():
    """Both engines with all cores, on the bundles of today."""
    columns = ["scan, 2 cores (Intel Xeon, float32)", "engine", "command to files", "peak memory"]
    shown = table_rows("README.md", columns)
    rows = [(tier, engine) for tier in ("fast", "standard") for engine in ("openvino", "onnx")]
    for (tier, engine), (_, _, seconds, megabytes) in zip(rows, shown, strict=True):
        folder = "bench/standard" if tier == "standard" else "bench"
        row, manifest = result(f"{folder}/{engine}-fp32-2.json"), open_bundle(tier=tier).manifest
        scan, measured = row["end_to_end"][0], (row["artifact"]["model"], row["artifact"]["model_version"])
        assert (measured, row["validity"]["stable"]) == ((manifest.name, manifest.version), True)
        assert (seconds.strip("*"), megabytes) == (f"{scan['total_s']:.1f} s", f"{scan['peak_mb']:.0f} MB")


def test_the_readme_compares_with_monai_as_the_stored_result_does():
    """The same weights in PyTorch."""
    tools = json.loads((RESULTS / "peers.json").read_text())["tools"]
    (monai,) = (tool for tool in tools if tool["name"] == "MONAI, PyTorch")
    words = f"{monai['times_slower']:.1f} times as long and {monai['times_memory']:.1f} times the memory"
    assert words in page_text("README.md")


def artifact_row(artifact, onnx_ms):
    organ = artifact["worst_organ"]
    row, cost = [artifact["name"], f"{artifact['megabytes']:.1f}"], artifact["cost"]
    if cost is not None:
        time = f"{cost['tile_ms']:.0f} ms ({cost['tile_ms'] / onnx_ms:.2f} x)"
        row += [f"{cost['load_s']:.2f}", time, f"{cost['peak_rss_mb']:.0f}"]
    return [*row, f"{artifact['organ_dice'][organ]:.4f} ({organ})", f"{artifact['mean_dice']:.4f}"]


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        (
            "artifacts_pocketnet.json",
            ["artifact", "MB", "load s", "time of a tile", "peak MB", "worst organ", "mean Dice"],
        ),
        ("artifacts_pocketnet_coreml.json", ["artifact", "MB", "worst organ", "mean Dice"]),
    ],
)
def test_the_artifact_tables_are_the_result_files(file, columns):
    """Each artifact of the file once, with its own figures; nothing else ran while times were taken."""
    found = result(file)
    onnx_ms = next((a["cost"]["tile_ms"] for a in found["artifacts"] if a["name"] == "onnx/fp32"), None)
    made = sorted(artifact_row(artifact, onnx_ms) for artifact in found["artifacts"])
    assert sorted(table_rows("docs/performance.md", columns)) == made
    assert onnx_ms is None or found["doubt_of_times"] == ""


def test_the_memory_of_the_site_is_that_of_the_result_file():
    """Of Python, of the network, and of what the browser stores."""
    result = json.loads((RESULTS / "web.json").read_text())
    measured = [*result["memory_mb"].values(), result["stored_mb"]]
    table = page_text("docs/web.md").split("## Memory and size")[1].split("WebAssembly memory")[0]
    assert re.findall(r"\| ([\d.]+) \|", table) == [f"{value:g}" for value in measured]


def test_the_table_of_browsers_is_the_result_files():
    """Chromium is measured with the page; the others are only compared."""
    chromium = json.loads((RESULTS / "web.json").read_text())
    others = json.loads((RESULTS / "web_browsers.json").read_text())["browsers"]
    seen = [("Chromium", chromium["browser"], chromium["voxels_that_differ"])]
    seen += [(other["browser"], other["version"], other["voxels_that_differ"]) for other in others]
    rows = table_rows("docs/web.md", ["browser", "version", "voxels that differ"])
    assert sorted(rows) == sorted([name, version, str(voxels)] for name, version, voxels in seen)


def test_the_edge_form_table_is_the_result_file():
    """The forms in the order of the file."""
    assert table_rows("docs/performance.md", ["form", "MB", "load s", "time of a tile", "peak MB"]) == [
        [
            form["form"],
            f"{form['megabytes']:.1f}",
            f"{form['load_s']:.2f}",
            f"{form['tile_ms']:.0f} ms ({form['relative_time']:.2f} x)",
            f"{form['peak_rss_mb']:.0f}",
        ]
        for form in result("edge_form_tiny.json")["forms"]
    ]


def test_the_page_of_commands_is_generated():
    """docs/cli.md is what ``python tests/autosam_edge_test_cli_page.py`` writes."""
    assert PAGE.read_text() == cli_page()


def test_the_page_of_results_lists_every_format():
    """Each format once, with the name of its file, and whether it is written without being named."""
    rows = table_rows("docs/results.md", ["format", "file", "size in MB", "content"])
    told = {row[0].partition(" ")[0].strip("`"): (row[1].strip("`"), "(default)" in row[0]) for row in rows}
    assert told == {name: (FILE_NAMES[name], name in DEFAULT_FORMATS) for name in FORMATS}


def test_the_index_lists_every_page():
    """Each page of docs/ and each decision record is linked from docs/index.md."""
    linked = set(re.findall(r"\]\(([^)#]+)\)", page_text("docs/index.md")))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("**/*.md")} - {"index.md"}
    assert pages - linked == set()


def test_the_bundle_pages_check_passes_on_the_default_bundle(capsys):
    """ONNX Runtime alone reproduces the golden logits within the tolerance of fp32."""
    (block,) = python_blocks("docs/bundle.md")
    exec(block.replace("model.edge", str(default_bundle_path())), {})
    assert float(capsys.readouterr().out) < 1e-3


@pytest.mark.parametrize("exhibit", ["table3", "table4", "figure4"])
def test_the_tables_of_the_page_are_those_of_the_command(exhibit):
    """docs/reproduction.md repeats what ``reproduce NAME -o DIR`` writes to NAME.md: paste it from there."""
    pytest.importorskip("torch")
    from autosam_edge_benchmarks.paper.render import as_markdown
    from autosam_edge_benchmarks.paper.specs import table_spec
    from autosam_edge_benchmarks.paper.tables import build_table

    made = as_markdown(build_table(table_spec(exhibit), RESULTS / "runs"))
    assert made.split("\n", 2)[2] in (ROOT / "docs" / "reproduction.md").read_text()


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("**/*.md"))],
)
def test_links_lead_somewhere(page):
    """Each relative link of a page names a file of the project."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text())
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_the_decision_records_are_numbered():
    """One number each, and the title carries it."""
    for number, page in enumerate(sorted((ROOT / "docs" / "adr").glob("*.md")), start=1):
        assert page.name.startswith(f"{number:04d}-")
        assert page.read_text().startswith(f"# {number}. ")


def test_the_page_of_plausibility_shows_the_limits_of_the_code_and_the_bundle():
    """Run ``python tests/autosam_edge_test_plausibility_page.py`` after a change of one of them."""
    page = autosam_edge_test_plausibility_page.PAGE.read_text(encoding="utf-8")
    first = page.index(autosam_edge_test_plausibility_page.FIRST)
    assert page[first:] == autosam_edge_test_plausibility_page.tables()


def test_the_page_of_hazards_is_what_the_tests_declare():
    """Run ``python tests/autosam_edge_test_hazards.py`` after a change of a marked test."""
    page = autosam_edge_test_hazards.PAGE.read_text(encoding="utf-8")
    assert page[page.index(autosam_edge_test_hazards.FIRST) :] == autosam_edge_test_hazards.tables()
    conditions = [row.condition for row, _ in autosam_edge_test_hazards.declared()]
    assert len(set(conditions)) == len(conditions) > 0
