// A private copy of a model whose file is damaged and made whole again, in every way that programs do it.

import { closeSync, copyFileSync, ftruncateSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'

import { pause } from './clock.mjs'

/** How long a file stays damaged, in milliseconds. */
const DAMAGED_MS = [2, 40]

/** Parts in which a slow program writes a file. */
const PARTS = 8

const PAGE_BYTES = 4096

export class ModelFile {
  constructor(path, random) {
    Object.assign(this, { path, random, bytes: readFileSync(path) })
  }

  /** Damages and restores it; what was done. */
  async damage() {
    const ways = Object.keys(this.ways)
    const way = ways[Math.floor(this.random() * ways.length)]
    await this.ways[way]()
    return way
  }

  ways = {
    'cut anywhere, then restored': () => this.cut(Math.floor(this.random() * this.bytes.length)),
    'cut within its last page, then restored': () => this.cut(this.bytes.length - 1 - Math.floor(this.random() * (PAGE_BYTES - 1))),
    'replaced by renaming': async () => {
      const next = `${this.path}.next`
      copyFileSync(this.path, next)
      renameSync(next, this.path)
    },
    'written anew in place': () => this.rewrite(() => {}),
    'emptied, made long, then written': () => this.rewrite((file) => ftruncateSync(file, this.bytes.length)),
    'a part of it overwritten, then restored': async () => {
      const at = Math.floor(this.random() * this.bytes.length)
      const length = Math.min(this.bytes.length - at, this.bytes.length >> 2)
      const file = openSync(this.path, 'r+')
      writeSync(file, Buffer.alloc(length), 0, length, at)
      await this.wait()
      writeSync(file, this.bytes, at, length, at)
      closeSync(file)
    },
    'removed, then written': async () => {
      rmSync(this.path)
      await this.wait()
      this.restore()
    }
  }

  async cut(length) {
    const file = openSync(this.path, 'r+')
    ftruncateSync(file, length)
    await this.wait()
    writeSync(file, this.bytes, length, this.bytes.length - length, length)
    closeSync(file)
  }

  async rewrite(prepare) {
    const file = openSync(this.path, 'w')
    prepare(file)
    const part = Math.ceil(this.bytes.length / PARTS)
    for (let at = 0; at < this.bytes.length; at += part) {
      await pause((this.random() * DAMAGED_MS[1]) / PARTS)
      writeSync(file, this.bytes, at, Math.min(part, this.bytes.length - at), at)
    }
    closeSync(file)
  }

  wait() {
    return pause(DAMAGED_MS[0] + this.random() * (DAMAGED_MS[1] - DAMAGED_MS[0]))
  }

  /** As it was, in a file of its own. */
  restore() {
    const next = `${this.path}.next`
    const file = openSync(next, 'w')
    writeSync(file, this.bytes)
    closeSync(file)
    renameSync(next, this.path)
  }
}
