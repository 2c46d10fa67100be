import assert from "node:assert/strict";
import { passageName } from "../../kernel/rtnetlink/bandwidth.ts";
import { decodeQdisc, sameBucket, setBucket, type TokenBucket } from "../../kernel/rtnetlink/traffic_control.ts";
import { bandwidthOf, passing } from "./bandwidth.ts";

Deno.test("buckets of the numbers that the real Felix was seen with: 1 and 2 Mbit/s, bursts of 4 Mbit", () => {
  const limits = bandwidthOf({
    ...{ ingressBandwidth: 1_000_000, ingressBurst: 4_000_000, egressBandwidth: 2_000_000, egressBurst: 4_000_000 },
  });
  // `tc` shows burst = ticks x 64 ns x rate = 500,000 bytes, and lat = (limit - burst) / rate = 496 s and 123 s.
  const none = { peakRate: 0, minburstBytes: 0 };
  assert.deepEqual(limits, {
    ingress: { rate: 125_000, bufferTicks: 62_500_000, limitBytes: 62_503_125, ...none },
    egress: { rate: 250_000, bufferTicks: 31_250_000, limitBytes: 31_256_250, ...none },
  });
  assert.equal(passageName("cali12345678901"), "bwcali16fffcf1d");
});

Deno.test("a burst that is not said is 4 Gibit, held to what the kernel can count; numbers that are none do not limit", () => {
  assert.deepEqual(bandwidthOf({ egressBandwidth: 10_000_000n }), {
    egress: { rate: 1_250_000, bufferTicks: 0xffffffff, limitBytes: 0xffffffff, peakRate: 0, minburstBytes: 0 },
  });
  for (
    const nothing of [undefined, 7, {}, { ingressBandwidth: -1 }, { egressBandwidth: "1" }, { egressBandwidth: 7 }]
  ) {
    assert.equal(bandwidthOf(nothing), undefined);
  }
});

Deno.test("with a peak rate the smaller burst lets a whole packet pass, and the smaller limit holds", () => {
  const { ingress } = bandwidthOf({
    ...{ ingressBandwidth: 8_000_000, ingressBurst: 8_000_000, ingressPeakrate: 16_000_000, ingressMinburst: 100 },
  })!;
  assert.deepEqual([ingress!.peakRate, ingress!.minburstBytes], [2_000_000, 100]);
  assert.equal(ingress!.limitBytes, 50_000 + 781);
  assert.equal(passing(ingress, 1500)!.minburstBytes, 1514);
});

Deno.test("what is written for a bucket is read back as the same, also above 32 bits", () => {
  const small: TokenBucket = { rate: 125_000, bufferTicks: 9, limitBytes: 3125, peakRate: 0, minburstBytes: 0 };
  for (const bucket of [small, { ...small, rate: 125e12 }]) {
    const body = setBucket(7, bucket).body;
    const read = decodeQdisc({ type: 36, flags: 0, sequence: 0, port: 0, body });
    assert.deepEqual(read, { index: 7, kind: "tbf", isRoot: true, bucket });
    assert.ok(sameBucket(read.bucket, bucket) && !sameBucket(read.bucket, { ...bucket, limitBytes: 1 }));
  }
  assert.ok(sameBucket(undefined, undefined) && !sameBucket(small, undefined));
});
