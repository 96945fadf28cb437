// The smallest MCP server: what the SDK itself costs, before anything is done with it.

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { z } from 'zod'

const server = new McpServer({ name: 'bare', version: '1' })
server.registerTool('nothing', { inputSchema: { word: z.string().optional() } }, () => ({ content: [] }))
process.stdin.once('end', () => process.exit())
await server.connect(new StdioServerTransport())
