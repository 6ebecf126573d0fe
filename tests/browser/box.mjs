// A real gateway as a process, and a device that publishes to it.

import { spawn } from "node:child_process";
import { mkdirSync, openSync, writeFileSync } from "node:fs";
import net from "node:net";
import { createInterface } from "node:readline";

export class Gateway {
  constructor(program, folder, config) {
    Object.assign(this, { program, folder, config, ports: { mqtt: "127.0.0.1:0", admin: "127.0.0.1:0" } });
    mkdirSync(folder, { recursive: true });
  }

  // Starts it; the second time on the ports of the first, as a page expects.
  async start() {
    const file = this.folder + "/outrider.toml";
    writeFileSync(file, this.config);
    const log = openSync(this.folder + "/log", "a");
    const environment = { PATH: process.env.PATH, OUTRIDER__MQTT__LISTEN: this.ports.mqtt, OUTRIDER__ADMIN__LISTEN: this.ports.admin };
    this.child = spawn(this.program, ["run", "--config", file, "--state", this.folder + "/state"], {
      env: environment,
      stdio: ["ignore", "pipe", log],
    });
    const ended = new Promise(resolve => this.child.on("exit", resolve));
    this.ended = ended;
    for await (const line of createInterface({ input: this.child.stdout })) {
      const ready = JSON.parse(line);
      this.ports = { mqtt: ready.mqtt, admin: ready.admin };
      return;
    }
    throw new Error("the gateway did not start; see " + this.folder + "/log");
  }

  get address() {
    return "http://" + this.ports.admin;
  }

  async get(path) {
    const answer = await fetch(this.address + path);
    return { status: answer.status, body: await answer.text() };
  }

  async stop(signal = "SIGTERM") {
    this.child.kill(signal);
    await this.ended;
  }
}

function text(text) {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

function packet(first, body) {
  const length = [];
  let left = body.length;
  do {
    length.push((left & 127) | (left > 127 ? 128 : 0));
    left >>= 7;
  } while (left);
  return Buffer.concat([Buffer.from([first, ...length]), body]);
}

// Publishes with QoS 1 over MQTT 3.1.1, and waits for each PUBACK.
export class Device {
  #socket;
  #waiting = [];
  #id = 0;
  #read = Buffer.alloc(0);

  static async connect(address, name) {
    const device = new Device();
    const [host, port] = address.split(":");
    device.#socket = net.connect(Number(port), host);
    device.#socket.on("data", data => device.#take(data));
    device.#socket.on("error", () => {});
    await new Promise(resolve => device.#socket.once("connect", resolve));
    const flags = Buffer.from([4, 2, 0, 60]);
    await device.#send(packet(0x10, Buffer.concat([text("MQTT"), flags, text(name)])));
    return device;
  }

  #send(bytes) {
    return new Promise(resolve => {
      this.#waiting.push(resolve);
      this.#socket.write(bytes);
    });
  }

  // All packets that a publisher gets (CONNACK, PUBACK) take four bytes.
  #take(data) {
    this.#read = Buffer.concat([this.#read, data]);
    while (this.#read.length >= 4) {
      this.#read = this.#read.subarray(4);
      this.#waiting.shift()?.();
    }
  }

  publish(topic, payload) {
    this.#id = (this.#id % 65_535) + 1;
    const id = Buffer.from([this.#id >> 8, this.#id & 255]);
    return this.#send(
      packet(0x32, Buffer.concat([text(topic), id, Buffer.from(typeof payload === "string" ? payload : JSON.stringify(payload))])),
    );
  }

  end() {
    this.#socket.destroy();
  }
}
