// Cases of npm's mqtt against a broker: node cases.js URL VERSION, with VERSION 4 (3.1.1) or 5.
// Writes one line for each case, "ok NAME" or "failed NAME: why", and exits with 1 if one failed.
import assert from 'node:assert/strict'
import mqtt from 'mqtt'

const [url, version] = [process.argv[2], Number(process.argv[3])]
const v5 = version === 5
const patience = 15_000
let made = 0
const unique = (prefix) => `${prefix}${process.pid}n${++made}`
const numbered = (n) => Array.from({ length: n }, (_, i) => `m${i}`)

/** A client whose messages are kept in the order of their arrival. */
class Client {
  got = []
  #waiting = []

  static async open(options = {}) {
    const c = new Client()
    c.mqtt = mqtt.connect(url, { protocolVersion: version, clientId: unique('js'), reconnectPeriod: 0, ...options })
    c.mqtt.on('error', (e) => { c.error = e })
    c.mqtt.on('message', (topic, payload, packet) => {
      c.got.push({ topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, properties: packet.properties })
      c.#waiting = c.#waiting.filter((check) => !check())
    })
    c.connack = await within('CONNACK', new Promise((resolve, reject) => {
      c.mqtt.once('connect', resolve)
      c.mqtt.once('error', reject)
      c.mqtt.once('close', () => reject(new Error('closed before CONNACK')))
    }))
    opened.push(c)
    return c
  }

  /** The next n messages, removed from what was received. */
  take(n) {
    return within(`${n} messages`, new Promise((resolve) => {
      const check = () => this.got.length >= n && (resolve(this.got.splice(0, n)), true)
      if (!check()) this.#waiting.push(check)
    }), () => `, got ${this.got.length}`)
  }

  async sub(filter, qos, options = {}) {
    const [grant] = await within('SUBACK', this.mqtt.subscribeAsync(filter, { qos, ...options }))
    assert.equal(grant.qos, qos)
  }

  pub(topic, payload, qos, options = {}) {
    return within('the end of a publish', this.mqtt.publishAsync(topic, payload, { qos, ...options }))
  }

  end(options = {}) {
    return within('the end', this.mqtt.endAsync(false, options))
  }

  cut() {
    this.mqtt.stream.destroy()
  }
}

const opened = []

function within(what, promise, detail = () => '') {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${patience} ms for ${what}${detail()}`)), patience)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

const payloads = (messages) => messages.map((m) => m.payload)
const plain = (messages) => messages.map(({ topic, payload, qos, retain }) => ({ topic, payload, qos, retain }))

const cases = {
  async qos() {
    for (const qos of [0, 1, 2]) {
      const topic = unique('t')
      const [sub, pub] = [await Client.open(), await Client.open()]
      await sub.sub(`${topic}/#`, qos)
      const want = numbered(100)
      await Promise.all(want.map((p) => pub.pub(`${topic}/a`, p, qos)))
      const got = await sub.take(want.length)
      assert.deepEqual(payloads(got), want)
      assert.ok(got.every((m) => m.qos === qos && !m.retain && m.topic === `${topic}/a`))
    }
  },

  async large() {
    const topic = unique('t')
    const c = await Client.open()
    await c.sub(topic, 1)
    const big = 'x'.repeat(300_000)
    await c.pub(topic, big, 1)
    const [m] = await c.take(1)
    assert.ok(m.payload === big, `the payload arrived changed (${m.payload.length} characters)`)
  },

  async retained() {
    const topic = unique('t')
    const pub = await Client.open()
    await pub.pub(topic, 'kept', 1, { retain: true })
    const late = await Client.open()
    await late.sub(topic, 1)
    assert.deepEqual(plain(await late.take(1)), [{ topic, payload: 'kept', qos: 1, retain: true }])
    await pub.pub(topic, '', 1, { retain: true })
    assert.deepEqual(plain(await late.take(1)), [{ topic, payload: '', qos: 1, retain: false }])
    const later = await Client.open()
    await later.sub(topic, 1)
    await pub.pub(topic, 'end', 1)
    assert.deepEqual(payloads(await later.take(1)), ['end'])
  },

  async will() {
    const topic = unique('t')
    const properties = { contentType: 'text/plain', responseTopic: 'r', correlationData: Buffer.from([9, 0]), messageExpiryInterval: 500 }
    const will = { topic, payload: 'gone', qos: 1, retain: false, ...(v5 && { properties: { willDelayInterval: 0, ...properties } }) }
    const watch = await Client.open()
    await watch.sub(topic, 1)
    await (await Client.open({ will })).end()
    await watch.pub(topic, 'between', 1)
    assert.deepEqual(payloads(await watch.take(1)), ['between'])
    ;(await Client.open({ will })).cut()
    const [m] = await watch.take(1)
    assert.equal(m.payload, 'gone')
    if (v5) {
      assert.equal(m.properties.contentType, 'text/plain')
      assert.equal(m.properties.responseTopic, 'r')
      assert.deepEqual([...m.properties.correlationData], [9, 0])
      assert.ok(m.properties.messageExpiryInterval > 490)
    }
  },

  async resume() {
    const topic = unique('t')
    const keep = { clientId: unique('jr'), clean: false, ...(v5 && { properties: { sessionExpiryInterval: 300 } }) }
    const first = await Client.open(keep)
    assert.equal(first.connack.sessionPresent, false)
    await first.sub(topic, 2)
    await first.end()
    const pub = await Client.open()
    const want = numbered(30)
    for (const p of want) await pub.pub(topic, p, 1)
    const again = await Client.open(keep)
    assert.equal(again.connack.sessionPresent, true)
    assert.deepEqual(payloads(await again.take(want.length)), want)
    await again.end()
    const clean = await Client.open({ ...keep, clean: true })
    assert.equal(clean.connack.sessionPresent, false)
  },

  async shared() {
    const topic = unique('t')
    const [a, b, pub] = [await Client.open(), await Client.open(), await Client.open()]
    await a.sub(`$share/g/${topic}`, 1)
    await b.sub(`$share/g/${topic}`, 1)
    const want = numbered(40)
    for (const p of want) await pub.pub(topic, p, 1)
    await within('the group', new Promise((resolve) => {
      const check = () => a.got.length + b.got.length >= want.length && resolve()
      a.mqtt.on('message', check)
      b.mqtt.on('message', check)
      check()
    }), () => `, got ${a.got.length} and ${b.got.length}`)
    assert.deepEqual([...payloads(a.got), ...payloads(b.got)].sort(), [...want].sort())
    assert.ok(a.got.length > 0 && b.got.length > 0, 'one member got everything')
  },

  ...(v5 && {
    async properties() {
      const topic = unique('t')
      const [sub, pub] = [await Client.open(), await Client.open()]
      await sub.sub(topic, 1, { properties: { subscriptionIdentifier: 77 } })
      const userProperties = { z: ['1', '2'], a: '3' }
      await pub.pub(topic, 'body', 1, { properties: {
        payloadFormatIndicator: true, messageExpiryInterval: 900, contentType: 'text/plain',
        responseTopic: `${topic}/r`, correlationData: Buffer.from([1, 2]), userProperties,
      } })
      const { properties: p } = (await sub.take(1))[0]
      assert.equal(p.payloadFormatIndicator, true)
      assert.ok(p.messageExpiryInterval > 890 && p.messageExpiryInterval <= 900)
      assert.equal(p.contentType, 'text/plain')
      assert.equal(p.responseTopic, `${topic}/r`)
      assert.deepEqual([...p.correlationData], [1, 2])
      assert.deepEqual(JSON.parse(JSON.stringify(p.userProperties)), userProperties)
      assert.equal(p.subscriptionIdentifier, 77)
    },

    async request() {
      const topic = unique('t')
      const [server, asker] = [await Client.open(), await Client.open()]
      server.mqtt.on('message', (_, payload, { properties: p }) => {
        server.mqtt.publish(p.responseTopic, `re: ${payload}`, { qos: 1, properties: { correlationData: p.correlationData } })
      })
      await server.sub(topic, 1)
      await asker.sub(`${topic}/answer`, 1)
      await asker.pub(topic, 'question', 1, { properties: { responseTopic: `${topic}/answer`, correlationData: Buffer.from('c') } })
      const [m] = await asker.take(1)
      assert.equal(m.payload, 're: question')
      assert.equal(m.properties.correlationData.toString(), 'c')
    },
  }),
}

const outcomes = await Promise.all(Object.entries(cases).map(async ([name, run]) => {
  try {
    await run()
    console.log(`ok ${name}`)
    return true
  } catch (e) {
    console.log(`failed ${name}: ${String(e.message).replaceAll('\n', ' ')}`)
    return false
  }
}))
for (const c of opened) c.mqtt.end(true)
process.exitCode = outcomes.every(Boolean) ? 0 : 1
