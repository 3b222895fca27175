// Ask a gRPC server what a test wants asked, with @grpc/grpc-js.
//
//     NODE_PATH=node_modules node grpc_client.js 127.0.0.1:9000
//
// The orders and the answers are those of grpc_client.py, which explains
// them. Messages are read and written by @grpc/proto-loader, from the file
// tinyfaas.proto beside this one.

const path = require('path')
const readline = require('readline')
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')

const [address] = process.argv.slice(2)
const proto = grpc.loadPackageDefinition(
  loader.loadSync(path.join(__dirname, 'tinyfaas.proto'),
    { keepCase: true, defaults: true }))
const TinyFaaS = proto.openfogstack.tinyfaas.tinyfaas.TinyFaaS
const lines = {}

// One connection for plain requests, and one for compressed ones.
function line (order) {
  const options = order.gzip
    ? { 'grpc.default_compression_algorithm': 2 } : {}
  lines[!!order.gzip] ||= new TinyFaaS(
    address, grpc.credentials.createInsecure(), options)
  return lines[!!order.gzip]
}

function metadataOf (order) {
  const metadata = new grpc.Metadata()
  for (const [name, value] of order.metadata || []) {
    metadata.add(name, name.endsWith('-bin')
      ? Buffer.from(value, 'hex') : value)
  }
  return metadata
}

// Each line says where it is, lest equal pieces hide a wrong order.
const PATTERN = Array.from({ length: 1 << 19 },
  (_, number) => String(number).padStart(7, '0') + '\n').join('')

const textOf = (order) => order.text || PATTERN.slice(0, order.size || 0)
const until = (order) => Date.now() + 1000 * (order.timeout || 60)
const same = (bytes) => bytes

function statusOf (error) {
  const trailing = {}
  const all = error && error.metadata ? error.metadata.getMap() : {}
  for (const [name, value] of Object.entries(all)) {
    trailing[name] = value.toString(Buffer.isBuffer(value) ? 'hex' : 'utf8')
  }
  return {
    code: grpc.status[error ? error.code : 0],
    details: error ? error.details : '',
    trailing
  }
}

// Begin a call: what it gives has `call`, to be cancelled, and `answer`.
function begin (order) {
  const begun = {}
  const options = { deadline: until(order) }
  begun.answer = new Promise((resolve) => {
    const ended = (error, response) => resolve(endOf(error, response, order))
    if ('raw' in order) {
      begun.call = line(order).makeUnaryRequest(
        order.method || TinyFaaS.service.Request.path, same, same,
        Buffer.from(order.raw, 'hex'), metadataOf(order), options, ended)
    } else {
      begun.call = line(order).Request(
        { functionIdentifier: order.fn, data: textOf(order) },
        metadataOf(order), options, ended)
    }
  })
  return begun
}

function endOf (error, response, order) {
  const said = statusOf(error)
  if ('raw' in order) {
    return { ...said, raw: error ? '' : response.toString('hex') }
  }
  if (error) return said
  const got = response.response
  return {
    ...said,
    text: got.slice(0, 2000),
    size: Buffer.byteLength(got),
    same: got === textOf(order)
  }
}

async function many (order) {
  const begun = Array.from({ length: order.count }, () => begin(order))
  const ends = await Promise.all(begun.map((one) => one.answer))
  const codes = {}
  for (const { code } of ends) codes[code] = (codes[code] || 0) + 1
  return {
    codes,
    same: ends.filter((one) => one.same).length,
    details: [...new Set(ends.map((one) => one.details))].sort()
  }
}

// Ask each of `raws` in one stream, after the answer to the one before.
function stream (order) {
  const left = order.raws.map((raw) => Buffer.from(raw, 'hex'))
  const raws = []
  const call = line(order).makeBidiStreamRequest(
    order.method, same, same, metadataOf(order), { deadline: until(order) })
  const ask = () => {
    if (left.length) call.write(left.shift())
    if (!left.length && (order.most || raws.length === order.raws.length)) {
      call.end()
    }
  }
  return new Promise((resolve) => {
    call.on('data', (message) => {
      raws.push(message.toString('hex'))
      if (raws.length === order.most) call.cancel()
      else ask()
    })
    call.on('error', () => {})          // It has a status as well.
    call.on('status', (status) => resolve({ ...statusOf(status), raws }))
    ask()
  })
}

let running

async function obey (order) {
  const kind = order.do || 'call'
  if (kind === 'begin') {
    running = begin(order)
    return {}
  }
  if (kind === 'cancel') running.call.cancel()
  if (kind === 'cancel' || kind === 'end') return running.answer
  if (kind === 'call') return begin(order).answer
  return { many, stream }[kind](order)
}

(async () => {
  for await (const text of readline.createInterface(process.stdin)) {
    process.stdout.write(JSON.stringify(await obey(JSON.parse(text))) + '\n')
  }
  process.exit(0)
})()
