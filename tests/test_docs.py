import ast
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import pixelssr_geo
from pixelssr_geo.cli.main import COMMANDS, cli
from pixelssr_geo.nets import list_nets
from pixelssr_geo.nets.dypro.config import DyProConfig
from pixelssr_geo.nets.prompted import check_pixel_options
from pixelssr_geo.settings import PAPER_ONLY, Settings
from pixelssr_geo.spectra import get_sensor, list_sensors

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "README.md").is_file():
    pytest.skip("the tests run beside an installed package", allow_module_level=True)

PAGES = ROOT / "docs" / "pages"
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(PAGES.glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def named(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    """Fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def commands(path):
    """Shell commands of a page, without comments, continued lines joined."""
    for block in blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if command := line.partition("#")[0].strip():
                yield command


def links(path):
    """Targets of a page's relative links and images, without anchors."""
    found = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [target.partition("#")[0] for target in found if not re.match(r"\w+:|#", target)]


def make_targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_readme_names_only_make_targets_that_exist():
    asked = set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(commands(ROOT / "README.md"))))
    quoted = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= asked
    assert asked | quoted <= make_targets()


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    listed = set(re.findall(r'@echo "make ([a-z-]+) ', text))
    assert listed == make_targets() - {"help"}
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == make_targets()


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_documented_commands_and_their_options_exist(path):
    import click

    for command in commands(path):
        program, *words = command.split()
        if program != "pixelssr-geo":
            continue
        context = click.Context(cli)
        found = cli.get_command(context, words[0])
        assert words[0] in COMMANDS, command
        assert found is not None, command
        if isinstance(found, click.Group):
            found = found.get_command(context, words[1])
            assert found is not None, command
        known = {name for option in found.params for name in option.opts}
        assert {word for word in words if word.startswith("-")} <= known, command


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_relative_links_lead_somewhere(path):
    for target in links(path):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_documented_python_parses_and_uses_public_names(path):
    for code in blocks(path, "python"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "px"
        }
        assert used <= set(pixelssr_geo.__all__)


def test_every_page_is_in_the_navigation():
    config = (ROOT / "docs" / "mkdocs.yml").read_text()
    listed = set(re.findall(r": (\S+\.md)$", config, re.MULTILINE))
    assert listed == {path.name for path in PAGES.glob("*.md")}


@pytest.mark.parametrize("name", pixelssr_geo.__all__)
def test_the_api_page_has_every_public_name(name):
    assert f"::: pixelssr_geo.{name}\n" in (PAGES / "api.md").read_text()


def sensor_row(sensor):
    """The row of docs/pages/sensors.md for a known sensor."""
    response = get_sensor(sensor.name)
    rows = zip(response.names, response.centres_nm, response.fwhm_nm, strict=True)
    bands = ", ".join(f"{name} {round(c, 1):g}/{round(w, 1):g}" for name, c, w in rows)
    return f"| {sensor.name} | {', '.join(sensor.aliases)} | {bands} | {sensor.source} |"


def test_the_table_of_sensors_is_that_of_the_code():
    page = (PAGES / "sensors.md").read_text()
    head, _, rest = page.partition("|---|---|---|---|\n")
    assert head
    assert rest.partition("\n\n")[0].splitlines() == [sensor_row(s) for s in list_sensors()]


def test_the_table_of_deviations_is_what_the_command_prints(shared_data):
    script = ROOT / "tests" / "benchmarks" / "sensor_responses.py"
    printed = subprocess.run(
        [sys.executable, script, "--data", shared_data], capture_output=True, text=True, check=True
    ).stdout
    table = [line.strip() for line in (PAGES / "sensors.md").read_text().splitlines()]
    assert printed.splitlines() == [line for line in table if line.count("|") == 8]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_are_stripped(path):
    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert cell["metadata"] == {}
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def rows_between(page, marker):
    """Cells of a table's body between a marker and its end."""
    text = (PAGES / page).read_text().partition(f"<!-- {marker} -->")[2].partition("<!-- end -->")
    lines = [line for line in text[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_unclear_place_of_the_paper_has_a_setting_that_exists():
    rows = rows_between("fidelity.md", "places")
    assert [int(row[0]) for row in rows] == list(range(1, 21))
    known = set(Settings.model_fields) | {field.name for field in fields(DyProConfig)}
    named_there = {name for row in rows for name in re.findall(r"`(\w+)`", row[3])}
    assert named_there <= known
    # Whatever changes what the paper's method computes is on the page.
    aside = {"zero_head", "scan_backend"}
    readings = {field.name for field in fields(DyProConfig)} | set(PAPER_ONLY)
    text = (PAGES / "fidelity.md").read_text()
    assert {name for name in readings - aside if f"`{name}`" not in text} == set()


def test_the_table_of_networks_is_what_the_command_prints():
    results = ROOT / "tests" / "benchmarks" / "results" / "tiles.csv"
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "benchmarks" / "tile_speed.py", "--table", results],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    text = (PAGES / "benchmarks.md").read_text()
    assert f"<!-- tiles -->\n{ran.stdout.strip()}\n<!-- end -->" in text


def test_the_table_of_files_is_what_the_command_prints():
    results = ROOT / "tests" / "benchmarks" / "results" / "formats.csv"
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "benchmarks" / "formats.py", "--table", results],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found = (PAGES / "benchmarks.md").read_text().partition("<!-- files -->")[2]
    assert found.partition("<!-- end -->")[0].strip() == ran.stdout.strip()


@pytest.mark.parametrize(
    ("marker", "script", "results"),
    [
        ("memory", "memory.py", "memory.csv"),
        ("scaling", "scaling.py", "scaling.csv"),
        ("shares", "scaling.py", "shares.csv"),
    ],
)
def test_the_tables_of_whole_runs_are_what_the_commands_print(marker, script, results):
    folder = ROOT / "tests" / "benchmarks"
    profile = ["--profile"] * (marker == "shares")
    ran = subprocess.run(
        [sys.executable, folder / script, *profile, "--table", folder / "results" / results],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found = (PAGES / "benchmarks.md").read_text().partition(f"<!-- {marker} -->")[2]
    assert found.partition("<!-- end -->")[0].strip() == ran.stdout.strip()


@pytest.mark.parametrize(
    "marker",
    [
        "methods", "anchors", "elsewhere", "noise",
        "table1", "table4", "table5", "table6", "table7-9", "table11", "table13",
    ],
)  # fmt: skip
def test_the_tables_of_experiments_are_what_the_command_above_them_prints(marker):
    found = re.search(
        rf"```sh\npixelssr-geo (experiment \S+ --table [^`]*)```\n\n<!-- {marker} -->\n"
        r"(.*?)<!-- end -->",
        (PAGES / "benchmarks.md").read_text(),
        re.DOTALL,
    )
    assert found is not None
    asked, told = found.groups()
    ran = subprocess.run(
        [sys.executable, "-m", "pixelssr_geo.cli", *asked.replace("\\\n", " ").split()],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert told == ran.stdout


def test_the_table_of_costs_is_what_the_command_prints():
    asked = "experiment table10 --table --out tests/benchmarks/results/table10.csv"
    ran = subprocess.run(
        [sys.executable, "-m", "pixelssr_geo.cli", *asked.split()],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    text = (PAGES / "benchmarks.md").read_text()
    assert f"pixelssr-geo {asked}\n" in text
    assert f"<!-- table10 -->\n{ran.stdout}<!-- end -->" in text


@pytest.mark.parametrize("page", ["fidelity.md", "networks.md"])
def test_the_documented_file_of_settings_is_one(page):
    (text,) = blocks(PAGES / page, "toml")
    settings = Settings.of(**tomllib.loads(text))
    check_pixel_options(settings.net, settings.net_options)
    assert settings.method == "paper"


def test_the_sizes_of_the_ablations_are_what_the_command_prints():
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "benchmarks" / "ablation_costs.py"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    text = (PAGES / "fidelity.md").read_text()
    assert f"<!-- ablations -->\n{ran.stdout}<!-- end -->" in text


def test_the_sizes_of_the_networks_are_what_the_command_prints():
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "benchmarks" / "network_costs.py"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    text = (PAGES / "networks.md").read_text()
    assert f"<!-- networks -->\n{ran.stdout}<!-- end -->" in text


def test_every_network_is_on_its_page():
    text = (PAGES / "networks.md").read_text()
    assert all(f"| `{spec.name}` | {spec.paper} |" in text for spec in list_nets())
