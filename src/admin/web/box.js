// What concerns the box: flow to the sinks, what was refused, rules, clock, disk and cost.

import { byId, bytes, element, many, setText, span, utc, whole } from "./text.js";

const STATES = {
  running: ["All is well", "good"],
  sink_failing: ["A sink does not deliver", "warn"],
  salvaging: ["Restoring a damaged store", "warn"],
  expiring: ["Full: the oldest readings expire", "bad"],
  store_full: ["The store is full", "bad"],
  disk_failing: ["The disk answers with errors", "bad"],
  disk_hung: ["The disk hangs", "bad"],
  store_unreadable: ["The store cannot be read", "bad"],
  stopping: ["Stopping", "warn"],
};

// A table, the same in each place; heads that end with # are of numbers.
function table(place, heads, rows, none) {
  if (!rows.length) {
    byId(place).replaceChildren(element("p", { class: "empty", text: none }));
    return;
  }
  const classOf = at => (heads[at].endsWith("#") ? "number" : "");
  const name = at => heads[at].replace("#", "");
  const head = heads.map((_, at) => element("th", { scope: "col", class: classOf(at), text: name(at) }));
  const line = cells =>
    element(
      "tr",
      {},
      ...cells.map((cell, at) =>
        element("td", { class: classOf(at), "data-label": name(at) }, cell instanceof Node ? cell : document.createTextNode(cell ?? "")),
      ),
    );
  byId(place).replaceChildren(
    element("table", { class: "stack" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows.map(line))),
  );
}

const rate = n => (n === null ? "–" : n >= 10 ? whole(n) : String(Math.round(n * 10) / 10)) + "\u00a0/s";

function ends(line) {
  if (!line.buffered) return "nothing waits";
  return line.drains_in_s === null ? (line.last_error ? "not while it fails" : "–") : "in " + span(line.drains_in_s * 1000);
}

export function showState({ state, gateway, version, clock, ledger_adds_up }) {
  const [text, kind] = STATES[state] || (state.startsWith("stalled:") ? ["Stalled: " + state.slice(8), "bad"] : [state, "warn"]);
  const isWrong = !ledger_adds_up;
  setText("state", isWrong ? "The ledger does not add up" : clock === "unsynced" && kind === "good" ? "The clock is not set" : text);
  byId("state").className = "pill " + (isWrong ? "bad" : clock === "unsynced" && kind === "good" ? "warn" : kind);
  setText("gateway", gateway + " · " + version);
  document.title = (kind === "good" ? "" : "⚠ ") + "Outrider · " + gateway;
}

let tilesShown = null;

export function showTiles(status, devices) {
  const isMore = (line, most) => Boolean(line.last_error) - Boolean(most?.last_error) || line.buffered - (most?.buffered ?? 0);
  const waiting = status.flow.filter(line => line.buffered).reduce((most, line) => (isMore(line, most) > 0 ? line : most), null);
  const failing = status.flow.some(line => line.last_error);
  const alerts = status.alerts_raised;
  const tiles = [
    [whole(alerts), alerts === 1 ? "alert is raised" : "alerts are raised", alerts ? "bad" : ""],
    [devices, whole(status.series) + " series are watched", ""],
    [whole(status.readings_accepted), "readings stored in all", ""],
    [
      waiting ? whole(waiting.buffered) : "0",
      waiting ? "wait for " + waiting.sink + (waiting.last_error ? ", which fails" : "") : "waiting: all is delivered",
      failing ? "warn" : "",
    ],
    [
      bytes(status.store_bytes),
      "of " +
        bytes(status.store_bytes_max) +
        (status.holds_days === null ? " in the store" : ", lasts " + span(status.holds_days * 86_400_000)),
      status.store_bytes > 0.95 * status.store_bytes_max ? "warn" : "",
    ],
    [bytes(status.cost.sent.a_day), "a day over the link", ""],
  ];
  if (!tilesShown) {
    tilesShown = tiles.map(() => ({ value: element("b"), text: element("span") }));
    byId("tiles").replaceChildren(...tilesShown.map(({ value, text }) => element("div", { class: "tile" }, value, text)));
  }
  tiles.forEach(([value, text, kind], at) => {
    setText(tilesShown[at].value, value);
    setText(tilesShown[at].text, text);
    tilesShown[at].value.parentElement.className = "tile " + kind;
  });
}

export function showFlow(flow) {
  const rows = flow.map(line => [
    line.sink,
    line.stream,
    rate(line.accepted_a_s),
    rate(line.delivered_a_s),
    whole(line.buffered),
    line.oldest_age_s === null ? "–" : span(line.oldest_age_s * 1000),
    ends(line),
    line.last_error ? element("span", { class: "bad", text: line.last_error }) : (line.waiting ?? "none"),
  ]);
  table(
    "flow-list",
    ["sink", "stream", "comes#", "leaves#", "buffered#", "oldest waits#", "all gone", "last error"],
    rows,
    "No sink is configured.",
  );
}

// A line to put into the configuration, with a button that copies it.
function route(text) {
  const button = element("button", {
    type: "button",
    text: "Copy",
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        setText(button, "Copied");
      } catch {
        setText(button, "Select it");
      }
    },
  });
  return element("div", { class: "copy" }, element("pre", { text }), navigator.clipboard ? button : null);
}

function refusals({ unrouted, undecodable, mqtt }) {
  const made = [];
  if (unrouted.topics.length) {
    const block = element(
      "div",
      { class: "refusal" },
      element("h3", {
        text:
          many(unrouted.count, "publish was", "publishes were") +
          " passed on and not stored: no route takes " +
          (unrouted.count === 1 ? "its topic" : "their topics"),
      }),
      element("p", { class: "quiet", text: unrouted.topics.join(", ") }),
    );
    if (unrouted.routes.length)
      block.append(element("p", { text: "To store what is a number or JSON there, add to the configuration, and restart:" }), route(unrouted.routes.join("\n")));
    made.push(block);
  }
  for (const { reason, topic, count, sample, hint } of undecodable) {
    made.push(
      element(
        "div",
        { class: "refusal" },
        element("h3", {
          text: topic + ": " + reason.replaceAll("_", " ") + (count ? ", " + whole(count) + " since the start" : ", before the start"),
        }),
        element("p", { class: "quiet", text: "payload: " + sample.slice(0, 120) }),
        element("pre", { text: hint }),
      ),
    );
  }
  const denied = [
    [mqtt.publishes_denied, "publish", "publishes", "denied by the rights"],
    [mqtt.filters_denied, "subscription", "subscriptions", "denied by the rights"],
    [mqtt.logins_refused, "login", "logins", "refused"],
    [mqtt.publishes_refused, "publish to the gateway's own topics", "publishes to the gateway's own topics", "refused"],
    [mqtt.connections_refused, "connection", "connections", "refused"],
  ].filter(([count]) => count);
  if (denied.length)
    made.push(
      element(
        "div",
        { class: "refusal" },
        ...denied.map(([count, one, more, what]) => element("p", { text: many(count, one, more) + " " + what })),
      ),
    );
  if (mqtt.logins_unchecked)
    made.push(
      element(
        "div",
        { class: "refusal" },
        element("p", {
          class: "bad",
          text:
            "Logins are not checked: " +
            many(mqtt.logins_unchecked, "connection") +
            " sent one, and anyone who reaches the port can publish and subscribe.",
        }),
      ),
    );
  return made;
}

let refusedShown = "";

export function showStatus(status) {
  // What somebody may be copying from stays as long as it is the same.
  const refused = JSON.stringify([
    status.unrouted,
    status.undecodable,
    status.mqtt.publishes_denied,
    status.mqtt.filters_denied,
    status.mqtt.logins_refused,
    status.mqtt.publishes_refused,
    status.mqtt.connections_refused,
    status.mqtt.logins_unchecked,
  ]);
  if (refused !== refusedShown) {
    refusedShown = refused;
    const made = refusals(status);
    byId("refused-list").replaceChildren(
      ...(made.length ? made : [element("p", { class: "empty", text: "Nothing. Every publish was understood, allowed and stored." })]),
    );
  }
  const rules = status.rules.running.map(rule => [
    rule.name,
    rule.from || "readings",
    whole(rule.matches),
    whole(rule.errors),
    rule.nanoseconds_a_message === null ? "–" : (rule.nanoseconds_a_message / 1000).toFixed(1) + "\u00a0µs",
    rule.last_error ? element("span", { class: "bad", text: rule.last_error }) : "none",
  ]);
  table("rule-list", ["rule", "sees", "matches#", "errors#", "takes#", "last error"], rules, "No rules are configured.");
  if (status.rules.error)
    byId("rule-list").prepend(element("p", { class: "bad", text: "What was loaded last is not in force: " + status.rules.error }));
  showBox(status);
}

function showBox(status) {
  const { store, disk, cost, mqtt } = status;
  const facts = [
    [
      "Clock",
      status.clock === "synced"
        ? "synchronised, " + utc(status.now_ms)
        : "not synchronised: times are those of a clock that nobody has set",
    ],
    ["Running for", span(status.uptime_s * 1000) + ", " + many(mqtt.connections, "client")],
    [
      "Store",
      bytes(store.bytes) +
        " of " +
        bytes(store.bytes_max) +
        (store.oldest_age_s === null ? "" : ", oldest record " + span(store.oldest_age_s * 1000) + " old"),
    ],
    ["Lasts without a link", store.holds_days === null ? "not known yet" : span(store.holds_days * 86_400_000) + " at this rate"],
    ["Disk", disk ? bytes(disk.free_bytes) + " free of " + bytes(disk.total_bytes) : "not known"],
    ["Last commit", store.commit_ms_last.toFixed(1) + "\u00a0ms, longest " + store.commit_ms_max.toFixed(0) + "\u00a0ms"],
    [
      "To the flash",
      cost.written
        ? bytes(cost.written.a_day) +
          " a day" +
          (cost.written.a_reading === null ? "" : ", " + bytes(cost.written.a_reading) + " a reading")
        : "not known",
    ],
    [
      "To the link",
      bytes(cost.sent.a_day) + " a day" + (cost.sent.a_reading === null ? "" : ", " + bytes(cost.sent.a_reading) + " a reading"),
    ],
    ["Dead letters", whole(store.dead_letters_held)],
    ["Ledger", status.ledger_adds_up ? "adds up" : "does not add up"],
  ];
  byId("box-list").replaceChildren(
    ...facts.map(([name, text]) => element("div", {}, element("dt", { text: name }), element("dd", { text }))),
  );
  const { device_clocks = [], unwatched = [], unwatched_total = 0 } = status.series || {};
  byId("clocks").replaceChildren(
    ...(device_clocks.length
      ? [
          element("h3", { text: "Devices with a wrong clock" }),
          element(
            "ul",
            {},
            ...device_clocks.map(it =>
              element("li", {
                text:
                  it.device + ": " + (it.device_clock === "unset" ? "not set" : it.device_clock + " by " + span(Math.abs(it.offset_ms))),
              }),
            ),
          ),
        ]
      : []),
  );
  byId("unwatched").hidden = !unwatched.length;
  if (unwatched.length)
    table(
      "unwatched-list",
      ["device", "series", "because"],
      unwatched.map(it => [it.device, it.metric, it.reason]),
      "",
    );
  if (unwatched_total > unwatched.length)
    byId("unwatched-list").append(
      element("p", { class: "quiet", text: "and " + whole(unwatched_total - unwatched.length) + " more: /api/series lists them all" }),
    );
}
