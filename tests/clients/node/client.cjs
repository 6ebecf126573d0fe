// What users of MQTT.js do, in both versions, with certificates, by WebSocket, and over a kill of the gateway. The arguments: the port of the
// open listener, the folder of the certificates, the port of the listener that demands them, and that of the same by WebSocket. Prints `kill`
// when the gateway is to be killed, and reads the new port of the open listener. Exits 0 if all of it works.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const readline = require('node:readline');
const mqtt = require('mqtt');

const [port, folder, certificatesPort, websocketPort] = process.argv.slice(2);
const DEADLINE_MS = 30_000;
const LARGE = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 256));
let open = `mqtt://127.0.0.1:${port}`;

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A client whose messages can be waited for. It does not reconnect by itself. */
class Client {
  constructor(clientId, { version = 4, clean = true, keptS, will, url = open, ...options } = {}) {
    this.messages = [];
    this.waiting = [];
    const properties = version === 5 ? { sessionExpiryInterval: keptS ?? 0 } : undefined;
    this.mqtt = mqtt.connect(url, {
      clientId, clean, will, properties, protocolVersion: version, reconnectPeriod: 0, ...options,
    });
    this.mqtt.on('message', (topic, payload, packet) => {
      const message = { topic, payload, qos: packet.qos, retain: packet.retain, properties: packet.properties };
      const receiver = this.waiting.shift();
      if (receiver) receiver(message);
      else this.messages.push(message);
    });
    this.closed = new Promise((resolve) => this.mqtt.once('close', resolve));
    const refused = new Promise((_, reject) => {
      this.mqtt.on('error', reject);
      this.mqtt.once('close', () => reject(new Error('closed')));
    });
    refused.catch(() => {});
    const connected = new Promise((resolve) => this.mqtt.once('connect', resolve));
    this.connected = within('CONNACK', Promise.race([connected, refused]));
  }

  /** Whether there was a session. */
  async start() {
    return (await this.connected).sessionPresent;
  }

  static async start(clientId, options) {
    const client = new Client(clientId, options);
    assert.equal(await client.start(), false);
    return client;
  }

  /** The codes that are granted. */
  async subscribe(filters) {
    const granted = await within('SUBACK', this.mqtt.subscribeAsync(filters));
    return granted.map(({ qos }) => qos);
  }

  publish(topic, payload, options) {
    return within('an acknowledgement', this.mqtt.publishAsync(topic, payload, { qos: 1, ...options }));
  }

  next() {
    const next = this.messages.shift();
    return next ? Promise.resolve(next) : within('a message', new Promise((resolve) => this.waiting.push(resolve)));
  }

  /** The next message is this one. */
  async expect(topic, payload, qos, retain = false) {
    const next = await this.next();
    assert.deepEqual([next.topic, next.payload, next.qos, next.retain], [topic, Buffer.from(payload), qos, retain]);
    return next;
  }

  /** Without a DISCONNECT. */
  drop() {
    this.mqtt.stream.destroy();
    return this.closed;
  }

  end() {
    return this.mqtt.endAsync();
  }
}

async function allQualitiesBothWays(version) {
  const subscriber = await Client.start('subscriber', { version });
  const publisher = await Client.start('publisher', { version });
  const filters = { 'devices/js/+': { qos: 2 }, 'low/#': { qos: 0 }, 'middle/#': { qos: 1 } };
  assert.deepEqual(await subscriber.subscribe(filters), [2, 0, 1]);
  for (const qos of [0, 1, 2]) {
    await publisher.publish('devices/js/t', `{"t":${qos}}`, { qos });
    await subscriber.expect('devices/js/t', `{"t":${qos}}`, qos);
    await publisher.publish('middle/t', 'x', { qos });
    await subscriber.expect('middle/t', 'x', Math.min(qos, 1));
  }
  await publisher.publish('low/t', 'x', { qos: 2 });
  await subscriber.expect('low/t', 'x', 0);
  for (let number = 0; number < 50; number += 1) {
    publisher.mqtt.publish('middle/many', String(number), { qos: 2 });
  }
  for (let number = 0; number < 50; number += 1) {
    await subscriber.expect('middle/many', String(number), 1);
  }
  await subscriber.mqtt.unsubscribeAsync('middle/#');
  await publisher.publish('middle/t', 'not any more');
  await publisher.publish('low/t', 'last');
  await subscriber.expect('low/t', 'last', 0);
  await Promise.all([subscriber.end(), publisher.end()]);
}

async function retained(version) {
  const publisher = await Client.start('publisher', { version });
  await publisher.publish('state/js', 'on', { retain: true });
  for (const isThere of [true, false]) {
    const late = await Client.start('late', { version });
    await late.subscribe({ 'state/#': { qos: 1 }, end: { qos: 1 } });
    await publisher.publish('end', 'x');
    if (isThere) await late.expect('state/js', 'on', 1, true);
    await late.expect('end', 'x', 1);
    await late.end();
    await publisher.publish('state/js', '', { retain: true });
  }
  await publisher.end();
}

async function will(version) {
  const watcher = await Client.start('watcher', { version });
  await watcher.subscribe({ 'wills/#': { qos: 2 } });
  const last = (payload) => ({ topic: 'wills/js', payload, qos: 1, retain: false });
  const polite = await Client.start('polite', { version, will: last('never') });
  await polite.end();
  const rude = await Client.start('rude', { version, will: last('gone') });
  await rude.drop();
  await watcher.expect('wills/js', 'gone', 1);
  await watcher.end();
}

async function propertiesOfVersion5() {
  const version = 5;
  const subscriber = await Client.start('subscriber', { version });
  const publisher = await Client.start('publisher', { version });
  const old = await Client.start('old');
  for (const client of [subscriber, old]) await client.subscribe({ 'ask/#': { qos: 2 } });
  const properties = {
    userProperties: { road: ['dry', 'icy'], driver: 'anna' },
    messageExpiryInterval: 60,
    responseTopic: 'answers/js',
    correlationData: Buffer.from([0, 7]),
    contentType: 'text/plain',
    payloadFormatIndicator: true,
  };
  await publisher.publish('ask/a', '?', { qos: 2, properties });
  const { messageExpiryInterval: left, ...said } = (await subscriber.expect('ask/a', '?', 2)).properties;
  assert.ok(left > 50 && left <= 60, String(left));
  const { messageExpiryInterval: _, ...expected } = properties;
  // MQTT.js makes an object without a prototype of them.
  assert.deepEqual({ ...said, userProperties: { ...said.userProperties } }, expected);
  await old.expect('ask/a', '?', 2);
  await Promise.all([subscriber.end(), publisher.end(), old.end()]);
}

async function expiryOfVersion5() {
  const version = 5;
  const keeper = await Client.start('expecting', { version, keptS: 60 });
  await keeper.subscribe({ 'soon/#': { qos: 1 } });
  await keeper.end();
  const publisher = await Client.start('publisher', { version });
  await publisher.publish('soon/t', 'useless', { properties: { messageExpiryInterval: 1 } });
  await publisher.publish('soon/t', 'of use', { properties: { messageExpiryInterval: 600 } });
  // It is the passing of time that is tested.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const back = new Client('expecting', { version, clean: false });
  assert.equal(await back.start(), true);
  await back.expect('soon/t', 'of use', 1);
  await Promise.all([back.end(), publisher.end()]);
}

async function certificate(url) {
  const read = (name) => fs.readFileSync(`${folder}/${name}`);
  const own = { ca: read('ca.pem'), cert: read('devices/truck-7.pem'), key: read('devices/truck-7.key') };
  const truck = await Client.start('truck-7', { version: 5, url, ...own });
  assert.deepEqual(await truck.subscribe({ 'devices/truck-7/#': { qos: 1 } }), [1]);
  await truck.publish('devices/truck-7/temperature', '21.5');
  await truck.expect('devices/truck-7/temperature', '21.5', 1);
  await truck.publish('devices/truck-7/note', LARGE, { qos: 2 });
  await truck.expect('devices/truck-7/note', LARGE, 1);
  await assert.rejects(truck.publish('devices/truck-8/temperature', '21.5'), { code: 0x87 });
  await truck.end();
  const strangers = [{ ca: own.ca }, { cert: own.cert, key: own.key }];
  for (const options of strangers) {
    await assert.rejects(new Client('stranger', { version: 5, url, ...options }).start());
  }
}

const keepers = () => [4, 5].map((version) => new Client(`kept-js-${version}`, { version, clean: false, keptS: 300 }));

async function beforeAKill() {
  for (const keeper of keepers()) {
    assert.equal(await keeper.start(), false);
    await keeper.subscribe({ 'kept/#': { qos: 2 } });
    await keeper.end();
  }
  const publisher = await Client.start('publisher', { version: 5 });
  await publisher.publish('state/kept', 'on', { retain: true });
  for (let number = 0; number < 60; number += 1) {
    const properties = { userProperties: { number: String(number) }, messageExpiryInterval: 600 };
    await publisher.publish('kept/t', String(number), { qos: 1 + (number % 2), properties });
  }
  return publisher;
}

async function afterAKill() {
  const publisher = await Client.start('publisher', { version: 5 });
  const back = keepers();
  for (const keeper of back) assert.equal(await keeper.start(), true);
  await publisher.publish('kept/t', 'after');
  for (const [index, keeper] of back.entries()) {
    const came = [];
    while (came.length < 61) came.push(await keeper.next());
    // What has QoS 2 is shown when it is released, which may be after later messages of QoS 1.
    for (const qos of [1, 2]) {
      const sent = Array.from({ length: 60 }, (_, number) => String(number)).filter((number) => 1 + (number % 2) === qos);
      const payloads = came.filter((message) => message.qos === qos).map(({ payload }) => payload.toString());
      assert.deepEqual(payloads, qos === 1 ? [...sent, 'after'] : sent);
    }
    for (const { payload, properties } of came.filter((message) => index === 1 && message.payload.toString() !== 'after')) {
      assert.equal(properties.userProperties.number, payload.toString());
      assert.ok(properties.messageExpiryInterval <= 600);
    }
  }
  const late = await Client.start('late');
  await late.subscribe({ 'state/#': { qos: 1 } });
  await late.expect('state/kept', 'on', 1, true);
  await Promise.all([publisher, late, ...back].map((client) => client.end()));
}

async function main() {
  for (const version of [4, 5]) {
    for (const scenario of [allQualitiesBothWays, retained, will]) {
      console.log(`${scenario.name} ${version}`);
      await scenario(version);
    }
  }
  for (const scenario of [propertiesOfVersion5, expiryOfVersion5]) {
    console.log(scenario.name);
    await scenario();
  }
  for (const url of [`mqtts://127.0.0.1:${certificatesPort}`, `wss://127.0.0.1:${websocketPort}/mqtt`]) {
    console.log(`certificate ${url}`);
    await certificate(url);
  }
  const connected = await beforeAKill();
  console.log('kill');
  const lines = readline.createInterface({ input: process.stdin });
  const [newPort] = await within('a port', new Promise((resolve) => lines.once('line', (line) => resolve([line]))));
  lines.close();
  await within('the end of a connection', connected.closed);
  open = `mqtt://127.0.0.1:${newPort}`;
  await afterAKill();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
