// events.js: writes at a set rate, with k6, against any Hotpath instance.
//
//   k6 run -e RATE=2000 -e DURATION=30s tests/load/events.js
//
// BASE_URL (http://127.0.0.1:8080), RATE requests a second (500), DURATION
// (20s), VUS connections at most (64), REPEAT share sent twice (0.05),
// PRODUCTS (1000). Fails where an answer is not 202, where a repeat does not
// name the same operation, or where the 99th percentile passes P99_MS (250).

import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";

const base = __ENV.BASE_URL || "http://127.0.0.1:8080";
const rate = Number(__ENV.RATE || 500);
const vus = Number(__ENV.VUS || 64);
const repeatShare = Number(__ENV.REPEAT || 0.05);
const products = Number(__ENV.PRODUCTS || 1000);
const p99 = Number(__ENV.P99_MS || 250);

const accepted = new Counter("hotpath_accepted");
const replayed = new Counter("hotpath_replayed");

export const options = {
  scenarios: {
    events: {
      executor: "constant-arrival-rate",
      rate,
      timeUnit: "1s",
      duration: __ENV.DURATION || "20s",
      preAllocatedVUs: vus,
      maxVUs: vus,
      gracefulStop: "10s",
    },
  },
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    http_req_duration: [`p(99)<${p99}`],
    dropped_iterations: [`count<${Math.max(1, rate)}`],
  },
};

const run = Date.now().toString(36);
const parameters = { headers: { "Content-Type": "application/json" } };

function event() {
  const key = `k6-${run}-${__VU}-${__ITER}`;
  const productId = 1 + Math.floor(Math.random() * products);
  const payload = { productId, amount: Math.ceil(Math.random() * 9999) / 100,
    currency: "EUR" };
  return JSON.stringify({ idempotencyKey: key, eventType: "price_set",
    payload });
}

function post(body) {
  const response = http.post(`${base}/events`, body, parameters);
  check(response, {
    "answered 202": (r) => r.status === 202,
    "names its operation": (r) =>
      r.status === 202 && r.headers.Location ===
        `/events/status/${r.json("operationId")}`,
  });
  return response;
}

export default function () {
  const body = event();
  const first = post(body);
  accepted.add(first.status === 202 ? 1 : 0);
  if (Math.random() < repeatShare) {
    const second = post(body);
    replayed.add(1);
    check(second, {
      "a repeat is the same operation": (r) =>
        r.json("operationId") === first.json("operationId"),
    });
  }
}
