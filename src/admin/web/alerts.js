// The list of alerts: raised ones first, the most severe first, with what can be said of each.

import { acknowledge, canAcknowledge, canTeach, givenName, mayAcknowledge, remembered } from "./acknowledge.js";
import { byId, bySeverity, clockTime, element, isOwn, key, kindInWords, setText, span, subject, utc } from "./text.js";

const LISTED_MAX = 60;

export class AlertList {
  #shown = ""; #openSeries; #now; #known = null;

  constructor(openSeries, now) {
    [this.#openSeries, this.#now] = [openSeries, now];
    byId("by").value = givenName || remembered();
    byId("person").hidden = !mayAcknowledge;
  }

  show(all, raised) {
    this.#announce(all);
    const alerts = all.filter(alert => alert.state === "raised").sort(bySeverity).concat(all.filter(alert => alert.state !== "raised"));
    const more = Math.max(raised, all.length) - Math.min(alerts.length, LISTED_MAX);
    byId("more-alerts").hidden = more <= 0;
    setText("more-alerts", "and " + more + " more, less severe or older: /api/alerts lists all of them");
    // A list that is the same stays, and so does the focus in it. Times go on by the minute.
    const shown = JSON.stringify(alerts.slice(0, LISTED_MAX)) + Math.floor(this.#now() / 30_000);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = document.activeElement?.dataset?.key;
    const rows = alerts.slice(0, LISTED_MAX).map(alert => this.#row(alert));
    byId("alert-list").replaceChildren(...(rows.length ? rows : [element("p", { class: "empty", text: "No alerts. Everything that is watched is as usual." })]));
    if (focused) [...byId("alert-list").querySelectorAll("button")].find(button => button.dataset.key === focused)?.focus({ preventScroll: true });
  }

  // What is new is read aloud; what was there when the page was opened is not.
  #announce(all) {
    const raised = new Map(all.filter(alert => alert.state === "raised").map(alert => [alert.id, alert]));
    if (this.#known) {
      const news = [...raised.values()].filter(alert => !this.#known.has(alert.id)).sort(bySeverity);
      if (news.length) setText("news", news.slice(0, 3).map(alert => "New alert, " + alert.severity + ": " + alert.message).join(". "));
    }
    this.#known = raised;
  }

  #row(alert) {
    const isRaised = alert.state === "raised", severity = isRaised ? alert.severity : "cleared";
    const words = kindInWords(alert);
    const since = "since " + clockTime(alert.raised_at_ms, this.#now()) + " (" + span(this.#now() - alert.raised_at_ms) + ")";
    const facts = [isRaised ? since : "cleared " + clockTime(alert.cleared_at_ms ?? alert.updated_at_ms, this.#now())];
    if (alert.stale) facts.push("no data since " + clockTime(alert.last_reading_at_ms, this.#now()));
    if (alert.acknowledged_by) facts.push("seen by " + alert.acknowledged_by + (alert.normal === true ? ": normal" : alert.normal === false ? ": a fault" : ""));
    if (alert.stored === false) facts.push("not stored yet");
    const title = element("h3", {}, subject(alert), element("span", { text: words ? " " + words : "" }));
    if (!isOwn(alert)) title.append(element("span", { text: " · " + alert.device }));
    const text = element("div", {}, title, element("p", { text: alert.message }), element("p", { class: "quiet", text: facts.join(" · "), title: utc(alert.raised_at_ms) }));
    return element("article", { class: "alert", "data-alert": key(alert) },
      element("span", { class: "severity " + severity, text: severity }), text, this.#buttons(alert));
  }

  #buttons(alert) {
    const place = element("div", { class: "buttons" });
    const about = subject(alert) + " of " + alert.device;
    if (!isOwn(alert) && !alert.metric.startsWith("_")) place.append(element("button", { type: "button", text: "Chart", "data-key": key(alert) + " chart", "aria-label": "Chart: " + about, onclick: () => this.#openSeries(alert.device, alert.metric) }));
    if (!canAcknowledge(alert)) return place;
    const add = (text, word, isSaid) => place.append(element("button", {
      type: "button", text, "data-key": key(alert) + " " + text, "aria-label": text + ": " + about, "aria-pressed": String(isSaid), onclick: event => this.#say(event.currentTarget, alert, word),
    }));
    add("Seen", undefined, Boolean(alert.acknowledged_by));
    if (canTeach(alert)) { add("This is normal", true, alert.normal === true); add("This is a fault", false, alert.normal === false); }
    return place;
  }

  async #say(button, alert, word) {
    const name = byId("by").value.trim();
    const say = (text, isWell) => { byId("said").className = isWell ? "quiet" : "bad"; setText("said", text); };
    if (!name) { say("Say who you are first.", false); byId("by").focus(); return; }
    remembered(name);
    button.disabled = true;
    const { isTaken, text } = await acknowledge(alert, name, word);
    button.disabled = false;
    button.focus({ preventScroll: true });
    say(text, isTaken);
  }
}
