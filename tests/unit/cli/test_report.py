"""The report: one page that shows whatever a job has reached, and lets nothing in or out."""

import html
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from job_folders import JobFolder, a_failed_job, a_finished_job, a_running_job, add_stage
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.manifest import load_job
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.report.artifacts import EvaluationFile
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.other_models import OtherModels
from tunesmith_cli.report.page import render, write_report
from tunesmith_engine.planning.defaults import describe
from tunesmith_engine.stages.digests import artifact_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
VOID = {"meta", "br", "hr", "link", "img", "input"}
SETTINGS = "Settings"
HOSTILE = "</pre><script src=\"https://evil.example/x.js\">alert('1')</script><img src=x onerror=1>"


class Page(HTMLParser):
    """The page as a browser takes it apart; refuses elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "title", "desc"}:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def headings(self) -> list[str]:
        return [name for name, _ in self.elements if re.fullmatch("h[1-6]", name)]


def page_of(job: JobFolder) -> str:
    return render(read_job_data(job.folder, job.status), now=NOW)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(a_finished_job(tmp_path_factory.mktemp("home")))


def test_a_finished_job_shows_every_part_of_its_story(finished: str) -> None:
    page = Page(finished)

    sections = {section["aria-labelledby"] for section in page.named("section")}
    assert sections == {
        "warnings", "evaluation", "answers", "training", "compression", "parity", "data",
        "course", "origin", "words",
    }  # fmt: skip
    for wanted in ("Succeeded", "2.41", "base model 3.8", "99.6 %", "Is the printer switched on?",
                   "too much lost", "sha256:aaaa", "training.lora.rank", "torch", "4 min 51 s",
                   "exact duplicates", "trained parameters", "4,884,480",
                   "1.5 % of the tokens computed, 18.6 % without packing"):  # fmt: skip
        assert wanted in page.text, wanted


def test_agreement_is_shown_with_what_it_was_counted_from(finished: str) -> None:
    text = Page(finished).text

    assert "1,194" in text
    assert "98.9 % to 99.7 %, each end at 95 %" in text


def test_the_way_between_base_and_tuned_weights_is_drawn_and_said(finished: str) -> None:
    assert "at 0.5: held-out 2.62, general 2.93" in finished
    assert "The knee is at 0.5" in Page(finished).text


def test_how_the_judge_came_to_its_verdicts_is_told(finished: str) -> None:
    caption = "Pairs of answers that large compared, in both orders"

    rows = dict(row for row in rows_of(finished, caption))

    assert rows["tuned is better"] == "18"
    assert rows["verdicts for the one shown first"] == "56.0 % (48.0 % to 64.0 %)"
    assert rows["tokens"] == "24,800 read, 434 written"


def test_make_or_buy_stands_in_one_table(finished: str) -> None:
    assert rows_of(finished, "For 1,000 requests") == [
        ["tuned", "0.42", "31,000", "24,000", ""],
        ["large", "", "27,500", "41,000", "0.625"],
    ]
    assert "Please check its power cable." in Page(finished).text


def test_the_managed_models_score_is_that_of_the_tuned_ones_metric() -> None:
    used = {"promptTokens": 9, "completionTokens": 9}
    bought = {"model": "large", "perThousandRequests": {"reference": used}}
    file = EvaluationFile.model_validate({"metric": "rougeL", "reference": bought})
    measured = [
        EvaluationResult(suite="heldOut", split="reference", metric=metric, value=value, n=3)
        for metric, value in (("chrf", 0.9), ("rougeL", 0.37))
    ]

    table = OtherModels(file, measured).make_or_buy

    assert table is not None
    assert table.rows[0][:2] == ("large", "0.37")


def test_the_page_names_nothing_outside_itself(finished: str) -> None:
    page = Page(finished)

    assert finished.startswith("<!DOCTYPE html>")
    assert "src=" not in finished
    assert "<link" not in finished
    assert "url(" not in finished
    assert "@import" not in finished
    assert page.named("script") == []
    assert all(link["href"] == "#content" for link in page.named("a"))


def test_the_page_forbids_fetches_and_scripts_by_its_own_policy(finished: str) -> None:
    policies = [meta["content"] for meta in Page(finished).named("meta") if "http-equiv" in meta]

    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_charts_have_text_alternatives_and_tables_have_scopes_and_captions(finished: str) -> None:
    page = Page(finished)

    charts = page.named("svg")
    assert len(charts) >= 6
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert all(head["scope"] in {"row", "col"} for head in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))


def test_headings_form_an_outline(finished: str) -> None:
    levels = [int(name[1]) for name in Page(finished).headings()]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_identifiers_are_unique_and_everything_labelled_exists(finished: str) -> None:
    page = Page(finished)
    ids = [name for _, attributes in page.elements if (name := attributes.get("id"))]

    assert len(ids) == len(set(ids))
    assert {section["aria-labelledby"] for section in page.named("section")} <= set(ids)


def test_the_trained_part_of_a_row_is_marked(finished: str) -> None:
    row = finished.partition('<pre class="row">')[2].partition("</pre>")[0]

    end = '<span class="marker">&lt;|im_end|&gt;</span>'
    assert f"<mark>Is it switched on?{end}</mark>" in row
    assert "My printer is not printing." in row


def test_a_prompt_reads_as_a_conversation_without_the_markers_of_its_template(
    finished: str,
) -> None:
    prompt = finished.partition('<div class="prompt">')[2].partition("</div>")[0]

    assert prompt.strip() == '<p><span class="role">user</span> My printer is not printing.</p>'
    assert '<th scope="row">My printer is not printing.</th>' in finished


def test_the_lengths_of_the_rows_are_drawn_and_said(finished: str) -> None:
    page = Page(finished)

    said = [str(chart["aria-label"]) for chart in page.named("svg")]
    assert any("30 to 39 tokens: 3 rows; 40 to 49 tokens: 2 rows" in text for text in said)
    assert len([bar for bar in page.named("rect") if bar["class"] == "bar"]) == 10
    assert "the shortest 31, half up to 48, nine in ten up to 97" in page.text


@pytest.mark.parametrize(
    "histogram",
    [None, {}, {"start": 0, "width": 0, "counts": [1]}, {"start": 0, "width": 1, "counts": []}],
)
def test_a_card_without_sound_lengths_is_shown_without_the_drawing(
    tmp_path: Path, histogram: object
) -> None:
    job = a_finished_job(tmp_path)
    (path,) = job.folder.rglob("data-card.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "lengthHistogram": histogram}))

    page = Page(page_of(job))

    assert not [bar for bar in page.named("rect") if bar["class"] == "bar"]
    assert "exact duplicates" in page.text


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path)
    prepare = job.folder / "stages/prepare"
    for path in (*prepare.rglob("sample.json"), *prepare.rglob("data-card.json")):
        path.write_text(path.read_text().replace("My printer is not printing.", _inside_json()))
    for path in job.folder.rglob("evaluation.json"):
        path.write_text(path.read_text().replace("Is the printer switched on?", _inside_json()))
    job.status = job.status.model_copy(update={"warnings": [HOSTILE]})

    text = page_of(job)

    page = Page(text)
    assert page.named("script") == page.named("img") == []
    assert "src=" not in text
    assert page.text.count("alert('1')") == 3


def test_a_refused_job_says_why_what_to_do_and_with_which_numbers(tmp_path: Path) -> None:
    page = Page(page_of(a_failed_job(tmp_path)))

    assert "EvaluationGateFailed" in page.text
    assert "What to do:" in page.text
    assert "does not hold" in page.text
    assert "3.31" in page.text


def test_a_running_job_shows_its_curve_so_far_though_a_line_is_half_written(
    tmp_path: Path,
) -> None:
    page = Page(page_of(a_running_job(tmp_path)))

    sections = [section["aria-labelledby"] for section in page.named("section")]
    assert sections == ["warnings", "training", "data", "course", "origin", "words"]
    assert "50 s so far" in page.text


def test_a_job_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "new"
    folder.mkdir(parents=True)

    path = write_report(folder, FineTuneJobStatus())

    assert path == folder / "report.html"
    assert "not started" in Page(path.read_text()).text


@pytest.mark.parametrize("name", ["curve.jsonl", "evaluation.json", "data-card.json"])
@pytest.mark.parametrize("text", ["", "{", '{"samples": 3}', "[1, 2]", "\x00\xff"])
def test_a_broken_or_foreign_artifact_is_left_out(tmp_path: Path, name: str, text: str) -> None:
    job = a_finished_job(tmp_path)
    for path in job.folder.rglob(name):
        path.write_text(text)

    assert "Succeeded" in Page(page_of(job)).text


def test_a_job_whose_artifacts_are_gone_still_has_its_numbers(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path)
    for path in job.folder.rglob("artifacts/*"):
        if path.is_file():
            path.unlink()

    assert "base model 3.8" in Page(page_of(job)).text


def test_a_stage_that_the_report_has_never_heard_of_has_everything_in_a_plain_form(
    tmp_path: Path,
) -> None:
    job = a_finished_job(tmp_path)
    artifact = tmp_path / "attributions.json"
    artifact.write_text("{}")
    add_stage(
        job,
        "distil",
        facts={"method": "integratedGradients", "planted": {"wasFound": True, "rank": 1}},
        warnings=["2 of 40 prompts were cut"],
        evaluation=[
            EvaluationResult(
                suite="planted", split="explained", metric="deletion", value=0.731,
                low=0.7, high=0.76, base=0.5, n=40,
            ),
        ],
        artifacts=[artifact_of("attributions", artifact)],
    )  # fmt: skip

    page = Page(page_of(job))

    course = rows_of(page_of(job), "Stages")
    assert [row[0] for row in course][-2:] == ["publish", "distil"]
    assert course[-1][1:3] == ["done", "10 s"]
    assert rows_of(page_of(job), "Attempts")[-1][0] == "distil 1"
    assert rows_of(page_of(job), "What distil reported") == [
        ["method", "integratedGradients"],
        ["planted › was found", "yes"],
        ["planted › rank", "1"],
    ]
    assert "2 of 40 prompts were cut" in page.text
    assert rows_of(page_of(job), "Every measured value")[-1] == [
        "planted: deletion", "explained", "0.731", "0.7 – 0.76", "base", "0.5", "+0.231", "40",
    ]  # fmt: skip
    charts = [str(chart["aria-label"]) for chart in page.named("svg")]
    assert "planted: deletion: base 0.5; explained 0.731 (interval 0.7 to 0.76)" in charts
    assert "planted: deletion, 40 rows" in page.text
    assert rows_of(page_of(job), "What the stages made")[-1][0] == "distil: attributions"
    assert rows_of(page_of(job), "Lineage")[-2][0] == "key of distil"


def test_the_facts_of_an_unknown_stage_are_text_and_bounded(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path)
    add_stage(job, "distil", facts={"said": HOSTILE, "many": list(range(1000))})

    text = page_of(job)

    assert Page(text).named("script") == []
    assert len(rows_of(text, "What distil reported")) == 201
    assert rows_of(text, "What distil reported")[-1] == ["…", "801 more"]


def test_a_stage_that_the_job_does_not_go_through_has_no_row_anywhere(tmp_path: Path) -> None:
    text = page_of(a_running_job(tmp_path))

    assert [row[0] for row in rows_of(text, "Stages")] == ["prepare", "train"]
    assert [row[0] for row in rows_of(text, "Attempts")] == ["prepare 1", "train 1"]
    keys = [row[0] for row in rows_of(text, "Lineage") if row[0].startswith("key of")]
    assert keys == ["key of prepare", "key of train"]


def test_settings_are_in_the_order_of_the_reference_page_with_what_was_decided(
    tmp_path: Path,
) -> None:
    job = a_finished_job(tmp_path)
    spec = load_job((job.folder / "manifest.yaml").read_text()).spec

    settings = {path: [value, by] for path, value, by in rows_of(page_of(job), SETTINGS)}

    paths = list(settings)
    assert settings["training.optimizer.learningRate"] == ["0.0002", "default"]
    assert settings["training.evaluateEverySteps"] == ["3", "decided by the job"]
    assert settings["training.maxSteps"] == ["30", "decided by the job"]
    assert paths.index("training.maxSteps") == paths.index("training.epochs") + 1
    asked = [path for path in paths if path != "training.maxSteps"]
    assert asked == [setting.path for setting in describe(spec)]


def test_a_decision_that_the_spec_has_no_field_for_is_shown_last(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path)
    resolved = {"ofALaterVersion.depth": "7", **job.status.resolved}
    job.status = job.status.model_copy(update={"resolved": resolved})

    last = rows_of(page_of(job), SETTINGS)[-1]

    assert last == ["ofALaterVersion.depth", "7", "decided by the job"]


def test_libraries_are_shown_once_for_each_environment(finished: str) -> None:
    assert rows_of(finished, "Libraries, by their environment") == [
        ["server: vllm", "0.32.0"],
        ["trainer: python", "3.11.2"],
        ["trainer: torch", "2.13.0+cpu"],
    ]


def rows_of(text: str, caption: str) -> list[list[str]]:
    """The cells of the table below a caption."""
    body = text.partition(f"<caption>{caption}</caption>")[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body.partition("<tbody>")[2])
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def _inside_json() -> str:
    return json.dumps(HOSTILE)[1:-1]


def test_training_shows_three_losses_the_remedies_and_what_they_changed(tmp_path: Path) -> None:
    text = page_of(a_finished_job(tmp_path))

    for role in ("train", "trained", "tuned", "general"):
        assert f'class="line {role}"' in text
    page = Page(text)
    for words in (
        "sample of training rows",
        "Gap that training added",
        "training.earlyStopping",
        "0 steps saved",
        "no difference beyond chance",
        "with the remedies a step takes 0.12 s longer",
    ):
        assert words in page.text


def test_training_shows_tokens_gradients_and_memory_as_far_as_they_are_known(
    tmp_path: Path,
) -> None:
    text = Page(page_of(a_finished_job(tmp_path))).text

    assert "36,000 (40.0 %)" in text
    assert "10,000 (10.0 % of both)" in text
    assert "0.52, at most 3.1" in text
    assert "Peak memory of the process" in text
    # Neither had this machine.
    assert "MFU" not in text
    assert "Peak memory of the device" not in text
    assert "KL divergence" not in text


def test_a_job_that_measured_kl_shows_it_by_step(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path)
    (curve,) = job.folder.rglob("curve.jsonl")
    with curve.open("a") as file:
        for step, kl in ((0, 0.0), (15, 0.2), (30, 0.31)):
            file.write(json.dumps({"step": step, "kind": "kl", "loss": kl}) + "\n")

    text = page_of(job)

    assert "KL divergence from the base model by optimizer step" in text
    assert "KL from the base from 0 to 0.31" in text


def test_a_job_that_measured_no_sample_has_its_curve_alone(tmp_path: Path) -> None:
    """Of an older release: two kinds of points, and none of these facts."""
    job = a_running_job(tmp_path)
    (curve,) = job.folder.rglob("curve.jsonl")
    lines = curve.read_text().splitlines(keepends=True)
    curve.write_text("".join(line for line in lines if "trainSample" not in line))

    text = page_of(job)

    assert 'class="line tuned"' in text
    assert 'class="line trained"' not in text
    assert "Overfitting and forgetting" not in text
