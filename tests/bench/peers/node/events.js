// POST /events: 202 when JetStream has acknowledged the event, else 503.
//
// What a careful author writes in front of the same broker that Hotpath has:
// node:http without a framework, one process, the package nats, whose publish
// is a promise and which writes what one turn of the event loop publishes at
// once. The same key is the same message, which the stream recognises for as
// long as its duplicate window is. Environment: PORT, NATS_URL, SUBJECT.

import { createHash } from 'node:crypto';
import http from 'node:http';
import { connect } from 'nats';

const BODY_MAX = 64 * 1024;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

const connection = await connect({
  servers: process.env.NATS_URL,
  maxReconnectAttempts: -1,
});
const stream = connection.jetstream({ timeout: 5000 });

// The same for the same key, in the form of a UUID, version 8.
function operationId(key) {
  const sum = createHash('sha256').update(`default\0/events\0${key}`).digest();
  sum[6] = (sum[6] & 0x0f) | 0x80;
  sum[8] = (sum[8] & 0x3f) | 0x80;
  const hex = sum.toString('hex', 0, 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-`
    + `${hex.slice(16, 20)}-${hex.slice(20)}`;
}

// Spreads events over two streams by a digit of their id.
function subjectOf(id) {
  return `${process.env.SUBJECT}.${id.charCodeAt(id.length - 1) & 1}`;
}

// The event in a body, or null where there is none.
function parse(body) {
  try {
    const event = JSON.parse(UTF8.decode(body));
    const { idempotencyKey, eventType, payload } = event;
    return typeof idempotencyKey === 'string' && idempotencyKey !== ''
      && typeof eventType === 'string' && eventType !== ''
      && payload !== undefined ? event : null;
  } catch {
    return null;
  }
}

async function accept(body, response) {
  const event = parse(body);
  if (event === null) {
    response.writeHead(400).end();
    return;
  }
  const id = operationId(event.idempotencyKey);
  try {
    await stream.publish(subjectOf(id), body, { msgID: id });
  } catch (error) {
    console.error(error.message);
    response.writeHead(503, { 'Retry-After': '1' }).end();
    return;
  }
  const text = `{"operationId":"${id}","status":"accepted"}`;
  response.writeHead(202, {
    'Content-Type': 'application/json',
    'Content-Length': text.length,
    'Location': `/events/status/${id}`,
  });
  response.end(text);
}

function answer(request, response) {
  if (request.url === '/health') {
    response.writeHead(200).end();
    return;
  }
  if (request.method !== 'POST' || request.url !== '/events') {
    response.writeHead(404).end();
    return;
  }
  const chunks = [];
  let length = 0;
  request.on('data', (chunk) => {
    length += chunk.length;
    if (length > BODY_MAX) {
      response.writeHead(413, { Connection: 'close' }).end();
      request.destroy();
      return;
    }
    chunks.push(chunk);
  });
  request.on('end', () => accept(
    chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), response));
}

http.createServer(answer).listen(Number(process.env.PORT), '127.0.0.1');
