// Keeps stdout for the protocol: one stray line of any dependency would end the session.
//
// Imported before all else, so that what others print while they are loaded is caught as well.

import { Writable } from 'node:stream'

const toClient = process.stdout.write.bind(process.stdout)

/** Where messages to the client are written. */
export const messages = new Writable({ write: (chunk, _encoding, done) => toClient(chunk, done) })

process.stdout.write = process.stderr.write.bind(process.stderr)
