// The page of all jobs: asks state.json again and again, and draws what has changed. Text becomes text, never markup.
import { html } from "./charts.js";

const LOOK_MS = 2000;
const at = (id) => document.getElementById(id);

let shown = "";
let state = null;
let failures = 0;
const chosen = new Set();

async function look() {
  try {
    const answer = await fetch("state.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    state = await answer.json();
    failures = 0;
  } catch {
    failures += 1;
  }
  if (!document.hidden) render();
  setTimeout(look, LOOK_MS);
}

function render() {
  at("live").className = `live ${failures > 1 ? "off" : state ? "on" : ""}`;
  setText("told", failures > 1 ? "no answer: tunesmith ui has ended; asking again" : state ? "live," : "looking");
  if (state === null) return;
  setText("home", state.home);
  // Drawn anew only where something is new: a reader's selection and focus stay otherwise.
  const now = JSON.stringify([state, [...chosen], at("find").value]);
  if (now === shown) return;
  shown = now;
  const focused = document.activeElement?.dataset?.key;
  renderRunning();
  renderJobs();
  renderCompare();
  renderModels();
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function setText(id, said) {
  // What is the same is left: a screen reader would read it again.
  if (at(id).textContent !== said) at(id).textContent = said;
}

const reportOf = (name) => `jobs/${encodeURIComponent(name)}/report`;
const link = (name, href, key) => html("a", { href, "data-key": key }, name);
const badge = (job) => html("span", { class: `badge ${job.role}` }, job.note || job.phase);

function renderRunning() {
  at("running").replaceChildren(...state.jobs.filter((job) => job.live).map((job) => {
    const bar = html("progress", { max: "100", "aria-label": `progress of ${job.name}` });
    if (job.percent !== null) bar.value = job.percent;
    const percent = job.percent === null ? "" : `${Math.round(job.percent)} % · `;
    return html("article", { class: "card" },
      html("h3", {}, link(job.name, reportOf(job.name), `card ${job.name}`), " ", badge(job)),
      bar,
      html("p", {}, `${percent}${job.doing || "waiting"}`),
      html("ul", { class: "steps" }, ...job.stages.map((stage) => html("li", { class: stage.state, title: stage.said },
        stage.state === "Pending" ? stage.name : link(stage.name, logOf(job, stage), `step ${job.name} ${stage.name}`)))));
  }));
}

const logOf = (job, stage) => `jobs/${encodeURIComponent(job.name)}/log/${encodeURIComponent(stage.name)}`;

function renderJobs() {
  const wanted = at("find").value.trim().toLowerCase();
  const jobs = state.jobs.filter((job) => `${job.name} ${job.phase} ${job.version}`.toLowerCase().includes(wanted));
  if (!jobs.length) {
    at("jobs").replaceChildren(html("p", { class: "empty" }, state.jobs.length ? "no job is called so" :
      "no jobs yet; begin one with: tunesmith init, then tunesmith run job.yaml"));
    return;
  }
  const head = ["compare", "job", "phase", "held-out loss", "version", "began", "took"];
  at("jobs").replaceChildren(table("Jobs", head, jobs.map((job) => [
    pick(job), link(job.name, reportOf(job.name), `job ${job.name}`), phaseOf(job), lossOf(job), job.version,
    job.age && `${job.age} ago`, job.took,
  ])));
}

function pick(job) {
  const box = html("input", { type: "checkbox", "aria-label": `compare ${job.name}`, "data-key": `pick ${job.name}` });
  box.checked = chosen.has(job.name);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(job.name); else chosen.delete(job.name);
    // Two at a time: of three, the one that was chosen first goes.
    if (chosen.size > 2) chosen.delete(chosen.values().next().value);
    render();
  });
  return box;
}

function phaseOf(job) {
  const failed = job.stages.find((stage) => stage.state === "Failed");
  return html("div", {}, badge(job),
    job.live ? html("span", { class: "soft" }, ` ${job.percent === null ? "" : `${Math.round(job.percent)} %`}`) : null,
    job.why ? html("div", { class: "why" }, job.why) : null,
    job.hint ? html("div", { class: "why" }, `What to do: ${job.hint}`) : null,
    failed ? html("div", { class: "why" }, link(`log of ${failed.name}`, logOf(job, failed), `log ${job.name}`)) : null);
}

const lossOf = (job) => job.loss && html("span", {}, job.loss,
  job.base ? html("span", { class: "soft" }, ` of ${job.base}`) : null);

function renderCompare() {
  const known = new Set(state.jobs.map((job) => job.name));
  for (const name of [...chosen]) if (!known.has(name)) chosen.delete(name);
  const [first, second] = chosen;
  at("compare").hidden = chosen.size === 0;
  if (chosen.size === 1) at("compare").replaceChildren(`${first}: choose one more to compare it with`);
  if (chosen.size === 2) {
    const asked = new URLSearchParams({ first, second });
    at("compare").replaceChildren(link(`Compare ${first} with ${second}`, `compare?${asked}`, "compare"));
  }
}

function renderModels() {
  if (!state.versions.length) {
    at("models").replaceChildren(html("p", { class: "empty" }, "none yet: a job that succeeds publishes one"));
    return;
  }
  const head = ["model", "version", "scheme", "held-out loss", "size", "age", "job", "where"];
  at("models").replaceChildren(table("Published models", head, state.versions.map((one) => [
    one.model, one.version, one.scheme, one.loss, one.size, one.age, one.job,
    one.problem ? html("span", { class: "badge bad" }, one.problem) : html("code", {}, one.where),
  ])));
}

/** A cell is text or an element; the first that names a row is its head. */
function table(caption, head, rows) {
  const named = head[0] === "compare" ? 1 : 0;
  const cells = (row) => row.map((cell, index) => html(index === named ? "th" : "td", {
    "data-label": head[index], ...(index === named ? { scope: "row" } : {}), ...(index < named ? { class: "pick" } : {}),
  }, cell));
  return html("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    html("table", { class: "wide" }, html("caption", {}, caption),
      html("thead", {}, html("tr", {}, ...head.map((name) => html("th", { scope: "col" }, name)))),
      html("tbody", {}, ...rows.map((row) => html("tr", {}, ...cells(row))))));
}

at("find").addEventListener("input", render);
document.addEventListener("visibilitychange", () => document.hidden || render());
look();
