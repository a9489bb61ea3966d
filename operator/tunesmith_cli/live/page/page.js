// The page of one deployment: asks /state.json again and again, and draws what has changed.
import { LineChart, clock, html, svg } from "./charts.js";

const KEPT = 3600;
const SLOTS = 4;
const GOOD = new Set(["Serving"]);
const BAD = new Set(["Failed", "RollingBack"]);
const at = (id) => document.getElementById(id);

let instance = null;
let points = [];
let view = null;
let lookSeconds = 5;
let failures = 0;
let range = 900;
// Those that have a line, in the order of their colours.
let signals = [];
const slots = new Map();

const charts = {
  ttft: new LineChart(at("ttft"), "Time to first token", "p50 and p95"),
  itl: new LineChart(at("itl"), "Inter-token latency", "p50 and p95"),
  share: new LineChart(at("share"), "Split", "achieved and wanted"),
  requests: new LineChart(at("requests"), "Requests", "per second"),
  failed: new LineChart(at("failed"), "Errors and broken answers", "share"),
  tokens: new LineChart(at("tokens"), "Tokens generated", "per second"),
  drift: new LineChart(at("drift"), "Evidence that traffic has drifted", "against the threshold"),
  cost: new LineChart(at("cost"), "Cost", "per million tokens"),
};

const isKnown = (value) => value !== null && value !== undefined;
const short = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 4 });
const perSecond = (value) => `${short(value)}/s`;
const percent = (value) => `${Number((100 * value).toFixed(value < 0.1 ? 2 : 1))} %`;
const latency = (seconds) => (Number(seconds.toPrecision(3)) < 1 ? `${short(1000 * seconds)} ms` : `${short(seconds)} s`);
const or = (value, format) => (isKnown(value) ? format(value) : "–");

/** The colour of a revision; it keeps it when it becomes stable. */
function slotOf(revision) {
  if (!slots.has(revision)) slots.set(revision, slots.size % SLOTS);
  return slots.get(revision);
}

async function look() {
  try {
    let told = await ask(points.length ? points.at(-1).seq : 0);
    if (told.instance !== instance) {
      // Another process: what was numbered before says nothing of it.
      instance = told.instance;
      points = [];
      told = await ask(0);
    }
    lookSeconds = told.lookSeconds;
    view = told.view ?? view;
    points.push(...told.points);
    const newest = points.length ? points.at(-1).time : 0;
    points = points.filter((point) => point.time > newest - KEPT);
    for (const point of told.points) Object.keys(point.revisions).forEach(slotOf);
    failures = 0;
  } catch {
    failures += 1;
  }
  if (!document.hidden) render();
  setTimeout(look, 1000 * Math.max(0.5, lookSeconds / 2));
}

async function ask(after) {
  const answer = await fetch(`/state.json?after=${after}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

function render() {
  renderAge();
  if (view === null) return;
  renderHead();
  renderFigures();
  renderSplit();
  renderRevisions();
  renderCharts();
  renderJudge();
  renderDrift();
  renderPromises();
  renderReplicas();
}

function renderAge() {
  const age = view ? Math.max(0, Date.now() / 1000 - Date.parse(view.time) / 1000) : 0;
  const isLost = failures > 1;
  const isOld = view && age > 4 * lookSeconds;
  at("live").className = `live ${isLost || isOld ? "off" : view ? "on" : ""}`;
  const served = view && !view.served ? "nothing serves it now; " : "";
  setText("age", isLost ? "no answer: tunesmith deploy has ended, or is busy; asking again" :
    view === null ? "waiting for the first look" :
    isOld ? `numbers are ${Math.round(age)} s old; tunesmith deploy is busy` : `${served}live, ${clock(Date.parse(view.time) / 1000, { precise: true })}`);
}

function setText(id, said) {
  // What is the same is left: a screen reader would read it again.
  if (at(id).textContent !== said) at(id).textContent = said;
}

function renderHead() {
  document.title = `${view.name}: ${view.phase} – Tunesmith`;
  setText("kind", `Model deployment of ${view.model}`);
  setText("name", view.name);
  setText("phase", view.phase);
  at("phase").className = `badge ${GOOD.has(view.phase) ? "good" : BAD.has(view.phase) ? "bad" : "waiting"}`;
  setText("headline", [view.reason, view.message].filter(Boolean).join(": "));
  at("endpoint").replaceChildren(...(view.endpoint ? [" · clients use ", html("code", {}, view.endpoint)] : []));
  setText("window", String(Math.round(view.windowSeconds) || 30));
  setText("command", `tunesmith watch ${view.name}`);
  const said = JSON.stringify(view.warnings);
  if (at("warnings").dataset.said === said) return;
  at("warnings").dataset.said = said;
  at("warnings").replaceChildren(...view.warnings.map((warned) =>
    html("div", { class: "verdict bad" }, html("p", {}, html("strong", {}, warned.types.join(", ")), ` ${warned.message}`))));
}

function renderFigures() {
  const total = view.total;
  const stable = view.revisions.find((each) => each.role === "stable")?.traffic;
  const failed = total && isKnown(total.errors) ? total.errors + total.incomplete : null;
  const ready = view.revisions.reduce((sum, each) => sum + each.readyReplicas, 0);
  const wanted = view.revisions.filter((each) => each.role !== "draining").reduce((sum, each) => sum + each.replicas, 0);
  figures([
    ["Requests", or(total?.requestsPerSecond, perSecond), total ? "of all versions" : view.missing.traffic],
    ["Errors and broken", or(failed, percent), "of what was answered", failed > 0.01],
    ["First token, p95", or(stable?.ttft?.p95, latency), stable?.ttft ? "stable, streamed" : "no streamed answer"],
    ["Inter-token, p95", or(stable?.itl?.p95, latency), "stable"],
    ["Tokens", or(total?.tokensPerSecond, perSecond), "generated"],
    ["Per million tokens", or(view.cost?.perMillionTokens, short), view.missing.cost ? "unknown, see below" : "in the price's currency"],
    ["Replicas ready", `${ready} of ${wanted}`, "", ready < wanted],
  ]);
}

function figures(rows) {
  at("figures").replaceChildren(...rows.map(([name, value, note, isAlarm]) =>
    html("div", {}, html("dt", {}, name), html("dd", isAlarm ? { class: "alarm" } : {}, value), html("dd", { class: "note" }, note))));
}

function renderSplit() {
  const rows = [
    ["wanted", view.revisions.map((each) => [each, each.weight])],
    ["achieved", view.revisions.map((each) => [each, each.achievedWeight])],
  ];
  const made = rows.flatMap(([what, parts]) => [html("span", { class: "what" }, what), track(what, parts)]);
  at("split").replaceChildren(html("div", { class: "split" }, ...made));
}

/** A bar of a hundred percent. */
function track(what, parts) {
  const known = parts.filter(([, share]) => share > 0);
  if (known.length === 0) {
    const said = what === "wanted" ? "no version gets requests" : "no requests since the split changed";
    return html("div", { class: "track" }, html("span", { class: "none" }, said));
  }
  const said = known.map(([each, share]) => `${each.version} ${Math.round(share)} %`).join(", ");
  return html("div", { class: "track", role: "img", "aria-label": `${what}: ${said}` }, ...known.map(([each, share]) => {
    const text = `${Math.round(share)} %`;
    const part = html("span", { class: `part s${slotOf(each.revision)}`, title: `${each.version}: ${text}` }, share < 8 ? "" : text);
    part.style.flexGrow = share;
    return part;
  }));
}

function renderRevisions() {
  const three = (times, name) => or(times?.[name], latency);
  table("revisions", "Versions and their requests of the last seconds",
    ["Version", "Role", "Weight", "Achieved", "Ready", "Requests", "Errors", "Broken off", "TTFT p50", ["p95", "TTFT p95"], ["p99", "TTFT p99"], "ITL p50", ["p95", "ITL p95"], ["p99", "ITL p99"]],
    view.revisions.map((each) => {
      const traffic = each.traffic;
      const head = html("th", { scope: "row", class: `version s${slotOf(each.revision)}` }, each.version);
      return [head, each.role, each.mirror ? `${each.mirror} % copies` : `${each.weight} %`,
        or(each.achievedWeight, (value) => `${Math.round(value)} %`), `${each.readyReplicas}/${each.replicas}`,
        or(traffic?.requestsPerSecond, perSecond), or(traffic?.errors, percent), or(traffic?.incomplete, percent),
        ...["p50", "p95", "p99"].map((name) => three(traffic?.ttft, name)), ...["p50", "p95", "p99"].map((name) => three(traffic?.itl, name))];
    }), "no version serves yet");
}

function renderCharts() {
  const to = points.length ? points.at(-1).time : Date.now() / 1000;
  const since = points.length ? points[0].time : to;
  // A chart that has just begun is not squeezed into its right edge.
  const from = Math.max(to - range, Math.min(since, to - 120));
  const shown = points.filter((point) => point.time >= from);
  const names = new Map();
  for (const point of shown) for (const [revision, each] of Object.entries(point.revisions)) names.set(revision, each);
  renderLegend(names);
  const line = (revision, name, read, more = {}) => ({
    name: `${names.get(revision).version}${name}`, slot: slotOf(revision),
    points: shown.map((point) => [point.time, point.revisions[revision] ? read(point.revisions[revision]) ?? null : null]), ...more,
  });
  const each = (read, more) => [...names.keys()].map((revision) => line(revision, "", read, more));
  const both = (read) => [...names.keys()].flatMap((revision) => [
    line(revision, " p50", (one) => read(one)?.p50, { kind: "thin" }), line(revision, " p95", (one) => read(one)?.p95)]);
  const frame = { from, to, gap: 3 * lookSeconds };
  const none = view.missing.traffic || "no requests in this time";
  charts.ttft.draw({ ...frame, series: both((one) => one.ttft), format: latency, empty: view.missing.traffic || "no streamed answer in this time" });
  charts.itl.draw({ ...frame, series: both((one) => one.itl), format: latency, empty: view.missing.traffic || "no streamed answer in this time" });
  charts.share.draw({ ...frame, top: 100, format: (value) => `${Math.round(value)} %`, empty: "no version serves yet", series: [
    ...[...names.keys()].map((revision) => line(revision, " wanted", (one) => one.weight, { kind: "dashed", stepped: true })),
    ...[...names.keys()].map((revision) => line(revision, " achieved", (one) => one.achievedWeight, { stepped: true }))] });
  charts.requests.draw({ ...frame, series: each((one) => one.requestsPerSecond, { filled: true }), format: short, empty: none });
  charts.failed.draw({ ...frame, series: each((one) => one.failed, { filled: true }), least: 0.01, format: percent, empty: none });
  charts.tokens.draw({ ...frame, series: each((one) => one.tokensPerSecond, { filled: true }), format: short, empty: none });
  signals = [...new Set(shown.flatMap((point) => Object.keys(point.drift)))].slice(0, SLOTS);
  charts.drift.draw({ ...frame, limit: { value: 1, name: "drift" }, format: (value) => `${Math.round(100 * value)} %`, empty: view.missing.drift || "no signal was seen in this time",
    series: signals.map((signal, slot) => ({ name: signal, slot, points: shown.map((point) => [point.time, point.drift[signal] ?? null]) })) });
  charts.cost.draw({ ...frame, format: short, empty: view.missing.cost || "no tokens in the last hour",
    series: [{ name: "per million tokens", slot: 0, filled: true, points: shown.map((point) => [point.time, point.perMillionTokens ?? null]) }] });
}

function renderLegend(names) {
  const made = [...names].map(([revision, each]) => html("span", { class: `key s${slotOf(revision)}` }, `${each.version} (${each.role})`));
  const styles = [["thick", "p95, achieved"], ["thin", "p50"], ["dashed", "wanted"]].map(([kind, said]) => html("span", { class: `key ${kind}` }, said));
  at("legend").replaceChildren(...made, ...styles);
}

function renderJudge() {
  const verdict = view.verdict;
  const kinds = { promote: "good", rollback: "bad", inconclusive: "waiting" };
  const said = verdict ? html("div", { class: `verdict ${kinds[verdict.decision] ?? "calm"}` }, html("p", {},
    html("strong", {}, `${verdict.version}: ${verdict.decision}`), ` ${verdict.message}`, verdict.isFinal ? "" : " Not final yet.")) :
    html("p", { class: "about" }, view.missing.verdict);
  const rejected = view.rejected.map((each) => html("p", { class: "about" }, `${each.version} was taken back (${each.reason}): ${each.message}`));
  const evidence = html("div", { id: "evidence" });
  at("judge").replaceChildren(said, evidence, ...rejected);
  if (!verdict || verdict.evidence.length === 0) return;
  table("evidence", "Evidence of the judge", ["Metric", "Effect", "From", "To", "Against it", "For it", "Stable", "Candidate"],
    verdict.evidence.map((row) => [html("th", { scope: "row" }, row.metric), ...[row.effect, row.lower, row.upper].map((value) => effect(value, view.compared[row.metric])),
      evidenceText(row.harm), evidenceText(row.promotion), short(row.stable), short(row.candidate)]), "");
}

/** Points of a share, per cent of a ratio, or a loss in its own unit. */
function effect(value, compared) {
  if (!isKnown(value)) return "–";
  const sign = value > 0 ? "+" : "";
  if (compared === "rate") return `${sign}${(100 * value).toFixed(2)} pt`;
  return compared === "ratio" ? `${sign}${(100 * value).toFixed(1)} %` : `${sign}${value.toFixed(3)}`;
}

const evidenceText = (value) => (value > 1e6 ? "> 1,000,000" : short(value));

function renderDrift() {
  const traffic = view.trafficDrift;
  const artifact = view.artifact;
  at("artifact").replaceChildren(html("h3", {}, "Answers as published"), ...(artifact ? [
    html("p", { class: "large" }, artifact.mismatch ? "they differ" : isKnown(artifact.worstNats) ? "they match" : "not asked yet"),
    html("p", { class: "about" }, artifact.mismatch ? artifact.message :
      isKnown(artifact.worstNats) ? `The worst of ${short(artifact.probes)} probes is ${short(artifact.worstNats)} nats from what verify recorded.` : "")] :
    [html("p", { class: "about" }, view.missing.artifact)]));
  if (!traffic?.signals.length) return at("signals").replaceChildren();
  const limit = traffic.thresholdLogE;
  table("signals", "Signals of the traffic against the training data", ["Signal", "Effect", "", "Evidence", "Threshold", ""], traffic.signals.map((each) => [
    html("th", { scope: "row", class: signals.includes(each.signal) ? `version s${signals.indexOf(each.signal)}` : "" }, each.signal), each.effect.toFixed(2), meter(each.effect, traffic.drifted.includes(each.signal)),
    short(each.logE), or(limit, short), traffic.drifted.includes(each.signal) ? html("span", { class: "badge bad" }, "drifted") : ""]), "");
}

function meter(part, isBad) {
  const width = Math.min(1, Math.max(0, part));
  return svg("svg", { class: "meter", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "rail", width: 1, height: 1 }), svg("rect", { class: `fill ${isBad ? "bad" : ""}`, width, height: 1 }));
}

function renderPromises() {
  table("promises", "Promises to clients", ["Promise", "Objective", "Burn rate", "Budget left", "", ""], view.slos.map((slo) => [
    html("th", { scope: "row" }, slo.name), `${Number((100 * slo.objective).toFixed(3))} %`, or(slo.burnRate, (value) => `${short(value)} ×`),
    or(slo.budgetRemaining, percent), isKnown(slo.budgetRemaining) ? meter(slo.budgetRemaining, slo.budgetRemaining < 0.1) : "",
    slo.burning ? html("span", { class: "badge bad" }, "burning") : ""]), view.missing.slos);
  const cost = view.cost;
  const rows = cost ? [["per request", cost.perRequest], ["accelerator hours in 30 days", cost.acceleratorHours || null], ["for one accelerator hour", cost.pricePerAcceleratorHour]] : [];
  const known = rows.filter(([, value]) => isKnown(value));
  at("spent").replaceChildren(html("h3", {}, "What it costs"), ...(known.length ? known.map(([name, value]) => html("p", {}, html("strong", {}, short(value)), ` ${name}`)) :
    [html("p", { class: "about" }, view.missing.cost || "nothing was counted yet")]));
}

function renderReplicas() {
  const kind = (state) => ({ Ready: "good", NoAnswer: "bad" })[state] ?? "waiting";
  table("replicas", "Replicas", ["Replica", "Version", "State", "Running", "Started again", ""], view.replicas.map((each) => [
    html("th", { scope: "row" }, each.name), each.version, html("span", { class: `badge ${kind(each.state)}` }, each.state),
    or(each.running, short), each.restarts ? `${each.restarts} ×` : "", html("td", { class: "said" }, each.message)]), "no replica was started yet");
  table("conditions", "Conditions", ["Type", "Status", "Reason", "Message"], view.conditions.map((each) => [
    html("th", { scope: "row" }, each.type), each.status, each.reason, html("td", { class: "said" }, each.message)]), "none yet");
}

/**
 * A table whose rows are cells: text, an element inside a cell, or a cell. On a phone it becomes a list, where the
 * heads are labels; a head may be two texts, that for the table and that for the list.
 */
function table(id, caption, heads, rows, empty) {
  if (rows.length === 0) return at(id).replaceChildren(html("p", { class: "about" }, empty));
  const head = heads.map((each) => [each].flat()[0]);
  const labels = heads.map((each) => [each].flat().at(-1));
  const cell = (given, index) => {
    if (given instanceof HTMLTableCellElement && given.tagName === "TH") return given;
    const made = given instanceof HTMLTableCellElement ? given : html("td", given instanceof SVGElement ? { class: "meter-cell" } : {}, given);
    made.dataset.label = labels[index];
    return made;
  };
  const body = rows.map((row) => html("tr", {}, ...row.map(cell)));
  // The box can be scrolled, so it must be reached by keyboard.
  const box = html("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    html("table", { class: "wide" }, html("caption", {}, caption),
      html("thead", {}, html("tr", {}, ...head.map((name) => html("th", { scope: "col" }, name)))), html("tbody", {}, ...body)));
  const old = at(id).firstElementChild;
  const hadFocus = old !== null && old === document.activeElement;
  const scrolled = old?.scrollLeft ?? 0;
  at(id).replaceChildren(box);
  box.scrollLeft = scrolled;
  if (hadFocus) box.focus({ preventScroll: true });
}

at("range").addEventListener("change", (event) => {
  range = Number(event.target.value);
  if (view !== null) renderCharts();
});
document.addEventListener("visibilitychange", () => document.hidden || render());
setInterval(renderAge, 1000);
look();
