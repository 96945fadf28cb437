// What is told to whoever looks at the client's log of this server.

/** One line on stderr; MCP clients collect it. */
export function log(message) {
  process.stderr.write(`embed-mcp-server: ${message}\n`)
}
