import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { tryParseNet } from "../lib/ip.ts";
import { createLog } from "../lib/log.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { Resources } from "../datastore/resources.ts";
import { watchAddresses } from "./address_watch.ts";
import { newResource } from "../datastore/cluster.ts";
import type { LocalInterface } from "./interfaces.ts";
import { readSettings } from "./settings.ts";

const one = (name: string, index: number, net: string): LocalInterface => ({
  name,
  index,
  up: true,
  addresses: [tryParseNet(net)!],
  defaultRoute: [],
});

/** A watch over a store in memory; `change()` sets the interfaces and lets the watch look and decide. */
function makeWatch(env: Record<string, string>) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const resources = new Resources(store, { clock, uuid: () => "u" });
  const stop = new AbortController();
  const lines: string[] = [];
  let interfaces: LocalInterface[] = [];
  let tell: () => void = () => {};
  async function* changes() {
    for (;;) {
      await new Promise<void>((resolve) => tell = resolve);
      yield;
      if (stop.signal.aborted) return;
    }
  }
  const done = watchAddresses({
    node: "alpha",
    settings: readSettings({ env }),
    log: createLog("watch", { clock, write: (line) => void lines.push(line) }),
    decidedOn: [],
    readInterfaces: () => interfaces,
    changes: changes(),
    ...{ resources, clock, random: () => 0.5, signal: stop.signal },
  });
  return {
    resources,
    lines,
    revision: async () => (await store.status()).revision,
    address: async () => {
      const { spec } = await resources.get("Node", "alpha");
      return (spec.bgp as { ipv4Address: string }).ipv4Address;
    },
    async change(...now: LocalInterface[]) {
      interfaces = now;
      tell();
      for (let i = 0; i < 5; i++) await clock.advance(1_000);
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      tell();
      await done;
    },
  };
}

Deno.test("an address that went is replaced by one that is there, an address that stays is kept", async () => {
  await using watch = makeWatch({ IP: "autodetect" });
  await watch.change(one("eth0", 2, "192.0.2.2/24"));
  assert.equal(await watch.address(), "192.0.2.2/24");
  await watch.change(one("eth0", 2, "192.0.2.2/24"), one("eth1", 3, "198.51.100.2/24"));
  assert.equal(await watch.address(), "192.0.2.2/24");
  await watch.change(one("eth1", 3, "198.51.100.2/24"));
  assert.equal(await watch.address(), "198.51.100.2/24");
});

Deno.test("pods that come and go write nothing", async () => {
  await using watch = makeWatch({ IP: "autodetect" });
  const eth0 = one("eth0", 2, "192.0.2.2/24");
  await watch.change(eth0);
  const before = await watch.revision();
  await watch.change(eth0, { ...one("cali12", 7, "fe80::1/64"), kind: "veth" });
  await watch.change(eth0, { ...one("lxc9", 8, "fe80::2/64"), kind: "veth" });
  await watch.change(eth0);
  assert.equal(await watch.revision(), before);
});

Deno.test("no address left, or another node's, is told and leaves the Node as it is", async () => {
  await using watch = makeWatch({ IP: "autodetect" });
  await watch.resources.create(newResource("Node", "beta", { bgp: { ipv4Address: "192.0.2.9/24" } }));
  await watch.change(one("eth0", 2, "192.0.2.2/24"));
  await watch.change();
  assert.equal(await watch.address(), "192.0.2.2/24");
  await watch.change(one("eth0", 2, "192.0.2.9/24"));
  assert.equal(await watch.address(), "192.0.2.2/24");
  assert.ok(watch.lines.some((line) => line.includes("Calico node 'beta' is already using")));
  await watch.change(one("eth0", 2, "192.0.2.3/24"));
  assert.equal(await watch.address(), "192.0.2.3/24");
});
