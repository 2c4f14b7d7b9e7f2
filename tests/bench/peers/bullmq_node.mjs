// BullMQ on node: "worker", or what client.py does: <what> <JSON>.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const { Queue, QueueEvents, Worker } = createRequire(`${process.env.BENCH_NODE}/package.json`)('bullmq');
const place = new URL(process.env.BENCH_URL);
const connection = { host: place.hostname, port: Number(place.port), maxRetriesPerRequest: null };
const TEXT = 'x'.repeat(80);
// The same clock as Python's time.monotonic.
const now = () => Number(process.hrtime.bigint()) / 1e9;
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1e3));

let file = null;
const functions = {
  mark(number) {
    file ??= fs.openSync(process.env.BENCH_MARKS, 'a');
    const record = Buffer.alloc(16);
    record.writeDoubleLE(now(), 0);
    record.writeBigInt64LE(BigInt(number), 8);
    fs.writeSync(file, record);
    return number;
  },
  // There is no clock of a thread's CPU time here: it is time on the wall.
  spin(milliseconds) {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
    return milliseconds;
  },
};

function percentiles(values) {
  const ordered = [...values].sort((a, b) => a - b);
  const at = (part) => ordered[Math.min(ordered.length - 1, Math.floor(ordered.length * part))];
  return { 'p50 ms': at(0.5), 'p95 ms': at(0.95) };
}

async function submit(queue, { count, bulk }) {
  const began = now();
  if (bulk) {
    for (let start = 0; start < count; start += 1000) {
      const length = Math.min(1000, count - start);
      await queue.addBulk(Array.from({ length }, (_, at) => ({ name: 'mark', data: { value: start + at, text: TEXT } })));
    }
  } else {
    for (let number = 0; number < count; number++) await queue.add('mark', { value: number, text: TEXT });
  }
  return { 'tasks/s': count / (now() - began) };
}

async function use(queue, { rows, trials, seconds, less }) {
  const events = new QueueEvents('bench', { connection });
  await events.waitUntilReady();
  events.setMaxListeners(0);
  const run = async (name, value) => (await queue.add(name, { value })).waitUntilFinished(events, 30000);
  const map = async (name, values) => {
    const jobs = await queue.addBulk(values.map((value) => ({ name, data: { value } })));
    return Promise.all(jobs.map((job) => job.waitUntilFinished(events, 120000)));
  };
  const found = {};
  for (let warm = 0; warm < 12; warm++) await run('mark', -1);
  if (rows.includes('C')) {
    fs.truncateSync(process.env.BENCH_MARKS, 0);
    const submitted = [], times = [], starts = [], limit = now() + seconds;
    for (let number = 0; number < trials && now() < limit; number++) {
      await sleep(0.001 + Math.random() * 0.009);
      submitted[number] = now();
      await run('mark', number);
      times.push((now() - submitted[number]) * 1e3);
    }
    const data = fs.readFileSync(process.env.BENCH_MARKS);
    for (let at = 0; at + 16 <= data.length; at += 16) {
      const number = Number(data.readBigInt64LE(at + 8));
      if (number in submitted) starts.push((data.readDoubleLE(at) - submitted[number]) * 1e3);
    }
    found.C = percentiles(times);
    found.D = percentiles(starts);
  }
  await map('spin', [1, 1, 1, 1]);
  for (const [name, all, milliseconds] of [['E', 1000, 1], ['F', 200, 20]]) {
    if (!rows.includes(name)) continue;
    const began = now();
    await map('spin', Array(Math.max(20, Math.floor(all / less))).fill(milliseconds));
    found[name] = { s: now() - began };
  }
  await events.close();
  return found;
}

const [what, wanted] = process.argv.slice(2);
if (what === 'worker') {
  new Worker('bench', async (job) => functions[job.name](job.data.value), { connection, concurrency: 10 });
} else {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  console.log('RESULT ' + JSON.stringify(await { submit, use }[what](queue, JSON.parse(wanted))));
  process.exit(0);
}
