// GET /prices/{key}: a document, straight from Redis or from Postgres.
//
// What a careful author writes in front of the same servers that Hotpath has:
// node:http without a framework, one process, node-redis (which sends what one
// turn of the event loop asks for as one pipeline) or pg with a prepared
// statement in pipeline mode. Environment: PORT, SOURCE=redis|postgres,
// REDIS_URL, PG*.

import http from 'node:http';
import pg from 'pg';
import { createClient, RESP_TYPES } from 'redis';

const PREFIX = '/prices/';
const SESSIONS = 4;
const STATEMENT = `
  SELECT version, document, modified_at, deleted FROM hotpath.prices
  WHERE tenant = $1 AND key = $2`;

// A source is a function from key to { version, modified, body }, or to null
// where there is no such document.

async function redisSource() {
  const client = createClient({
    url: process.env.REDIS_URL,
    commandsQueueMaxLength: 4096,
  });
  client.on('error', (error) => console.error(error.message));
  await client.connect();
  const binary = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

  return async (key) => {
    // The record of schemas/framing.md without its length.
    const record = await binary.get(`hotpath:doc:prices:default:${key}`);
    if (record === null || record[3] & 1) {
      return null;
    }
    return {
      version: record.latin1Slice(4, 20),
      modified: new Date(Number(record.readBigInt64LE(20) / 1000n)),
      body: record.subarray(
        32 + record.readUInt16LE(28) + record.readUInt16LE(30)),
    };
  };
}

async function connect() {
  const client = new pg.Client({ pipeline: true, statement_timeout: 1000 });
  client.on('error', (error) => {
    console.error(error.message);
    process.exit(1); // whoever started this process starts it again
  });
  await client.connect();
  return client;
}

async function postgresSource() {
  // A pool lends a session to one query at a time. These take as many as come.
  const clients = await Promise.all(
    Array.from({ length: SESSIONS }, connect));
  let turn = 0;

  return async (key) => {
    turn = (turn + 1) % SESSIONS;
    const { rows } = await clients[turn].query({
      name: 'document',
      text: STATEMENT,
      values: ['default', key],
    });
    if (rows.length === 0 || rows[0].deleted) {
      return null;
    }
    return {
      version: BigInt(rows[0].version).toString(16).padStart(16, '0'),
      modified: rows[0].modified_at,
      body: Buffer.from(rows[0].document),
    };
  };
}

const sources = { redis: redisSource, postgres: postgresSource };
const find = await sources[process.env.SOURCE]();

async function answer(request, response) {
  if (request.method !== 'GET' || !request.url.startsWith(PREFIX)) {
    response.writeHead(404).end();
    return;
  }
  try {
    const document = await find(
      decodeURIComponent(request.url.slice(PREFIX.length)));
    if (document === null) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': document.body.length,
      'Cache-Control': 'max-age=60',
      'ETag': `"${document.version}"`,
      'Last-Modified': document.modified.toUTCString(),
    });
    response.end(document.body);
  } catch (error) {
    console.error(error.message);
    response.writeHead(error instanceof URIError ? 400 : 503).end();
  }
}

http.createServer(answer).listen(Number(process.env.PORT), '127.0.0.1');
