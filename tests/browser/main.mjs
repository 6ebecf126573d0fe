// The dashboard and the driver's page, as people use them. Each step says what it shows; the first that fails ends the run.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Device, Gateway } from "./box.mjs";
import { View, check, launch, until } from "./pages.mjs";

const HOSTILE = "<img src=x onerror=alert(1)>";
const CONFIG = `gateway.id = "truck-0042"
alert.clear_after = "20s"
[[limit]]
metric = "brake_pressure"
min = 4
severity = "critical"
[[limit]]
metric = "oil_level"
min = 4
severity = "minor"
`;

const folder = mkdtempSync(join(tmpdir(), "outrider-browser-"));
const gateway = new Gateway(process.env.OUTRIDER, folder, CONFIG);
const started = Date.now();
const steps = [];
const step = async (what, run) => {
  const began = Date.now();
  await run();
  steps.push(what);
  console.log("ok " + what + " (" + ((Date.now() - began) / 1000).toFixed(1) + " s)");
};

// A value that moves as real ones do.
const usual = n => Math.round((21 + 0.6 * Math.sin(n / 9) + 0.1 * ((n * 7919) % 5)) * 100) / 100;

// Ten minutes of the past at once, so that detectors are warm and the chart has something to show.
async function fill(device) {
  const now = Date.now();
  const readings = Array.from({ length: 600 }, (_, n) => ({ cargo_temperature: usual(n), ts: now - (600 - n) * 1000, seq: n }));
  for (let at = 0; at < 600; at += 60) await device.publish("devices/truck-0042", readings.slice(at, at + 60));
}

const browser = await launch();
let failure = null,
  hum = null;
try {
  await gateway.start();
  const device = await Device.connect(gateway.ports.mqtt, "truck");
  await fill(device);
  let n = 600,
    brakes = 7;
  hum = setInterval(() => {
    device.publish("devices/truck-0042", { cargo_temperature: usual(n++), ts: Date.now(), seq: n });
    device.publish("devices/brakes/brake_pressure", { value: brakes + 0.05 * (n % 3) });
  }, 500);
  const open = (path, width, scheme) => View.open(browser, gateway.address + path, { width, scheme });

  await step("calm pages, as screenshots of both widths, light and dark", async () => {
    for (const scheme of ["light", "dark"]) {
      for (const width of ["phone", "desktop"]) {
        for (const [name, path] of [
          ["dashboard", "/"],
          ["driver", "/driver"],
        ]) {
          const view = await open(path, width, scheme);
          await view.until("the page is filled", async () =>
            name === "driver"
              ? await view.isShown("#well")
              : (await view.text("#devices")).includes("truck-0042") && (await view.text("#box-list")).includes("Clock"),
          );
          await view.checkLayout(name);
          await view.checkAccess(name + " " + width + " " + scheme);
          await view.shot(name + "-before-" + width + "-" + scheme);
          await view.close();
        }
      }
    }
  });

  const desktop = await open("/", "desktop");
  const phone = await open("/", "phone");
  const driver = await open("/driver", "desktop");
  const views = [desktop, phone, driver];
  await step("values of an open device come live", async () => {
    const value = () => desktop.page.$$eval("#devices .inner td[data-label=value]", cells => cells.map(cell => cell.textContent).join());
    const first = await desktop.until("values", value);
    await desktop.until("other values", async () => (await value()) !== first);
    check("the age is told", (await desktop.text("#devices")).includes("now"));
  });

  await step("an alert appears on all pages without asking, and is read aloud", async () => {
    await driver.until("all is well", () => driver.isShown("#well"));
    await device.publish("devices/truck-0042", { cargo_temperature: 45, ts: Date.now(), seq: n++ });
    for (const view of [desktop, phone])
      await view.until("the alert", async () => (await view.text("#alert-list")).includes("cargo_temperature of truck-0042 is 45"));
    await driver.until("the alert", async () => (await driver.text("#alerts")).includes("Cargo temperature"));
    check("it is read aloud", (await desktop.page.$eval("#news", it => it.textContent)).startsWith("New alert"));
    check(
      "the driver is told in words",
      (await driver.text("#alerts")).includes("Higher than usual") && !(await driver.text("#alerts")).includes("45"),
    );
  });

  await step("the chart shows points, the usual range, the anomaly and older history", async () => {
    for (const view of [desktop, phone]) {
      await view.click("#alert-list", "Chart");
      const data = name => view.page.$eval("#chart", (it, name) => it.dataset[name], name);
      await view.until("points", async () => Number(await data("points")) > 50);
      await view.until("the usual range", async () => (await data("band")) === "true");
      await view.until("the anomaly", async () => Number(await data("anomalies")) > 0);
      await view.shot("series-" + (view === phone ? "phone" : "desktop") + "-light");
      await view.checkLayout("the chart");
      await view.checkAccess("the chart");
      // What is known is not read again.
      const [again] = await Promise.all([
        view.page.waitForRequest(request => request.url().includes("/history?")),
        view.click("#series", "10 min"),
      ]);
      const fromMs = Number(new URL(again.url()).searchParams.get("from_ms"));
      check("only the last minutes are read", Date.now() - fromMs < 200_000);
      await view.until("as many points", async () => Number(await data("points")) > 50);
      await view.click("#series", "1 h");
      await view.until("an hour", async () => (await view.page.$eval("#chart", it => it.getAttribute("aria-label"))).includes("over 60"));
      await view.page.bringToFront();
      await view.page.focus("#chart");
      await view.press("ArrowLeft", 3);
      await view.until("the past", async () => (await view.page.$eval("#series-live", it => it.getAttribute("aria-pressed"))) === "false");
      await view.press("End");
      await view.until("live again", async () => (await view.page.$eval("#series-live", it => it.getAttribute("aria-pressed"))) === "true");
      await view.press("+", 4);
      await view.tap("#series-table summary");
      await view.until("the table", async () => (await view.text("#series-rows")).includes("anomaly: "));
      await view.tap("#series-why summary");
      await view.until("what is usual", async () => (await view.text("#series-text")).includes("watched as temperature"));
      await view.press("Escape");
      await view.until("it is closed", async () => !(await view.isShown("#series")));
      await view.until("the focus is back", async () => (await view.focused()).startsWith("Chart"));
    }
  });

  await step("the keyboard alone acknowledges", async () => {
    const keys = await open("/", "desktop");
    await keys.until("the alert", async () => (await keys.text("#alert-list")).includes("Cargo temperature"));
    await keys.press("Tab");
    check("the first stop skips to the alerts: " + (await keys.focused()), (await keys.focused()) === "To the alerts");
    await keys.press("Enter");
    await keys.press("Tab");
    check("then comes the name: " + (await keys.focused()), (await keys.focused()) === "by");
    for (let stops = 0; !(await keys.focused()).startsWith("Seen"); stops++) {
      check("the button is reached", stops < 9);
      await keys.press("Tab");
    }
    await keys.press("Enter");
    await keys.until("it asks who", async () => (await keys.text("#said")) === "Say who you are first." && (await keys.focused()) === "by");
    await keys.page.keyboard.type("anna");
    for (let stops = 0; !(await keys.focused()).startsWith("Seen"); stops++) {
      check("the button is reached again", stops < 9);
      await keys.press("Tab");
    }
    await keys.press("Enter");
    for (const view of [keys, desktop, phone])
      await view.until("who has seen it", async () => (await view.text("#alert-list")).includes("seen by anna"));
    await keys.until("the focus stays on the button", async () => (await keys.focused()).startsWith("Seen"));
    await driver.until("the driver sees who", async () => (await driver.text("#alerts")).includes("seen by anna"));
    await keys.close();
  });

  await step('"this is normal" is learned', async () => {
    await phone.tap("#by");
    await phone.page.keyboard.type("bob");
    await phone.click("#alert-list", "This is normal");
    await phone.until("the answer", async () => (await phone.text("#said")).includes("from now on this counts as normal"));
    await desktop.until("the word", async () => (await desktop.text("#alert-list")).includes("seen by bob: normal"));
    check("the box knows it", (await gateway.get("/api/alerts")).body.includes('"normal":true'));
  });

  await step("names of devices stay text", async () => {
    const topic = encodeURIComponent(HOSTILE);
    await device.publish("elsewhere/" + HOSTILE + "/temp", { value: 1 });
    await device.publish("devices/" + HOSTILE + "/brake_pressure", { value: 1, note: HOSTILE });
    await device.publish("devices/bad/" + HOSTILE, HOSTILE);
    for (const view of [desktop, phone]) {
      await view.until("the alert", async () => (await view.text("#alert-list")).includes(HOSTILE));
      // What is seen again is read again.
      await view.page.bringToFront();
      await view.until("the device", async () => (await view.text("#devices")).includes(HOSTILE));
      await view.until("the refusal", async () => (await view.text("#refused-list")).includes(HOSTILE));
      check("no image was made", !(await view.page.$("main img")));
    }
    await driver.until("the driver's alert", async () => (await driver.text("#alerts")).includes(HOSTILE));
    check("no image was made for the driver", !(await driver.page.$("main img")));
    await desktop.page.evaluate(path => {
      location.hash = "series=" + path;
    }, topic + "/brake_pressure");
    await desktop.until("its chart", async () => (await desktop.text("#series-device")).includes(HOSTILE));
    await desktop.press("Escape");
  });

  await step("a driver hears what is wrong after a touch, and acknowledges", async () => {
    brakes = 2;
    await driver.until("the critical alert first", async () => (await driver.texts("#alerts h2"))[0]?.includes("Brake pressure"));
    check("it says that sound is off", (await driver.text("#sound")).startsWith("Sound is off"));
    await driver.tap("#sound");
    await driver.until("sound is on", async () => (await driver.text("#sound")) === "Sound is on");
    // Minor alerts that come one after the other do not silence the critical one.
    await driver.page.evaluate(() => {
      const make = AudioContext.prototype.createOscillator;
      window.critical = 0;
      AudioContext.prototype.createOscillator = function () {
        const tone = make.call(this);
        Object.defineProperty(tone.frequency, "value", { set: hertz => (window.critical += hertz === 988) });
        return tone;
      };
    });
    let minor = 0;
    const minors = setInterval(() => device.publish("devices/tank-" + minor++ + "/oil_level", { value: 1 }), 3_000);
    try {
      await driver.until("the critical sound, and again", () => driver.page.evaluate(() => window.critical >= 4), 40_000);
    } finally {
      clearInterval(minors);
    }
    for (const [name, view] of [
      ["dashboard", desktop],
      ["driver", driver],
    ]) {
      for (const scheme of ["dark", "light"]) {
        await view.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        await view.page.evaluate(() => scrollTo(0, 0));
        await view.shot(name + "-during-desktop-" + scheme);
      }
    }
    await driver.checkAccess("the driver's page with alerts");
    await phone.page.evaluate(() => scrollTo(0, 0));
    await phone.shot("dashboard-during-phone-light");
    await phone.checkLayout("the phone with alerts");
    await phone.checkAccess("the phone with alerts");
    const before = (await driver.texts("#alerts button")).length;
    await driver.click("#alerts", "Seen");
    await driver.until(
      "it is seen",
      async () => (await driver.texts("#alerts button")).length < before && (await driver.text("#alerts")).includes("seen by driver"),
    );
    const small = await open("/driver", "phone", "dark");
    await small.until("alerts", async () => (await small.texts("#alerts h2")).length > 0);
    await small.checkLayout("the driver's phone");
    await small.shot("driver-during-phone-dark");
    await small.close();
  });

  await step("a lost link is told within seconds, and everything goes on after a restart", async () => {
    views.forEach(view => {
      view.mayLoseLink = true;
    });
    clearInterval(hum);
    device.end();
    await gateway.stop("SIGKILL");
    const lost = Date.now();
    for (const view of views) await view.until("the link is lost", () => view.isShown("#lost"), 9_000);
    console.log("   told " + ((Date.now() - lost) / 1000).toFixed(1) + " s after the kill");
    check(
      "what is lost is said",
      (await driver.text("#lost")).startsWith("Link to the box lost") && (await desktop.text("#lost")).startsWith("Link to the box lost"),
    );
    await driver.checkAccess("the driver's page without a link");
    await desktop.page.evaluate(() => scrollTo(0, 0));
    for (const [name, view] of [
      ["dashboard-lost-desktop", desktop],
      ["dashboard-lost-phone", phone],
      ["driver-lost-desktop", driver],
    ])
      await view.shot(name + "-light");
    await gateway.start();
    for (const view of views) await view.until("the link is back", async () => !(await view.isShown("#lost")));
    // What was raised before is there, and what is raised now comes.
    const again = await Device.connect(gateway.ports.mqtt, "truck");
    await until("the old alerts", async () => (await driver.text("#alerts")).includes("Brake pressure"));
    await again.publish("devices/trailer/brake_pressure", { value: 1 });
    for (const view of [desktop, phone]) await view.until("a new alert", async () => (await view.text("#alert-list")).includes("trailer"));
    await driver.until("a new alert", async () => (await driver.text("#alerts")).includes("trailer"));
    check("sound is still on", (await driver.text("#sound")) === "Sound is on");
    again.end();
  });

  await step("with tokens a page asks for one, and is gone with it", async () => {
    const shut = new Gateway(process.env.OUTRIDER, join(folder, "shut"), "admin.tokens = 'tokens'\n[[limit]]\nmetric = 'level'\nmax = 1\n");
    const tokens = join(folder, "shut", "tokens");
    const run = (...words) => execFileSync(process.env.OUTRIDER, words, { encoding: "utf8" }).trim();
    const token = run("token", "add", tokens, "anna", "--role", "view");
    await shut.start();
    try {
      const tank = await Device.connect(shut.ports.mqtt, "tank");
      await tank.publish("devices/tank/level", { value: 2 });
      const view = await View.open(browser, shut.address + "/driver", { width: "phone", isRefused: true });
      await view.until("the form", () => view.isShown("#token"));
      await view.checkLayout("the form");
      await view.checkAccess("the form");
      await view.shot("login-phone-light");
      await view.tap("#token");
      await view.page.keyboard.type(token);
      await view.press("Enter");
      await view.until("the driver's page", async () => (await view.text("#alerts")).includes("Level"));
      check("who may only look has no button", !(await view.page.$("#alerts button")));
      run("token", "remove", tokens, "anna");
      run("reload", "--state", join(folder, "shut", "state"));
      await view.until("the form again", () => view.isShown("#token"));
      await view.close();
      tank.end();
    } finally {
      await shut.stop("SIGKILL");
    }
  });

  await step("a policy keeps scripts out, and nothing went wrong in any page", async () => {
    for (const view of views) await view.close();
    const policy = (await fetch(gateway.address + "/")).headers.get("content-security-policy");
    check("the policy is strict: " + policy, policy.includes("script-src 'self'") && !policy.includes("unsafe"));
  });
} catch (error) {
  failure = error;
} finally {
  clearInterval(hum);
  await browser.close();
  await gateway.stop("SIGKILL").catch(() => {});
}
console.log("browser: " + steps.length + " steps in " + ((Date.now() - started) / 1000).toFixed(0) + " s");
if (failure) {
  console.error(failure.stack + "\nthe gateway's log: " + folder + "/log");
  process.exit(1);
}
rmSync(folder, { recursive: true, force: true });
process.exit(0);
