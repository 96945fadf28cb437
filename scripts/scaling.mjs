// One worker, then two behind a stock nginx: how much more is answered, and what happens when one of them
// is killed under load. docs/scaling.md says what it shows.
//
//   node scripts/scaling.mjs [--seconds 20] [--nginx /usr/sbin/nginx]
//
// Each worker computes on one thread, so that on a machine of two cores two have one each.

import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

import { Failure, build, report, worker } from './build.mjs'

const KEY = 'sk-of-a-measurement-0123456789'

/** Requests at once, and texts of some 64 tokens in each: what an index job sends. */
const AT_ONCE = 8
const TEXTS = Array.from({ length: 16 }, (_, n) => `${n} ${'the quick brown fox jumps over the lazy dog '.repeat(7)}`)

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '20' }, nginx: { type: 'string', default: 'nginx' } }
})
const RUN_MS = Number(values.seconds) * 1000

/** Everything that was started, to be ended. */
const children = []

function start(program, args, options) {
  const child = spawn(program, args, { windowsHide: true, ...options })
  child.ended = new Promise((resolve) => {
    child.once('exit', resolve)
    child.once('error', (error) => resolve(error))
  })
  children.push(child)
  return child
}

/** A worker on a free port. */
async function replica(folder, name) {
  const env = {
    ...process.env,
    EMBED_API_KEY: KEY,
    EMBED_RUNTIME_DIR: join(folder, name),
    EMBED_CACHE_DIR: join(folder, 'cache')
  }
  const args = ['serve', '--http', '0', '--threads', '1']
  const child = start(worker, args, { env, stdio: ['ignore', 'pipe', 'ignore'] })
  for await (const line of createInterface({ input: child.stdout })) {
    const { ready, error } = JSON.parse(line)
    if (error) throw new Failure(error.message)
    return { child, port: Number(new URL(ready.http).port) }
  }
  throw new Failure('worker: ended before it was ready')
}

async function freePort() {
  const server = createServer()
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The configuration of docs/scaling.md, with paths of its own. */
function configuration(folder, port, ports) {
  const servers = ports.map((port) => `    server 127.0.0.1:${port} max_fails=1 fail_timeout=2s;`).join('\n')
  return `
daemon off; master_process off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b; fastcgi_temp_path ${folder}/c;
  uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;
  upstream embed {
    least_conn;
${servers}
    keepalive 32;
  }
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 4m;
    client_body_buffer_size 1m;
    location / {
      proxy_pass http://embed;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_read_timeout 600s;
      proxy_next_upstream error timeout http_503 non_idempotent;
      proxy_next_upstream_tries 3;
    }
  }
}
`
}

async function proxy(folder, ports) {
  const home = mkdtempSync(join(folder, 'nginx-'))
  const port = await freePort()
  const file = join(home, 'nginx.conf')
  writeFileSync(file, configuration(home, port, ports))
  const child = start(values.nginx, ['-p', home, '-c', file, '-e', join(home, 'nginx.log')], { stdio: 'inherit' })
  const gone = child.ended.then((end) => {
    throw new Failure(`${values.nginx}: ended (${end}); it is Debian's package nginx, or name it with --nginx`)
  })
  gone.catch(() => {})
  for (;;) {
    const alive = await Promise.race([gone, get(port).catch(() => false)])
    if (alive) return { child, port }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function get(port) {
  return new Promise((resolve, reject) => {
    request({ port, host: '127.0.0.1', path: '/health' }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode === 200))
    }).on('error', reject).end()
  })
}

function embed(port, agent) {
  const body = JSON.stringify({ input: TEXTS, encoding_format: 'base64' })
  const headers = {
    authorization: `Bearer ${KEY}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body)
  }
  return new Promise((resolve, reject) => {
    const options = { port, host: '127.0.0.1', path: '/v1/embeddings', method: 'POST', headers, agent }
    request(options, (response) => {
      const parts = []
      response.on('data', (part) => parts.push(part)).on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(parts).toString()
        if (response.statusCode !== 200) return reject(new Error(`HTTP ${response.statusCode}: ${text}`))
        const vectors = JSON.parse(text).data
        if (vectors.length !== TEXTS.length) return reject(new Error(`${vectors.length} vectors`))
        resolve()
      })
    }).on('error', reject).end(body)
  })
}

/** Load for a while; `meanwhile` happens in the middle. */
async function load(port, meanwhile) {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })
  const found = { texts: 0, failed: 0, why: undefined, times: [] }
  const began = performance.now()
  const until = began + RUN_MS
  const client = async () => {
    while (performance.now() < until) {
      const sent = performance.now()
      try {
        await embed(port, agent)
        found.texts += TEXTS.length
        found.times.push(performance.now() - sent)
      } catch (error) {
        found.failed += 1
        found.why = error.message
      }
    }
  }
  const trouble = meanwhile && new Promise((resolve) => setTimeout(resolve, RUN_MS / 2)).then(meanwhile)
  await Promise.all([...Array.from({ length: AT_ONCE }, client), trouble])
  agent.destroy()
  found.times.sort((a, b) => a - b)
  const at = (share) => found.times[Math.min(found.times.length - 1, Math.floor(found.times.length * share))]
  return { ...found, speed: found.texts / ((performance.now() - began) / 1000), median: at(0.5), worst: at(0.99) }
}

function tell(name, { speed, median, worst, failed, why }) {
  const reason = failed ? ` (${why})` : ''
  console.log(
    `${name.padEnd(44)} ${speed.toFixed(0).padStart(6)} texts/s   p50 ${median.toFixed(0)} ms   p99 ${worst.toFixed(0)} ms   ${failed} failed${reason}`
  )
}

await report(async () => {
  build()
  const folder = mkdtempSync(join(tmpdir(), 'embed-scaling-'))
  try {
    for (const name of ['one', 'two']) {
      mkdirSync(join(folder, name))
      chmodSync(join(folder, name), 0o700)
    }
    const [first, second] = [await replica(folder, 'one'), await replica(folder, 'two')]
    const alone = await proxy(folder, [first.port])
    const both = await proxy(folder, [first.port, second.port])
    await load(first.port)
    tell('one worker', await load(first.port))
    tell('one worker behind nginx', await load(alone.port))
    tell('two workers behind nginx', await load(both.port))
    const killed = await load(both.port, () => second.child.kill('SIGKILL'))
    tell('two workers, one killed half-way', killed)
    if (killed.failed > 0) throw new Failure('requests failed when a worker was killed')
  } finally {
    for (const child of children) child.kill('SIGKILL')
    await Promise.all(children.map((child) => child.ended))
    rmSync(folder, { recursive: true, force: true })
  }
})
