// Runs the scenarios of test/clients with kafkajs. How it is called and what it
// prints is in ../doc.go.
import readline from 'node:readline'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, Partitioners, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = snappy

const [scenario, bootstrap, ...rest] = process.argv.slice(2)
const args = Object.fromEntries(rest.map((a) => a.split('=')))
const partitions = Number(args.partitions)
const kafka = new Kafka({ clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.ERROR, retry: { retries: 30, initialRetryTime: 50, maxRetryTime: 1000 } })
const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }
const retention = '315360000000' // ten years

const emit = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
const text = (buffer) => (buffer === null || buffer === undefined ? null : buffer.toString())

const record = (i, of = partitions) => ({
  partition: i % of,
  key: i % 7 === 3 ? null : `key-${i % 13}`,
  value: i % 11 === 5 ? null : `${args.run} ${i} schöner 🐢 ${'weir '.repeat(20)}`,
  headers: { run: args.run, index: String(i), empty: '' },
  timestamp: String(1700000000000 + 1000 * i),
})

const records = (from, count, of) => Array.from({ length: count }, (_, i) => record(from + i, of))

const emitRecord = ({ partition, message }) =>
  emit('record', {
    partition,
    offset: Number(message.offset),
    key: text(message.key),
    value: text(message.value),
    headers: Object.entries(message.headers).map(([k, v]) => [k, text(v)]),
    timestamp: Number(message.timestamp),
  })

function producer(options) {
  return kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...options })
}

async function produce() {
  const idempotent = args.idempotent === 'true'
  const p = producer(idempotent ? { idempotent, maxInFlightRequests: 1 } : {})
  await p.connect()
  const [from, count] = [Number(args.from ?? 0), Number(args.count)]
  const batch = Number(args.batch ?? count)
  const turns = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  for (let done = 0; done < count; ) {
    if (args.paced === 'true') await turns.next()
    const messages = records(from + done, Math.min(batch, count - done))
    await p.send({ topic: args.topic, acks: -1, compression: codecs[args.codec], messages })
    done += messages.length
    emit('acked', { count: done })
  }
  await p.disconnect()
}

// consume is a group of one: kafkajs has no consumer without a group.
async function consume() {
  const c = kafka.consumer({ groupId: `consume-${args.topic}-${process.pid}`, readUncommitted: args.isolation !== 'committed', maxWaitTimeInMs: 100 })
  await c.connect()
  await c.subscribe({ topic: args.topic, fromBeginning: true })
  const ends = new Set()
  await new Promise((resolve, reject) => {
    c.on(c.events.CRASH, (e) => reject(e.payload.error))
    c.run({
      partitionsConsumedConcurrently: 1,
      autoCommit: false,
      eachMessage: async (m) => {
        if (text(m.message.value) !== 'end') return emitRecord(m)
        ends.add(m.partition)
        if (ends.size === partitions) resolve()
      },
    }).catch(reject)
  })
  await c.disconnect()
}

async function group() {
  const left = new Promise((resolve) => process.stdin.on('end', resolve).resume())
  const c = kafka.consumer({ groupId: args.group, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 100 })
  c.on(c.events.GROUP_JOIN, (e) => emit('assigned', { partitions: e.payload.memberAssignment[args.topic] ?? [] }))
  const crashed = new Promise((_, reject) => c.on(c.events.CRASH, (e) => e.payload.restart || reject(e.payload.error)))
  await c.connect()
  await c.subscribe({ topic: args.topic, fromBeginning: true })
  await c.run({
    autoCommit: false,
    eachMessage: async (m) => {
      emitRecord(m)
      await c.commitOffsets([{ topic: m.topic, partition: m.partition, offset: String(Number(m.message.offset) + 1) }])
    },
  })
  await Promise.race([left, crashed])
  await c.disconnect()
}

const fencing = new Set(['PRODUCER_FENCED', 'INVALID_PRODUCER_EPOCH'])

async function transact() {
  const p = producer({ transactionalId: args.id, maxInFlightRequests: 1, idempotent: true })
  await p.connect()
  let transaction
  const steps = {
    begin: async () => { transaction = await p.transaction() },
    produce: (from, count) => transaction.send({ topic: args.topic, acks: -1, messages: records(from, count) }),
    offset: (offset) => transaction.sendOffsets({ consumerGroupId: args.group, topics: [{ topic: args.source, partitions: [{ partition: 0, offset: String(offset) }] }] }),
    commit: () => transaction.commit(),
    abort: () => transaction.abort(),
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [step, ...numbers] = line.split(' ')
    try {
      await steps[step](...numbers.map(Number))
      emit('ok', { step })
    } catch (error) {
      emit('failed', { step, error: error.message, fenced: fencing.has(error.type) || fencing.has(error.cause?.type) })
    }
  }
  await p.disconnect()
}

async function admin() {
  const a = kafka.admin()
  await a.connect()
  await a.createTopics({ topics: [{ topic: args.topic, numPartitions: 3, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: retention }] }] })
  const p = producer()
  await p.connect()
  await p.send({ topic: args.topic, acks: -1, messages: records(0, 30, 3) })
  await p.disconnect()
  const { resources } = await a.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: args.topic, configNames: ['retention.ms'] }] })
  for (const c of resources[0].configEntries) emit('config', { [c.configName]: c.configValue })
  await a.deleteTopicRecords({ topic: args.topic, partitions: [{ partition: 0, offset: '5' }] })
  await a.disconnect()
}

try {
  await { produce, consume, group, transact, admin }[scenario]()
  emit('done', {})
  await new Promise((written) => process.stdout.write('', written)) // an exit drops what a full pipe has not taken
  process.exit(0) // without waiting for timers of the library
} catch (error) {
  console.error(error)
  process.exit(1)
}
