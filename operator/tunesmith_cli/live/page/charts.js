// Line charts in SVG, with a cursor that mouse, finger and arrow keys move. Text becomes text here, never markup.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const EDGE = { top: 12, right: 10, bottom: 22, left: 54 };
const MINUTE = 60;

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A number that people can count along: 1, 2, 2.5, 5 or 10 times a power of ten. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((part) => part * power >= value * (1 - 1e-9)) * power;
}

export function clock(seconds, { precise = false } = {}) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(precise ? { second: "2-digit" } : {}) };
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", options);
}

/** Lines through what is known; a look that is missing leaves a gap. */
function paths(points, x, y, gap) {
  const parts = [];
  let part = null;
  let before = null;
  for (const [time, value] of points) {
    if (value === null || value === undefined) {
      part = null;
      continue;
    }
    if (part === null || time - before > gap) parts.push((part = []));
    part.push([x(time), y(value)]);
    before = time;
  }
  return parts;
}

/** What holds until it changes goes straight on, and then up or down. */
const stairs = (part) => part.flatMap(([a, b], index) => (index ? [[a, part[index - 1][1]], [a, b]] : [[a, b]]));

const text = (part) => part.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join("L");

/**
 * One figure that is drawn anew whenever there is news of it.
 *
 * `series` of `draw` are `{name, slot, kind, points: [[seconds, value or null], …]}`; kinds are "", "thin" and
 * "dashed". `format` makes text of a value, `limit` is `{value, name}`, `empty` what to say without any value.
 */
export class LineChart {
  constructor(figure, title, unit) {
    this.caption = html("figcaption", {}, title, html("span", { class: "unit" }, unit));
    this.title = title;
    this.box = html("div");
    this.tip = html("div", { class: "tip", hidden: "" });
    figure.append(this.box, this.caption, this.tip);
    this.figure = figure;
    this.cursor = null;
    new ResizeObserver(() => this.last && this.draw(this.last)).observe(figure);
  }

  draw(wanted) {
    this.last = wanted;
    const width = Math.max(240, this.box.clientWidth);
    const values = wanted.series.flatMap((line) => line.points.map((point) => point[1])).filter((v) => v !== null && v !== undefined);
    if (values.length === 0) {
      this.tip.hidden = true;
      this.box.replaceChildren(html("p", { class: "empty" }, wanted.empty));
      return;
    }
    const top = wanted.top ?? roundUp(Math.max(...values, wanted.limit?.value ?? 0, wanted.least ?? 0) * 1.05 || 1);
    const span = wanted.to - wanted.from;
    const x = (time) => EDGE.left + ((time - wanted.from) / span) * (width - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - (Math.min(value, top) / top) * (HEIGHT - EDGE.top - EDGE.bottom);
    const drawing = svg("svg", {
      class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", tabindex: "0", "aria-label": this.summary(wanted),
    });
    drawing.append(...this.grid(wanted, { x, y, top, width }));
    for (const line of wanted.series) {
      for (const part of paths(line.points, x, y, wanted.gap).map((each) => (line.stepped ? stairs(each) : each))) {
        if (line.filled) {
          const floor = y(0).toFixed(1);
          const closed = `M${part[0][0].toFixed(1)},${floor}L${text(part)}L${part.at(-1)[0].toFixed(1)},${floor}Z`;
          drawing.append(svg("path", { class: `area s${line.slot}`, d: closed }));
        }
        // A point alone is a line of no length, which a round cap makes a dot.
        drawing.append(svg("path", { class: `path s${line.slot} ${line.kind ?? ""}`, d: `M${text(part)}${part.length === 1 ? "h0" : ""}` }));
      }
    }
    this.pointer = svg("g");
    drawing.append(this.pointer);
    this.follow(drawing, { x, y, width });
    const hadFocus = this.box.contains(document.activeElement);
    this.box.replaceChildren(drawing);
    if (hadFocus) drawing.focus({ preventScroll: true });
    this.point();
  }

  grid(wanted, { x, y, top, width }) {
    const made = [];
    for (const part of [0, 0.5, 1]) {
      const at = y(top * part);
      made.push(svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: at, y2: at }));
      made.push(svg("text", { class: "axis", x: EDGE.left - 8, y: at + 4, "text-anchor": "end" }, wanted.format(top * part)));
    }
    const span = wanted.to - wanted.from;
    const steps = [1, 2, 5, 10, 15, 20, 30].map((minutes) => minutes * MINUTE);
    const step = steps.find((each) => span / each <= (width - EDGE.left) / 80) ?? 30 * MINUTE;
    for (let time = Math.ceil(wanted.from / step) * step; time <= wanted.to; time += step) {
      if (x(time) < EDGE.left + 14 || x(time) > width - 20) continue;
      made.push(svg("text", { class: "axis", x: x(time), y: HEIGHT - 4, "text-anchor": "middle" }, clock(time)));
    }
    if (wanted.limit) {
      const at = y(wanted.limit.value);
      made.push(svg("line", { class: "limit", x1: EDGE.left, x2: width - EDGE.right, y1: at, y2: at }));
      made.push(svg("text", { class: "limit-name", x: EDGE.left + 4, y: at - 5 }, wanted.limit.name));
    }
    return made;
  }

  follow(drawing, scale) {
    this.scale = scale;
    const { from, to } = this.last;
    const timeAt = (event) => {
      const box = drawing.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * scale.width;
      return from + ((place - EDGE.left) / (scale.width - EDGE.left - EDGE.right)) * (to - from);
    };
    const leave = () => {
      this.cursor = null;
      this.point();
    };
    drawing.addEventListener("pointermove", (event) => {
      this.cursor = timeAt(event);
      this.point();
    });
    drawing.addEventListener("pointerleave", leave);
    drawing.addEventListener("blur", leave);
    drawing.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.cursor = Math.min(to, Math.max(from, (this.cursor ?? to) + (steps[event.key] * (to - from)) / 60));
      this.point();
    });
  }

  /** Values at the cursor, of the looks next to it. */
  point() {
    const { series, format } = this.last;
    this.tip.hidden = true;
    this.pointer?.replaceChildren();
    if (this.cursor === null) return;
    const near = series.map((line) => {
      const known = line.points.filter((point) => point[1] !== null && point[1] !== undefined);
      return known.reduce((best, point) => (best === null || Math.abs(point[0] - this.cursor) < Math.abs(best[0] - this.cursor) ? point : best), null);
    });
    const times = near.filter((point) => point !== null).map((point) => point[0]);
    if (times.length === 0) return;
    const time = times.reduce((best, each) => (Math.abs(each - this.cursor) < Math.abs(best - this.cursor) ? each : best));
    const { x, y, width } = this.scale;
    this.pointer.append(svg("line", { class: "cursor", x1: x(time), x2: x(time), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    this.tip.replaceChildren(html("p", { class: "when" }, clock(time, { precise: true })));
    series.forEach((line, index) => {
      const point = near[index];
      if (point === null || Math.abs(point[0] - time) > this.last.gap) return;
      this.pointer.append(svg("circle", { class: `dot s${line.slot}`, cx: x(point[0]), cy: y(point[1]), r: 4 }));
      this.tip.append(html("p", {}, html("span", {}, line.name), html("span", {}, format(point[1]))));
    });
    this.tip.hidden = false;
    const left = this.box.offsetLeft + x(time) + 10;
    const flipped = left + this.tip.offsetWidth > this.box.offsetLeft + width;
    this.tip.style.left = `${flipped ? Math.max(4, left - this.tip.offsetWidth - 20) : left}px`;
    this.tip.style.top = `${this.box.offsetTop + 14}px`;
  }

  /** The newest values in words, for those who do not see the lines. */
  summary({ series, format }) {
    const said = series.map((line) => {
      const newest = line.points.filter((point) => point[1] !== null && point[1] !== undefined).at(-1);
      return newest ? `${line.name} ${format(newest[1])}` : null;
    });
    return `${this.title}, newest: ${said.filter((each) => each !== null).join("; ")}`;
  }
}
