import assert from "node:assert/strict";
import { createLog } from "../lib/log.ts";
import { noMetrics } from "../lib/metrics.ts";
import { BrokenValues, objectOfKey, Refusals } from "./refusals.ts";

const root = "/calico/resources/v3/projectcalico.org";

function started() {
  const lines: string[] = [];
  const write = (line: string) => {
    const { msg, object, why } = JSON.parse(line);
    lines.push([msg.includes("again") ? "+" : "-", object, why].filter((w) => w).join(" "));
  };
  const named: Record<string, string>[] = [];
  let count = 0, collect = () => {};
  const metrics = {
    ...noMetrics,
    onCollect: (c: () => void) => void (collect = c),
    clear: () => void (named.length = 0),
    set: (name: string, value: number, labels?: Record<string, string>) => {
      if (labels) named.push(labels);
      else if (name === "tortie_objects_refused") count = value;
    },
  };
  const refusals = new Refusals(createLog("t", { write }), metrics);
  return { refusals, lines, named, collected: () => (collect(), count) };
}

Deno.test("a refused object is told once when it begins, when the reason changes, and when it is over", () => {
  const { refusals, lines } = started();
  refusals.set("policy", new Map([["Tier:a", "x"]]));
  refusals.set("policy", new Map([["Tier:a", "x"]]));
  refusals.set("network", new Map([["Tier:a", "x"]]));
  refusals.set("policy", new Map([["Tier:a", "y"], ["Tier:b", "z"]]));
  assert.deepEqual(refusals.list(), [{ object: "Tier:a", why: "y; x" }, { object: "Tier:b", why: "z" }]);
  refusals.set("policy", new Map());
  refusals.set("network", new Map());
  assert.deepEqual(lines, ["- Tier:a x", "- Tier:a y", "- Tier:b z", "+ Tier:b", "+ Tier:a"]);
  assert.deepEqual(refusals.list(), []);
});

Deno.test("metrics name at most 50 objects, each with a short reason, and count all of them", () => {
  const { refusals, named, collected } = started();
  const many = new Map(Array.from({ length: 80 }, (_, i): [string, string] => [`Tier:${i + 100}`, "y".repeat(500)]));
  refusals.set("policy", many);
  assert.equal(collected(), 80);
  assert.equal(named.length, 50);
  assert.ok(named.every(({ reason }) => reason!.length === 120));
  refusals.set("policy", new Map([["Tier:a", "x"]]));
  assert.equal(collected(), 1);
  assert.deepEqual(named, [{ object: "Tier:a", reason: "x" }]);
});

Deno.test("broken values are followed until they are mended or deleted", () => {
  const values = new BrokenValues();
  const key = (name: string) => `${root}/networkpolicies/shop/${name}`;
  const step = (set: string[], deleted: string[], broken: Record<string, string>) =>
    Object.fromEntries(values.update({ set: set.map((k) => ({ key: k })), deleted }, new Map(Object.entries(broken))));
  assert.deepEqual(step([key("a"), key("b")], [], { [key("a")]: "x", [key("b")]: "y" }), {
    "NetworkPolicy:shop/a": "x",
    "NetworkPolicy:shop/b": "y",
  });
  assert.deepEqual(step([key("a")], [], {}), { "NetworkPolicy:shop/b": "y" });
  assert.deepEqual(step([], [key("b")], {}), {});
  assert.equal(objectOfKey(`${root}/tiers/t`), "Tier:t");
  assert.equal(objectOfKey("/calico/other"), "/calico/other");
});
