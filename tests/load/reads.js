// reads.js: reads at a set rate, with k6, against any Hotpath instance.
//
//   k6 run -e RATE=5000 -e DURATION=30s tests/load/reads.js
//
// BASE_URL (http://127.0.0.1:8080), RATE requests a second (1000), DURATION
// (20s), VUS connections at most (64), PRODUCTS read (200). Sets the prices of
// those first and waits until they can be read. Fails where an answer is not
// 200 with the product asked for, where fewer than HITS (0.95) came from
// nginx's memory, or where the 99th percentile passes P99_MS (50).

import http from "k6/http";
import { check, fail, sleep } from "k6";
import { Rate } from "k6/metrics";

const base = __ENV.BASE_URL || "http://127.0.0.1:8080";
const rate = Number(__ENV.RATE || 1000);
const vus = Number(__ENV.VUS || 64);
const products = Number(__ENV.PRODUCTS || 200);
const wantedHits = Number(__ENV.HITS || 0.95);
const p99 = Number(__ENV.P99_MS || 50);

const hits = new Rate("hotpath_hits");

export const options = {
  setupTimeout: "60s",
  scenarios: {
    reads: {
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
    hotpath_hits: [`rate>=${wantedHits}`],
    "http_req_duration{scenario:reads}": [`p(99)<${p99}`],
    dropped_iterations: [`count<${Math.max(1, rate)}`],
  },
};

export function setup() {
  const run = Date.now().toString(36);
  const headers = { "Content-Type": "application/json" };
  for (let productId = 1; productId <= products; productId++) {
    const response = http.post(`${base}/events`, JSON.stringify({
      idempotencyKey: `k6-reads-${run}-${productId}`,
      eventType: "price_set",
      payload: { productId, amount: productId / 4, currency: "EUR" },
    }), { headers });
    if (response.status !== 202) {
      fail(`POST /events answered ${response.status}: ${response.body}`);
    }
  }
  for (let productId = 1; productId <= products; productId++) {
    for (let tries = 0; ; tries++) {
      const response = http.get(`${base}/prices/${productId}`);
      if (response.status === 200 && response.json("amount") ===
          productId / 4) {
        break;
      }
      if (tries === 100) {
        fail(`product ${productId} cannot be read: ${response.status}`);
      }
      sleep(0.1);
    }
  }
}

export default function () {
  const productId = 1 + Math.floor(Math.random() * products);
  const response = http.get(`${base}/prices/${productId}`,
    { tags: { name: "/prices/{id}" } });
  check(response, {
    "answered 200": (r) => r.status === 200,
    "the product asked for": (r) =>
      r.status === 200 && r.json("productId") === productId,
  });
  const status = response.headers["Cache-Status"] || "";
  hits.add(status.split(";").some((part) => part.trim() === "hit"));
}
