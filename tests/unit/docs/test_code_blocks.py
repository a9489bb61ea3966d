"""What README and docs show works: manifests, commands, Python and links."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from admission import refusals
from page_blocks import FENCE, Block, blocks_of
from tunesmith_api.manifest import load_any_kind, load_job, load_resource
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_cli.arguments import build_parser
from tunesmith_cli.main import main
from tunesmith_cli.report.glossary import GLOSSARY

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "smalltalk" / "job.yaml"
POLICY_FILE = ROOT / "charts/tunesmith/files/policies/finetunepolicies.tunesmith.dev.yaml"
DEPLOYMENT = ROOT / "examples" / "smalltalk" / "deployment.yaml"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def named(wanted: list[Block]) -> dict[str, Block]:
    return {block.place: block for block in wanted}


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
OURS = [
    block
    for block in BLOCKS
    if block.language == "yaml" and block.text.startswith("apiVersion: tunesmith.dev/")
]
# Of a kind that the command does not read: the API server alone looks at it.
POLICIES = named([block for block in OURS if "kind: FineTunePolicy" in block.text])
MANIFESTS = named([block for block in OURS if block.place not in POLICIES])
PYTHON = named([block for block in BLOCKS if block.language == "python"])
COMMANDS = {
    f"{block.place} {shlex.join(words)}": words
    for block in BLOCKS
    if block.language == "console"
    for words in block.commands()
}


def test_the_pages_show_manifests_and_commands() -> None:
    """The patterns of this module still find what they look for."""
    assert len(MANIFESTS) >= 5
    assert {"validate", "plan", "serve"} <= {words[0] for words in COMMANDS.values()}


@pytest.mark.parametrize("place", MANIFESTS)
def test_a_manifest_in_the_docs_is_valid(place: str) -> None:
    load_any_kind(MANIFESTS[place].text, source=place)


@pytest.mark.parametrize("place", POLICIES)
def test_a_policy_in_the_docs_is_what_the_chart_defines(place: str) -> None:
    documents = yaml.safe_load_all(POLICY_FILE.read_text(encoding="utf-8"))
    definition = next(each for each in documents if each["kind"] == "CustomResourceDefinition")
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    assert refusals(schema, yaml.safe_load(POLICIES[place].text)) == []


def test_the_deployment_of_the_example_is_the_one_in_the_docs() -> None:
    page = ROOT / "docs" / "task" / "deploy-on-one-machine.md"
    shown = [block.text for block in MANIFESTS.values() if block.page == page]
    text = DEPLOYMENT.read_text(encoding="utf-8")

    # Behind the comment that it begins with.
    assert shown == [text[text.index("apiVersion") :]]
    job = load_job(EXAMPLE.read_text(encoding="utf-8"))
    assert load_resource(text, ModelDeployment).spec.model == job.spec.output.model


@pytest.mark.parametrize("place", COMMANDS)
def test_a_command_in_the_docs_is_one_that_the_parser_takes(place: str) -> None:
    build_parser().parse_args(COMMANDS[place])


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_what_the_docs_say_to_run_first_works_on_the_example(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = [] if command == "validate" else ["--home", str(tmp_path)]

    code = main([command, str(EXAMPLE), *home])

    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("place", PYTHON)
def test_python_in_the_docs_runs(place: str) -> None:
    """A block whose fence says `no-run` is only compiled."""
    code = compile(PYTHON[place].text, place, "exec")
    if "no-run" not in PYTHON[place].head:
        exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    broken = [target for target in _targets(page) if not _exists(target, page=page)]

    assert broken == []


def test_the_words_of_reports_are_on_their_page() -> None:
    page = (ROOT / "docs" / "concept" / "glossary.md").read_text(encoding="utf-8")

    assert [word for word, text in GLOSSARY.items() if f"| {word} | {text} |" not in page] == []


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in _targets(index)}

    assert linked >= set((ROOT / "docs").rglob("*.md")) - {index}


def _targets(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [link["target"] for link in LINK.finditer(text)]
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def _exists(target: str, *, page: Path) -> bool:
    path, _, heading = target.partition("#")
    linked = (page.parent / path).resolve() if path else page
    if not linked.exists():
        return False
    return not heading or heading in _headings(linked)


def _headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
