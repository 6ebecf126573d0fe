// A chart of one series over time on a canvas: the line with its extremes, the usual range, anomalies and alerts. Pans and zooms by touch, wheel
// and keyboard. It draws only; what is in it, and that as a table, is for its owner.

const NICE_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
const SPAN_MIN_MS = 20_000;
const SPAN_MAX_MS = 8 * 86_400_000;
const PAD = { left: 10, right: 62, top: 14, bottom: 28 };
const FONT = "12px system-ui, sans-serif";

const two = n => String(n).padStart(2, "0");

export function timeLabel(ms, stepS) {
  const at = new Date(ms);
  if (stepS >= 86400) return at.getDate() + "." + (at.getMonth() + 1) + ".";
  const time = two(at.getHours()) + ":" + two(at.getMinutes());
  return stepS < 60 ? time + ":" + two(at.getSeconds()) : time;
}

// Round values between two bounds, about so many.
export function niceTicks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(n => n * size).find(step => step >= raw);
  const ticks = [],
    first = Math.ceil(low / step);
  // Counted: a step may be too small to be added to large values.
  for (let n = 0; n <= 2 * count + 2 && (first + n) * step <= high + step / 1e6; n++)
    ticks.push(Number(((first + n) * step).toPrecision(12)));
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

export class Chart {
  #canvas;
  #context;
  #onRange;
  #now;
  #data = { points: [], anomalies: [], alerts: [], band: null };
  #range = { from: 0, to: 1 };
  #hover = null;
  #touches = new Map();
  #colors = {};
  #asked = false;

  // onRange(from, to): somebody has moved or zoomed. now(): the time of the box, of which the points are.
  constructor(canvas, onRange, now) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    [this.#onRange, this.#now] = [onRange, now];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointerdown", event => this.#down(event));
    canvas.addEventListener("pointermove", event => this.#move(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(name, event => this.#up(event));
    canvas.addEventListener(
      "wheel",
      event => {
        event.preventDefault();
        this.#zoom(event.deltaY > 0 ? 1.25 : 0.8, this.#timeAt(event.offsetX));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", event => this.#press(event));
  }

  set(data) {
    this.#data = data;
    this.draw();
  }

  show(from, to) {
    this.#range = { from, to };
    this.draw();
  }

  get range() {
    return this.#range;
  }

  // Several changes are drawn once.
  draw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#drawNow();
    });
  }

  #width() {
    return this.#canvas.clientWidth - PAD.left - PAD.right;
  }

  #timeAt(x) {
    return this.#range.from + ((x - PAD.left) / this.#width()) * (this.#range.to - this.#range.from);
  }

  #moveTo(from, to) {
    this.#range = { from, to };
    this.draw();
    this.#onRange(from, to);
  }

  #zoom(factor, aroundMs) {
    const { from, to } = this.#range;
    const span = Math.min(SPAN_MAX_MS, Math.max(SPAN_MIN_MS, (to - from) * factor));
    const part = (aroundMs - from) / (to - from);
    this.#moveTo(aroundMs - part * span, aroundMs + (1 - part) * span);
  }

  pan(part) {
    const { from, to } = this.#range,
      by = (to - from) * part;
    this.#moveTo(from + by, to + by);
  }

  #press(event) {
    const { from, to } = this.#range;
    const steps = {
      ArrowLeft: () => this.pan(-0.2),
      ArrowRight: () => this.pan(0.2),
      "+": () => this.#zoom(0.7, to),
      "=": () => this.#zoom(0.7, to),
      "-": () => this.#zoom(1.4, to),
      End: () => this.#moveTo(this.#now() - (to - from), this.#now()),
    };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    step();
  }

  #down(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#touches.set(event.pointerId, event.offsetX);
  }

  #move(event) {
    const before = this.#touches.get(event.pointerId);
    if (before === undefined) {
      this.#hover = event.offsetX;
      return this.draw();
    }
    const { from, to } = this.#range,
      perPixel = (to - from) / this.#width();
    if (this.#touches.size === 2) {
      const other = [...this.#touches].find(([id]) => id !== event.pointerId)[1];
      const factor = Math.abs(before - other) / Math.max(8, Math.abs(event.offsetX - other));
      this.#touches.set(event.pointerId, event.offsetX);
      return this.#zoom(factor, this.#timeAt(other));
    }
    this.#touches.set(event.pointerId, event.offsetX);
    const by = (before - event.offsetX) * perPixel;
    this.#hover = event.pointerType === "touch" ? event.offsetX : null;
    if (by) this.#moveTo(from + by, to + by);
  }

  #up(event) {
    this.#touches.delete(event.pointerId);
    if (event.type === "pointerleave" || event.pointerType === "touch") this.#hover = null;
    this.draw();
  }

  #readColors() {
    const style = getComputedStyle(this.#canvas);
    for (const name of ["accent", "quiet", "ink", "grid", "band", "major", "critical", "critical-soft", "card"])
      this.#colors[name] = style.getPropertyValue("--" + name);
  }

  // What is to be seen in height: the visible points, and of the usual range what is not far off.
  #heights(points, anomalies) {
    const { band } = this.#data;
    let low = Infinity,
      high = -Infinity;
    for (const { min, max } of points) {
      low = Math.min(low, min);
      high = Math.max(high, max);
    }
    for (const { value } of anomalies)
      if (value !== null) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    if (band) {
      const reach = 2 * Math.max(high - low, band.high - band.low);
      if (low === Infinity || band.low > low - reach) low = Math.min(low, band.low);
      if (high === -Infinity || band.high < high + reach) high = Math.max(high, band.high);
    }
    if (low > high) [low, high] = [0, 1];
    const pad = (high - low) * 0.08 || Math.abs(high) * 0.02 || 0.5;
    return [low - pad, high + pad];
  }

  #drawNow() {
    const { clientWidth: width, clientHeight: height } = this.#canvas,
      context = this.#context,
      scale = devicePixelRatio || 1;
    if (!width || !height) return;
    [this.#canvas.width, this.#canvas.height] = [width * scale, height * scale];
    context.setTransform(scale, 0, 0, scale, 0, 0);
    this.#readColors();
    const { from, to } = this.#range,
      colors = this.#colors;
    const inner = { width: this.#width(), height: height - PAD.top - PAD.bottom };
    const all = this.#data.points;
    // One more on each side, so that the line goes on to the edges.
    const first = Math.max(0, all.findIndex(point => point.at_ms >= from) - 1);
    const after = all.findIndex(point => point.at_ms > to);
    const points = all.slice(first, after < 0 ? all.length : after + 1);
    const anomalies = this.#data.anomalies.filter(it => it.measured_at_ms >= from && it.measured_at_ms <= to);
    const [low, high] = this.#heights(points, anomalies);
    const x = ms => PAD.left + ((ms - from) / (to - from)) * inner.width;
    const y = value => PAD.top + ((high - value) / (high - low)) * inner.height;
    const bottom = PAD.top + inner.height;
    context.font = FONT;
    this.#drawGrid({ x, y, low, high, bottom, inner });
    context.save();
    context.beginPath();
    context.rect(PAD.left, 0, inner.width + 5, height);
    context.clip();
    for (const { raised_at_ms, cleared_at_ms } of this.#data.alerts) {
      const left = x(raised_at_ms),
        right = Math.max(left + 3, x(cleared_at_ms ?? this.#now()));
      context.fillStyle = colors["critical-soft"];
      context.fillRect(left, PAD.top, right - left, inner.height);
      context.fillStyle = colors.critical;
      context.fillRect(left, bottom - 3, right - left, 3);
    }
    const { band } = this.#data;
    if (band) {
      context.fillStyle = colors.band;
      context.fillRect(
        PAD.left,
        y(Math.min(high, band.high)),
        inner.width,
        Math.max(0, y(Math.max(low, band.low)) - y(Math.min(high, band.high))),
      );
    }
    this.#drawLine(points, x, y);
    for (const anomaly of anomalies) {
      const at = [x(anomaly.measured_at_ms), anomaly.value === null ? PAD.top + 8 : y(anomaly.value)];
      context.beginPath();
      for (const [dx, dy] of [
        [0, -6],
        [6, 0],
        [0, 6],
        [-6, 0],
      ])
        context.lineTo(at[0] + dx, at[1] + dy);
      context.closePath();
      context.fillStyle = colors.major;
      context.strokeStyle = colors.card;
      context.lineWidth = 1.5;
      context.fill();
      context.stroke();
    }
    if (this.#hover !== null) this.#drawHover(points, x, y, bottom);
    context.restore();
  }

  #drawGrid({ x, y, low, high, bottom, inner }) {
    const { from, to } = this.#range,
      context = this.#context;
    context.strokeStyle = this.#colors.grid;
    context.fillStyle = this.#colors.quiet;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "left";
    const { ticks, digits } = niceTicks(low, high, inner.height / 56);
    for (const tick of ticks) {
      context.beginPath();
      context.moveTo(PAD.left, Math.round(y(tick)) + 0.5);
      context.lineTo(PAD.left + inner.width, Math.round(y(tick)) + 0.5);
      context.stroke();
      const text = Math.abs(tick) >= 1e6 ? tick.toExponential(1) : tick.toFixed(digits);
      context.fillText(text, PAD.left + inner.width + 8, y(tick), PAD.right - 10);
    }
    const spanS = (to - from) / 1000,
      wanted = spanS / Math.max(2, inner.width / 72);
    const step = NICE_STEPS_S.find(step => step >= wanted) ?? NICE_STEPS_S.at(-1);
    const zone = new Date(to).getTimezoneOffset() * 60_000;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (let at = Math.ceil((from - zone) / (step * 1000)) * step * 1000 + zone; at <= to; at += step * 1000) {
      if (x(at) > PAD.left + 18 && x(at) < PAD.left + inner.width - 18) context.fillText(timeLabel(at, step), x(at), bottom + 8);
    }
  }

  // With a gap where nothing came for much longer than usual.
  #drawLine(points, x, y) {
    const context = this.#context;
    const steps = points
      .slice(1)
      .map((point, at) => point.at_ms - points[at].at_ms)
      .sort((a, b) => a - b);
    const gap = Math.max(3 * (steps[Math.floor(steps.length / 2)] || 0), 5_000);
    context.fillStyle = this.#colors.accent;
    context.globalAlpha = 0.22;
    for (const { at_ms, min, max } of points) if (max > min) context.fillRect(x(at_ms) - 1, y(max), 2, Math.max(1, y(min) - y(max)));
    context.globalAlpha = 1;
    context.strokeStyle = this.#colors.accent;
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    points.forEach((point, at) => {
      const isFirst = at === 0 || point.at_ms - points[at - 1].at_ms > gap;
      context[isFirst ? "moveTo" : "lineTo"](x(point.at_ms), y(point.mean));
    });
    context.stroke();
    const last = points.at(-1);
    if (!last) return;
    context.beginPath();
    context.arc(x(last.at_ms), y(last.mean), 3.5, 0, 7);
    context.fill();
  }

  #drawHover(points, x, y, bottom) {
    const at = this.#timeAt(this.#hover),
      context = this.#context;
    const near = points.reduce((best, point) => (!best || Math.abs(point.at_ms - at) < Math.abs(best.at_ms - at) ? point : best), null);
    if (!near) return;
    const left = x(near.at_ms);
    context.strokeStyle = this.#colors.quiet;
    context.lineWidth = 1;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(left, PAD.top);
    context.lineTo(left, bottom);
    context.stroke();
    context.setLineDash([]);
    const range = near.max > near.min ? "  (" + Number(near.min.toPrecision(5)) + " to " + Number(near.max.toPrecision(5)) + ")" : "";
    const text = timeLabel(near.at_ms, 1) + "   " + Number(near.mean.toPrecision(6)) + range;
    const width = context.measureText(text).width + 16;
    const place = Math.min(Math.max(left - width / 2, PAD.left), PAD.left + this.#width() - width);
    context.fillStyle = this.#colors.ink;
    context.beginPath();
    context.roundRect(place, 0, width, 24, 6);
    context.fill();
    context.fillStyle = this.#colors.card;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, place + 8, 12.5);
  }
}
