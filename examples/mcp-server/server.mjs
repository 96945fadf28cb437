#!/usr/bin/env node
// An MCP server that searches folders by meaning.
//
//   node server.mjs [FOLDER...]
//
// FOLDERs, and nothing outside them, may be indexed and searched; without any, those that the client
// names as its roots, else the current directory.
// stdin and stdout carry JSON-RPC. It answers `initialize` at once and opens model and index behind it.

import { messages } from './src/stdout.mjs'

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'

import { AllowedFolders } from './src/allowed.mjs'
import { log } from './src/log.mjs'
import { Services } from './src/services.mjs'
import { registerTools } from './src/tools.mjs'

const INSTRUCTIONS = `Searches files by meaning, where grep would need the exact words.
Call "index" once for a folder (again after many changes: only changed files cost anything), then "search".`

const server = new McpServer(
  { name: 'embed-mcp-server', version: '0.1.0' },
  { capabilities: { logging: {} }, instructions: INSTRUCTIONS }
)
const services = new Services()
registerTools(server, services, new AllowedFolders(process.argv.slice(2), server.server))

let leaving = false
async function leave() {
  if (leaving) return
  leaving = true
  await services.close()
  process.exit()
}
// A client that has gone, however it went, has closed our stdin.
process.stdin.once('end', leave)
process.stdin.once('close', leave)
process.stdout.once('error', leave)
process.once('SIGINT', leave)
process.once('SIGTERM', leave)

await server.connect(new StdioServerTransport(process.stdin, messages))
services.warmUp()
log('ready')
