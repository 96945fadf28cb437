// Makes the packages that are published, as tarballs.
//
//   node scripts/pack.mjs                                     main and this system's, from what `npm run build` has built
//   node scripts/pack.mjs main                                only that without a platform
//   node scripts/pack.mjs linux-arm64-gnu                     a platform's; on Debian 12 also another system's, which is built
//   node scripts/pack.mjs darwin-arm64 --addon F --worker F   a platform's, from these two files
//   … --out FOLDER                                            where they are put; default: dist
//
// `@embed/client` holds JavaScript, types and model, and names a package for each platform as an optional dependency:
// npm installs the one that fits. Such a package holds addon and worker and nothing else. None has an install script.
//
// The names of the tarballs are printed, one a line.

import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, root, worker } from './build.mjs'

/** What npm asks of a system before it installs a package. */
export const PLATFORMS = {
  'linux-x64-gnu': { os: ['linux'], cpu: ['x64'], libc: ['glibc'] },
  'linux-x64-musl': { os: ['linux'], cpu: ['x64'], libc: ['musl'] },
  'linux-arm64-gnu': { os: ['linux'], cpu: ['arm64'], libc: ['glibc'] },
  'darwin-x64': { os: ['darwin'], cpu: ['x64'] },
  'darwin-arm64': { os: ['darwin'], cpu: ['arm64'] },
  'win32-x64': { os: ['win32'], cpu: ['x64'] },
  'win32-arm64': { os: ['win32'], cpu: ['arm64'] }
}

/** Files of the package without a platform; of the models, what others may have put beside them is not. */
const MODEL_FILES = ['all-MiniLM-L6-v2.Q8_0.gguf', 'LICENSE', 'README.md', 'SHA256SUMS']
const MAIN_FILES = ['index.js', 'load.js', 'index.d.ts', 'README.md', 'CHANGELOG.md', 'LICENSE', ...MODEL_FILES.map((file) => join('models', file))]

const manifest = () => JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** The name of a platform's package. */
export const packageName = (platform) => `${manifest().name}-${platform}`

/** The platform for which a build here is. */
export const thisPlatform = () => /\.([^.]+)\.node$/.exec(basename(addonPath()))[1]

/** The package without a platform; gives the tarball. */
export function packMain(out) {
  // A clone is private, so that nobody publishes it with the binaries of one system in it.
  const { private: _, scripts, files, ...rest } = manifest()
  const optionalDependencies = Object.fromEntries(Object.keys(PLATFORMS).map((platform) => [packageName(platform), rest.version]))
  return pack(out, (folder) => {
    for (const file of MAIN_FILES) cpSync(join(root, file), join(folder, file), { recursive: true })
    return { ...rest, optionalDependencies }
  })
}

/** A platform's package, from its addon and its worker; gives the tarball. */
export function packPlatform(platform, { addon, worker }, out) {
  for (const file of [addon, worker]) {
    if (!existsSync(file)) throw new Failure(`${platform}: there is no ${file}`)
  }
  const { version, license, repository, engines, description } = manifest()
  const name = packageName(platform)
  return pack(out, (folder) => {
    const program = join(folder, 'bin', platform.startsWith('win32') ? 'embed-worker.exe' : 'embed-worker')
    mkdirSync(join(folder, 'bin'))
    cpSync(worker, program)
    chmodSync(program, 0o755)
    cpSync(addon, join(folder, 'embed-client.node'))
    cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
    writeFileSync(join(folder, 'README.md'), `# ${name}\n\nAddon and worker of [${manifest().name}](https://www.npmjs.com/package/${manifest().name}) for ${platform}.\nIt is installed with that package, and of no use without it.\n`)
    return {
      name,
      version,
      description: `${description} (${platform})`,
      license,
      repository,
      engines,
      ...PLATFORMS[platform],
      // Yarn would run the worker from inside its archive.
      preferUnplugged: true
    }
  })
}

/** Lets `fill` put files in a folder and give their package.json; makes a tarball of it in `out`. */
function pack(out, fill) {
  const folder = mkdtempSync(join(tmpdir(), 'embed-pack-'))
  try {
    writeFileSync(join(folder, 'package.json'), `${JSON.stringify(fill(folder), null, 2)}\n`)
    mkdirSync(out, { recursive: true })
    // npm is a script, which Windows does not run as a program.
    const options = { cwd: folder, encoding: 'utf8', shell: process.platform === 'win32', stdio: ['ignore', 'pipe', 2] }
    const [{ filename }] = JSON.parse(execFileSync('npm', ['pack', '--json', '--silent', '--ignore-scripts', '--pack-destination', resolve(out)], options))
    // Older versions of npm give a scoped package's name with its slash.
    return join(out, filename.replace('@', '').replace('/', '-'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const OPTIONS = {
  addon: { type: 'string' },
  worker: { type: 'string' },
  out: { type: 'string', default: join(root, 'dist') }
}

const USAGE = `usage: node scripts/pack.mjs [main | ${Object.keys(PLATFORMS).join(' | ')}] [--addon FILE --worker FILE] [--out FOLDER]`

async function main() {
  const { positionals, values } = argumentsOf(process.argv.slice(2))
  const { addon, out } = values
  const tarballs = []
  for (const what of positionals.length > 0 ? positionals : ['main', thisPlatform()]) {
    if (what === 'main') {
      tarballs.push(packMain(out))
    } else if (!(what in PLATFORMS)) {
      throw new Failure(`${what}: no platform of the packages\n\n${USAGE}`)
    } else if (addon && values.worker) {
      tarballs.push(packPlatform(what, { addon, worker: values.worker }, out))
    } else if (what === thisPlatform()) {
      build()
      tarballs.push(packPlatform(what, { addon: addonPath(), worker }, out))
    } else {
      tarballs.push(packPlatform(what, await buildAway(what), out))
    }
  }
  for (const tarball of tarballs) console.log(tarball)
}

/** Builds another system's worker and addon. */
async function buildAway(platform) {
  const { buildFor, TARGETS } = await import('./cross/targets.mjs')
  const isDebian = process.platform === 'linux' && process.arch === 'x64' && existsSync('/etc/debian_version')
  if (!(platform in TARGETS && isDebian)) throw new Failure(`${platform}: is not built here; name its files with --addon and --worker`)
  return buildFor(platform)
}

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await report(main)
