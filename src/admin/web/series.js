// One series in a dialog: its chart over hours of local history with what comes live, the same as a table, and what is usual.

import { Chart } from "./chart.js";
import { byId, canBeAsked, element, seriesPath, setText, short, span, spoken, utc } from "./text.js";

const POINTS = 600;
const LIVE_MAX = 4000;
// An answer of history takes a limited time, and says where to go on.
const ANSWERS_MAX = 12;
const LOAD_EVERY_MS = 30_000;
// What was measured so long before it was read comes into a chart that follows.
const LATE_MS = 60_000;
const ROWS_MAX = 200;

const dialog = byId("series");
// next: the query for what is older and not read yet; readMs: up to when everything was read; knownFromMs: from when on it was read again.
const emptyHistory = () => ({ points: [], anomalies: [], alerts: [], pointMs: 0, next: null, readMs: -Infinity, knownFromMs: Infinity });

// Points of two answers, in the order of time. One in the middle of which the first answer stopped is in both.
function together(older, newer) {
  const all = new Map(older.map(point => [point.at_ms, point]));
  for (const point of newer) {
    const other = all.get(point.at_ms);
    if (!other) {
      all.set(point.at_ms, point);
      continue;
    }
    const count = point.count + other.count;
    all.set(point.at_ms, {
      at_ms: point.at_ms,
      min: Math.min(point.min, other.min),
      max: Math.max(point.max, other.max),
      mean: (point.mean * point.count + other.mean * other.count) / count,
      count,
    });
  }
  return [...all.values()].sort((a, b) => a.at_ms - b.at_ms);
}

// With an answer that has what is older.
function joined(part, found) {
  const isOlder = ms => ms < found.knownFromMs;
  return {
    ...found,
    points: together(
      part.points.filter(point => isOlder(point.at_ms)),
      found.points,
    ),
    anomalies: found.anomalies.concat(part.anomalies.filter(it => isOlder(it.measured_at_ms))),
    alerts: found.alerts.concat(part.alerts),
    pointMs: part.point_ms,
    next: part.next,
  };
}

export class SeriesView {
  #link;
  #shown = null;
  #history = emptyHistory();
  #live = [];
  #alerts = [];
  #explanation = null;
  #isFollowing = true;
  #spanMs = 600_000;
  #loading = 0;
  #timer = 0;
  #onChange;
  #last = null;
  #opener = null;

  // onChange(): another series is shown, or none.
  constructor(link, onChange) {
    this.#link = link;
    this.#onChange = onChange;
    this.chart = new Chart(
      byId("chart"),
      (from, to) => this.#moved(from, to),
      () => link.now(),
    );
    byId("series-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.#closed());
    dialog.addEventListener("click", event => {
      if (event.target === dialog) dialog.close();
    });
    for (const button of dialog.querySelectorAll("[data-minutes]"))
      button.addEventListener("click", () => this.#follow(button.dataset.minutes * 60_000));
    byId("series-live").addEventListener("click", () => this.#follow(this.#spanMs));
    byId("series-back").addEventListener("click", () => this.chart.pan(-0.5));
    byId("series-forth").addEventListener("click", () => this.chart.pan(0.5));
    byId("series-table").addEventListener("toggle", () => this.#showTable());
    addEventListener("hashchange", () => this.#openFromAddress());
    setInterval(() => this.#tick(), 1000);
  }

  get device() {
    return this.#shown?.device;
  }

  // A link to a series is an address that can be kept.
  open(device, metric) {
    location.hash = "series=" + encodeURIComponent(device) + "/" + encodeURIComponent(metric);
    this.#openFromAddress();
  }

  #openFromAddress() {
    const names = /^#series=([^/]+)\/([^/]+)$/.exec(location.hash);
    if (!names) {
      if (dialog.open) dialog.close();
      return;
    }
    let device, metric;
    try {
      [device, metric] = [decodeURIComponent(names[1]), decodeURIComponent(names[2])];
    } catch {
      return;
    }
    if (this.#shown?.device === device && this.#shown?.metric === metric) return;
    this.#shown = { device, metric };
    this.#history = emptyHistory();
    [this.#live, this.#explanation, this.#last] = [[], null, null];
    setText("series-title", spoken(metric));
    setText("series-device", device + " · " + metric);
    for (const id of ["series-value", "series-age", "series-said", "series-text"]) setText(id, "");
    if (!dialog.open) {
      this.#opener = document.activeElement?.dataset?.key;
      dialog.showModal();
    }
    this.#follow(this.#spanMs);
    this.#explain();
    this.#readValue();
    this.#onChange();
  }

  // Events only tell what comes.
  async #readValue() {
    const { device } = this.#shown;
    const values = await this.#ask("/api/values?device=" + encodeURIComponent(device));
    if (values) this.takeValues(values);
  }

  start() {
    this.#openFromAddress();
  }

  #closed() {
    clearTimeout(this.#timer);
    this.#shown = null;
    // What had the focus may have been drawn anew meanwhile.
    if (this.#opener && document.activeElement === document.body)
      [...document.querySelectorAll("[data-key]")].find(it => it.dataset.key === this.#opener)?.focus({ preventScroll: true });
    if (location.hash.startsWith("#series=")) history.replaceState(null, "", location.pathname);
    this.#onChange();
  }

  #follow(spanMs) {
    [this.#spanMs, this.#isFollowing] = [spanMs, true];
    const now = this.#link.now();
    this.chart.show(now - spanMs, now);
    this.#showRange();
    this.#load();
  }

  #moved(from, to) {
    const now = this.#link.now();
    this.#spanMs = to - from;
    this.#isFollowing = to >= now - this.#spanMs * 0.02 && to <= now + this.#spanMs * 0.1;
    this.#showRange();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), 250);
  }

  #showRange() {
    for (const button of dialog.querySelectorAll("[data-minutes]"))
      button.setAttribute("aria-pressed", String(Math.abs(button.dataset.minutes * 60_000 - this.#spanMs) < 1000));
    byId("series-live").setAttribute("aria-pressed", String(this.#isFollowing));
  }

  #tick() {
    if (!this.#shown) return;
    const now = this.#link.now();
    if (this.#isFollowing) this.chart.show(now - this.#spanMs, now);
    if (this.#last) {
      const silentMs = now - this.#last.heard_at_ms;
      setText(
        "series-age",
        (silentMs > this.#last.stale_after_ms ? "no data for " : "") +
          span(silentMs) +
          (silentMs > this.#last.stale_after_ms ? "" : " ago"),
      );
    }
    if (now - this.#loading > LOAD_EVERY_MS && (this.#isFollowing || this.#history.next)) {
      this.#load();
      this.#explain();
    }
  }

  // Values as they come; the newest of each second.
  takeValues(values) {
    for (const value of values) {
      if (value.device !== this.#shown?.device || value.metric !== this.#shown?.metric) continue;
      this.#last = value;
      setText("series-value", short(value.value));
      if (value.value === null || this.#live.at(-1)?.at_ms >= value.measured_at_ms) continue;
      this.#live.push({ at_ms: value.measured_at_ms, min: value.value, mean: value.value, max: value.value, count: 1 });
      if (this.#live.length > LIVE_MAX) this.#live.shift();
      this.#show();
    }
  }

  takeAlerts(alerts) {
    this.#alerts = alerts;
    if (this.#shown) this.#show();
  }

  async #explain() {
    const shown = this.#shown;
    const answer = await this.#ask(seriesPath(shown.device, shown.metric));
    if (shown !== this.#shown) return;
    this.#explanation = answer;
    setText("series-text", answer ? answer.text : "This series is not watched: nothing is learned of it.");
    this.#show();
  }

  async #ask(path) {
    if (!canBeAsked([this.#shown.device, this.#shown.metric])) return null;
    try {
      const answer = await fetch(path);
      return answer.ok ? await answer.json() : null;
    } catch {
      return null;
    }
  }

  // All of the range, or what is not known of it yet.
  async #load() {
    const shown = this.#shown,
      range = this.chart.range,
      now = this.#link.now();
    this.#loading = now;
    // Somebody may move on meanwhile.
    const isCurrent = () => shown === this.#shown && now === this.#loading;
    const spanMs = range.to - range.from,
      wanted = { from: Math.floor(range.from - spanMs * 0.1), to: Math.ceil(Math.min(range.to + spanMs * 0.1, now + 1000)) };
    let found = this.#history;
    const isSame = this.#isFollowing ? this.#canGoOn(spanMs, now) : found.range === range;
    if (!isSame) {
      const next = "from_ms=" + wanted.from + "&to_ms=" + wanted.to + "&points=" + POINTS;
      found = { ...emptyHistory(), next, range, spanMs, readMs: wanted.to >= now ? now : -Infinity };
    } else if (this.#isFollowing) {
      found = await this.#withNewest(found, wanted.from, now, isCurrent);
      if (!isCurrent()) return;
      this.#history = found;
      this.#show();
    }
    for await (const part of this.#answers(found.next, isCurrent)) {
      setText("series-said", part.next ? "Reading older history …" : "");
      found = joined(part, found);
      // What was shown before stays until there is as much of the new.
      if (isSame || !found.next || found.points.length > this.#history.points.length) this.#history = found;
      this.#show();
    }
    if (!isCurrent()) return;
    if (found.pointMs) this.#history = found;
    this.#show();
    if (byId("series-said").textContent.startsWith("Reading")) setText("series-said", "Older history takes long to read; more of it follows.");
  }

  // Whether only what came since the last time is to be read.
  #canGoOn(spanMs, now) {
    const { pointMs, spanMs: known, readMs } = this.#history;
    return pointMs > 0 && Math.abs(known - spanMs) < 1 && now - readMs < spanMs / 2;
  }

  // What came since, and a little before. It is read in whole points, which take the place of those that are known.
  async #withNewest(known, oldestMs, now, isCurrent) {
    const width = known.pointMs,
      from = Math.floor((known.readMs - LATE_MS) / width) * width,
      count = Math.ceil((now + 1000 - from) / width);
    let newest = emptyHistory();
    newest.next = "from_ms=" + from + "&to_ms=" + (from + count * width) + "&points=" + count;
    for await (const part of this.#answers(newest.next, isCurrent)) newest = joined(part, newest);
    // What was not read to its end is read again the next time.
    if (newest.next) return known;
    const isNewer = alert => newest.alerts.some(({ id, revision }) => id === alert.id && revision >= alert.revision);
    return {
      ...known,
      points: known.points.filter(point => point.at_ms >= oldestMs - width && point.at_ms < from).concat(newest.points),
      anomalies: known.anomalies.filter(it => it.measured_at_ms >= oldestMs && it.measured_at_ms < from).concat(newest.anomalies),
      alerts: known.alerts.filter(alert => !isNewer(alert)).concat(newest.alerts),
      readMs: now,
      knownFromMs: Math.min(known.knownFromMs, from),
    };
  }

  // One answer after the other, as far as that goes now.
  async *#answers(query, isCurrent) {
    const { device, metric } = this.#shown;
    for (let answers = 0; answers < ANSWERS_MAX && query; answers++) {
      const part = await this.#ask(seriesPath(device, metric) + "/history?" + query);
      if (!isCurrent()) return;
      if (!part) {
        setText("series-said", answers ? "" : "No history can be read now; what comes live is shown.");
        return;
      }
      yield part;
      query = part.next;
    }
  }

  // From where to where most values are; what is told begins farther out.
  #band() {
    const learned = this.#explanation;
    if (!learned) return null;
    const { level, level_low, level_high, noise } = learned,
      about = 2 * (noise || 0);
    if (level_low !== null && level_high !== null) return { low: level_low - about, high: level_high + about };
    return level === null || !noise ? null : { low: level - 3 * noise, high: level + 3 * noise };
  }

  #points() {
    const { points, pointMs } = this.#history,
      end = points.length ? points.at(-1).at_ms + pointMs : -Infinity;
    return points.concat(this.#live.filter(point => point.at_ms >= end));
  }

  #show() {
    const { device, metric } = this.#shown;
    const isOfIt = alert => alert.device === device && (alert.metric === metric || alert.metric === "_device");
    // Of several records of an alert the newest counts.
    const alerts = new Map();
    for (const alert of [...this.#history.alerts, ...this.#alerts.filter(isOfIt)])
      if (!(alerts.get(alert.id)?.revision > alert.revision)) alerts.set(alert.id, alert);
    const data = { points: this.#points(), anomalies: this.#history.anomalies, alerts: [...alerts.values()], band: this.#band() };
    this.chart.set(data);
    const { from, to } = this.chart.range,
      seen = data.points.filter(point => point.at_ms >= from && point.at_ms <= to);
    const low = Math.min(...seen.map(point => point.min)),
      high = Math.max(...seen.map(point => point.max));
    const label = seen.length ? "from " + short(low) + " to " + short(high) + ", last " + short(seen.at(-1).mean) : "no data";
    const found = data.anomalies.filter(it => it.measured_at_ms >= from && it.measured_at_ms <= to).length;
    byId("chart").setAttribute(
      "aria-label",
      spoken(metric) + " of " + device + " over " + span(to - from) + ": " + label + ", " + found + " anomalies",
    );
    byId("chart").dataset.points = seen.length;
    byId("chart").dataset.anomalies = found;
    byId("chart").dataset.band = String(data.band !== null);
    this.#showTable(data);
  }

  #showTable(data = { points: this.#points(), anomalies: this.#history.anomalies }) {
    if (!byId("series-table").open) return;
    const { from, to } = this.chart.range,
      isSeen = ms => ms >= from && ms <= to;
    const told = data.anomalies
      .filter(it => isSeen(it.measured_at_ms))
      .map(it => [it.measured_at_ms, [utc(it.measured_at_ms), short(it.value), "anomaly: " + it.reason]]);
    const seen = data.points.filter(point => isSeen(point.at_ms));
    const each = Math.ceil(seen.length / ROWS_MAX) || 1;
    const rows = seen
      .filter((_, at) => at % each === 0)
      .map(point => [
        point.at_ms,
        [utc(point.at_ms), short(point.mean), point.max > point.min ? short(point.min) + " to " + short(point.max) : ""],
      ]);
    const all = rows.concat(told).sort((a, b) => b[0] - a[0]);
    const table = element(
      "table",
      {},
      element(
        "thead",
        {},
        element("tr", {}, ...["time (UTC)", "value", "range, or what was told"].map(text => element("th", { text, scope: "col" }))),
      ),
    );
    table.append(
      element(
        "tbody",
        {},
        ...all.map(([, cells]) => element("tr", {}, ...cells.map((text, at) => element("td", { text, class: at === 1 ? "number" : "" })))),
      ),
    );
    byId("series-rows").replaceChildren(table);
  }
}
