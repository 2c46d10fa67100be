import assert from "node:assert/strict";
import { parseCidr } from "../lib/ip.ts";
import { usageRow } from "./ipam_usage.ts";

const row = (total: bigint, inUse: bigint) =>
  usageRow("IP Pool", { cidr: parseCidr("10.0.0.0/8"), total, inUse, reserved: 0n, free: total - inUse }).slice(2);

Deno.test("counts have five digits, and shares are rounded half to even", () => {
  assert.deepEqual(row(65536n, 3n), ["65536", "3 (0%)", "0 (0%)", "65533 (100%)"]);
  assert.deepEqual(row(200n, 1n), ["200", "1 (0%)", "0 (0%)", "199 (100%)"]);
  assert.deepEqual(row(200n, 3n), ["200", "3 (2%)", "0 (0%)", "197 (98%)"]);
  assert.deepEqual(row(1n << 20n, 123456n)[1], "1.2346e+05 (12%)");
});

Deno.test("counts stop at 63 bits", () => {
  assert.deepEqual(row(1n << 80n, 0n), ["9.2234e+18", "0 (0%)", "0 (0%)", "9.2234e+18 (100%)"]);
});
