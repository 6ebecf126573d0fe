// The dashboard: connects events with what shows them.

import { AlertList } from "./alerts.js";
import { showFlow, showState, showStatus, showTiles } from "./box.js";
import { Fleet } from "./fleet.js";
import { Alerts, Link } from "./link.js";
import { SeriesView } from "./series.js";
import { byId, clockTime, setText, whole } from "./text.js";

// What changes seldom is read so often.
const STATUS_EVERY_MS = 10_000;

const alerts = new Alerts();
// In all, of which the list has those that people should see first.
let raised = 0;

function query() {
  const devices = new Set(fleet?.open ?? []);
  if (series?.device) devices.add(series.device);
  // Without a device there is nothing to be told of values.
  const wanted = devices.size ? "alerts,status,values" : "alerts,status";
  return ["events=" + wanted, ...[...devices].sort().map(device => "device=" + encodeURIComponent(device))].join("&");
}

function show() {
  const list = alerts.list();
  alertList.show(list, raised);
  fleet.takeAlerts(list);
  series.takeAlerts(list);
}

let fleet, series;
const link = new Link(
  query(),
  {
    alerts: data => {
      raised = data.raised;
      alerts.take("alerts", data);
      show();
    },
    alert: data => {
      alerts.take("alert", data);
      show();
    },
    status: status => {
      showState(status);
      showTiles(status, whole(fleet.size) + (fleet.isComplete ? "" : "+") + (fleet.size === 1 ? " device" : " devices"));
      showFlow(status.flow);
      raised = status.alerts_raised;
      alertList.show(alerts.list(), raised);
    },
    values: ({ values }) => {
      fleet.takeValues(values);
      series.takeValues(values);
    },
    link: (isUp, heardAtMs) => {
      byId("lost").hidden = isUp;
      document.body.classList.toggle("is-lost", !isUp);
      setText("lost", isUp ? "" : "Link to the box lost. What is shown is from " + clockTime(heardAtMs) + "; it connects again by itself.");
      if (!isUp) {
        setText("state", "No link");
        byId("state").className = "pill bad";
      }
      if (isUp) {
        fleet.read(true);
        readStatus();
      }
    },
  },
  true,
);

const openSeries = (device, metric) => series.open(device, metric);
fleet = new Fleet(link, openSeries, () => link.ask(query()));
series = new SeriesView(link, () => link.ask(query()));
const alertList = new AlertList(openSeries, () => link.now());

async function readStatus() {
  try {
    const answer = await fetch("/api/status");
    if (answer.ok) showStatus(await answer.json());
  } catch {
    // The link is lost, which is shown already.
  }
}

setInterval(() => {
  if (!document.hidden) readStatus();
}, STATUS_EVERY_MS);
// A page that nobody sees asks for nothing, and is up to date when somebody does.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    fleet.read(true);
    readStatus();
  }
});
fleet.read();
readStatus();
series.start();
