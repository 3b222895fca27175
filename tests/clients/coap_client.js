// Ask a CoAP server what a test wants asked, with npm's coap.
//
//     NODE_PATH=node_modules node coap_client.js coap://127.0.0.1:5683
//
// The orders and the answers are those of coap_client.py, which explains
// them.

const readline = require('readline')
const coap = require('coap')

const base = new URL(process.argv[2].replace('coap:', 'http:'))
const host = base.hostname.replace(/[[\]]/g, '')
const type = host.includes(':') ? 'udp6' : 'udp4'
const calls = new coap.Agent({ type })
const PATTERN = Buffer.from(Array.from({ length: 1 << 17 },
  (_, number) => String(number).padStart(7, '0') + '\n').join(''))

function payloadOf (order) {
  if ('hex' in order) return Buffer.from(order.hex, 'hex')
  return order.text ? Buffer.from(order.text)
    : PATTERN.subarray(0, order.size || 0)
}

function requestOf (order, agent = calls, observe = false) {
  const [pathname, query] = order.path.split('?')
  const request = coap.request({
    host,
    port: base.port,
    agent,
    observe,
    method: order.method || 'POST',
    pathname: '/' + pathname,
    query,
    confirmable: !order.non
  })
  for (const [number, value] of order.options || []) {
    request.setOption(String(number), Buffer.from(value, 'hex'))
  }
  const payload = payloadOf(order)
  // It cuts a body into blocks of 16 << 6 bytes where it is told to.
  if (payload.length > 1024) request.setOption('Block1', Buffer.of(6))
  request.end(payload)
  return request
}

function answerOf (response, payload, order) {
  return {
    code: response.code,
    text: payload.subarray(0, 2000).toString(),
    size: payload.length,
    same: payload.equals(payloadOf(order))
  }
}

function call (order) {
  return new Promise((resolve, reject) => {
    requestOf(order).on('error', reject).on('response', (response) => {
      resolve(answerOf(response, response.payload, order))
    })
  })
}

async function many (order) {
  const ends = await Promise.all(
    Array.from({ length: order.count }, () => call(order)))
  return {
    codes: [...new Set(ends.map((one) => one.code))].sort(),
    same: ends.filter((one) => one.same).length
  }
}

let watch

function observe (order) {
  watch = { order, came: [], waiting: [] }
  // The end of an observation closes its agent, so it has one of its own.
  const request = requestOf(order, new coap.Agent({ type }), true)
  request.on('response', (response) => {
    watch.response = response
    response.on('data', (payload) => {
      const answer = answerOf(response, payload, order)
      if (watch.waiting.length) watch.waiting.shift()(answer)
      else watch.came.push(answer)
    })
  })
  return next()
}

function next () {
  if (watch.came.length) return watch.came.shift()
  return new Promise((resolve) => watch.waiting.push(resolve))
}

function stop () {
  watch.response.close()
  return {}
}

(async () => {
  for await (const text of readline.createInterface(process.stdin)) {
    const order = JSON.parse(text)
    const does = { call, many, observe, next, stop }
    const answer = await does[order.do || 'call'](order)
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
  process.exit(0)
})()
