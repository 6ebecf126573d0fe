// The fleet: devices with how long ago they were heard, and the newest value of each series of those that are open.

import { byId, canBeAsked, element, setText, short, span, whole } from "./text.js";

const STEP = 25;
const OPEN_MAX = 20;
const READ_EVERY_MS = 10_000;
// So few devices are shown with their series at once.
const FEW = 3;

const nameOf = (device, metric) => JSON.stringify([device, metric]);

export class Fleet {
  #devices = new Map();
  #next = null;
  #limit = STEP;
  #open = new Set();
  #values = new Map();
  #rows = new Map();
  #link;
  #openSeries;
  #onChange;
  #search = "";
  #isFirst = true;
  #isHere = false;
  #round = 0;
  #raised = new Map();

  // onChange(): other devices are open.
  constructor(link, openSeries, onChange) {
    [this.#link, this.#openSeries, this.#onChange] = [link, openSeries, onChange];
    let timer = 0;
    byId("search").addEventListener("input", event => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        [this.#search, this.#limit] = [event.target.value.trim(), STEP];
        this.read();
      }, 250);
    });
    byId("more-devices").addEventListener("click", () => {
      this.#limit += STEP;
      this.#limit > this.#devices.size && this.#next ? this.#readMore() : this.#show();
    });
    setInterval(() => {
      if (!document.hidden) this.read();
    }, READ_EVERY_MS);
    setInterval(() => this.#age(), 1000);
  }

  get open() {
    return [...this.#open];
  }
  get size() {
    return this.#devices.size;
  }
  get isComplete() {
    return this.#next === null;
  }

  async #ask(path) {
    try {
      const answer = await fetch(path);
      if (!answer.ok) return null;
      const next = /<([^>]*)>; rel="next"/.exec(answer.headers.get("link") || "");
      return { lines: await answer.json(), next: next ? next[1] : null };
    } catch {
      return null;
    }
  }

  // isAnew: events may have been missed.
  async read(isAnew = false) {
    const round = ++this.#round;
    const page = await this.#ask("/api/devices" + (this.#search ? "?search=" + encodeURIComponent(this.#search) : ""));
    if (!page || round !== this.#round) return;
    // Pages after the first one stay as they were read, and are read again when somebody asks for them.
    const later = this.#limit > page.lines.length && page.next ? [...this.#devices.values()].slice(page.lines.length) : [];
    this.#devices = new Map([...page.lines, ...later].map(line => [line.device, line]));
    if (!later.length) this.#next = page.next;
    if (this.#isFirst && page.lines.length <= FEW) page.lines.forEach(line => this.#open.add(line.device));
    this.#isFirst = this.#isFirst && page.lines.length === 0;
    this.#isHere = true;
    this.#show();
    this.#onChange();
    for (const device of this.#open) if (isAnew || !this.#values.has(device)) await this.#readValues(device);
  }

  async #readMore() {
    const page = await this.#ask(this.#next);
    if (!page) return;
    for (const line of page.lines) this.#devices.set(line.device, line);
    this.#next = page.next;
    this.#show();
  }

  // Of all series of an open device: events only tell what comes.
  async #readValues(device) {
    for (let path = "/api/values?device=" + encodeURIComponent(device), pages = 0; path && pages < 4; pages++) {
      const page = await this.#ask(path);
      if (!page) break;
      this.takeValues(page.lines, false);
      path = page.next;
    }
  }

  takeValues(values, isNews = true) {
    for (const value of values) {
      const device = this.#devices.get(value.device);
      if (device) device.heard_at_ms = Math.max(device.heard_at_ms, value.heard_at_ms);
      if (!this.#open.has(value.device)) continue;
      const series = this.#values.get(value.device) ?? new Map();
      this.#values.set(value.device, series);
      const isNew = !series.has(value.metric);
      series.set(value.metric, value);
      if (isNew) this.#showSeries(value.device);
      else this.#showValue(value, isNews);
    }
  }

  takeAlerts(alerts) {
    this.#raised.clear();
    for (const { device, state } of alerts) if (state === "raised") this.#raised.set(device, (this.#raised.get(device) || 0) + 1);
    for (const [device, row] of this.#rows) this.#showAlerts(device, row);
  }

  #showAlerts(device, row) {
    const count = this.#raised.get(device) || 0;
    setText(row.alerts, count ? count + (count === 1 ? " alert" : " alerts") : "");
    row.alerts.className = count ? "bad" : "";
  }

  #toggle(device) {
    if (this.#open.has(device)) this.#open.delete(device);
    else this.#open.add(device);
    if (this.#open.size > OPEN_MAX) this.#open.delete(this.#open.values().next().value);
    if (!this.#open.has(device)) this.#values.delete(device);
    this.#show();
    this.#onChange();
    if (this.#open.has(device)) this.#readValues(device);
  }

  #show() {
    const lines = [...this.#devices.values()].slice(0, this.#limit);
    const more = this.#devices.size - lines.length;
    byId("more-devices").hidden = more <= 0 && !this.#next;
    for (const device of this.#open)
      if (!lines.some(line => line.device === device)) {
        this.#open.delete(device);
        this.#values.delete(device);
      }
    if (!lines.length) {
      this.#rows.clear();
      byId("devices").replaceChildren(
        element("p", {
          class: "empty",
          text: this.#search
            ? "No device has this in its name."
            : this.#isHere
              ? "No device was heard yet. Publish to devices/NAME/METRIC."
              : "reading …",
        }),
      );
      return;
    }
    let body = byId("devices").querySelector("tbody");
    if (!body) {
      const head = ["device", "series", "last heard", "alerts"].map((text, at) =>
        element("th", { text, scope: "col", class: at === 1 ? "number" : "" }),
      );
      body = element("tbody");
      byId("devices").replaceChildren(element("table", { class: "stack" }, element("thead", {}, element("tr", {}, ...head)), body));
    }
    // Rows that are there stay: somebody may be in them.
    const wanted = lines.flatMap(line => {
      const row = this.#row(line);
      return row.inner ? [row.outer, row.inner] : [row.outer];
    });
    for (const [device] of this.#rows) if (!lines.some(line => line.device === device)) this.#rows.delete(device);
    if (wanted.length !== body.children.length || wanted.some((row, at) => row !== body.children[at])) {
      const focused = document.activeElement;
      body.replaceChildren(...wanted);
      if (focused?.isConnected) focused.focus({ preventScroll: true });
    }
    this.#age();
  }

  #row(line) {
    const { device } = line,
      isOpen = this.#open.has(device);
    let row = this.#rows.get(device);
    if (!row) {
      const button = element("button", { type: "button", text: device, onclick: () => this.#toggle(device) });
      row = {
        button,
        heard: element("td", { "data-label": "last heard" }),
        series: element("td", { class: "number", "data-label": "series" }),
        alerts: element("td", { "data-label": "alerts" }),
        inner: null,
        cells: new Map(),
      };
      row.outer = element("tr", {}, element("td", { class: "device" }, button), row.series, row.heard, row.alerts);
      this.#rows.set(device, row);
    }
    setText(row.series, whole(line.series));
    this.#showAlerts(device, row);
    row.button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen && !row.inner) {
      row.place = element("div", {}, element("p", { class: "empty", text: "reading …" }));
      row.inner = element("tr", { class: "inner" }, element("td", { colspan: 4 }, row.place));
      this.#showSeries(device, row);
    } else if (!isOpen) {
      row.inner = null;
      row.cells.clear();
    }
    return row;
  }

  #showSeries(device, row = this.#rows.get(device)) {
    const series = this.#values.get(device);
    if (!row?.inner || !series) return;
    row.cells.clear();
    const metrics = [...series.keys()].sort();
    const lines = metrics.map(metric => {
      const value = series.get(metric);
      const cells = { value: element("td", { class: "number", "data-label": "value" }), age: element("td", { "data-label": "last" }) };
      row.cells.set(metric, cells);
      const button = element("button", {
        type: "button",
        class: "link",
        text: metric,
        "data-key": nameOf(device, metric),
        "aria-label": "Chart of " + metric,
        onclick: () => this.#openSeries(device, metric),
        disabled: !canBeAsked([device, metric]),
      });
      const line = element(
        "tr",
        {},
        element("td", { "data-label": "series" }, button),
        cells.value,
        cells.age,
        element("td", { class: "quiet", "data-label": "note", text: value.watched ? "" : "not watched" }),
      );
      setText(cells.value, short(value.value));
      return line;
    });
    const head = ["series", "value", "last", "note"].map((text, at) =>
      element("th", { scope: "col", class: at === 1 ? "number" : "", text }),
    );
    row.place.replaceChildren(
      element("table", { class: "stack" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines)),
    );
    this.#age();
  }

  #showValue(value, isNews) {
    const cells = this.#rows.get(value.device)?.cells.get(value.metric);
    if (!cells) return;
    const text = short(value.value),
      isOther = cells.value.textContent !== text;
    setText(cells.value, text);
    if (isNews && isOther) {
      cells.value.classList.remove("fresh");
      requestAnimationFrame(() => cells.value.classList.add("fresh"));
    }
  }

  #age() {
    const now = this.#link.now();
    for (const [device, row] of this.#rows) {
      const line = this.#devices.get(device);
      if (line) this.#showAge(row.heard, line, now);
      for (const [metric, cells] of row.cells) this.#showAge(cells.age, this.#values.get(device)?.get(metric), now);
    }
  }

  #showAge(cell, it, now) {
    if (!it) return;
    const silentMs = now - it.heard_at_ms,
      isStale = silentMs > it.stale_after_ms;
    const text = isStale ? "no data for " + span(silentMs) : silentMs < 2500 ? "now" : span(silentMs) + " ago";
    if (cell.dataset.stale === String(isStale) && cell.textContent === text) return;
    cell.dataset.stale = String(isStale);
    cell.replaceChildren(
      element(
        "span",
        {},
        element("i", { class: "dot" + (isStale ? " stale" : "") }),
        element("span", { class: isStale ? "stale-text" : "", text }),
      ),
    );
  }
}
