import assert from "node:assert/strict";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { noMetrics } from "../../lib/metrics.ts";
import { Pulse } from "../../lib/pulse.ts";
import { publicKeyOf } from "../../lib/wireguard_key.ts";
import { Health } from "../../lib/health.ts";
import { genericFamily, genericProtocol } from "../../kernel/rtnetlink/generic.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { Dataplane, type WireguardDeviceState } from "../../agent/dataplane/apply.ts";
import { NetworkInputs } from "../../agent/network/inputs.ts";
import type { WireguardKeys } from "../../agent/network/wireguard.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { Mirror } from "../../datastore/mirror.ts";
import type { Shared } from "../../node/parts.ts";
import { WireguardKeyFiles } from "../../node/wireguard_keys.ts";
import { keepWireguardKeys } from "../../node/wireguard_part.ts";
import { wait } from "../lab/wait.ts";
import { enterOwnNetns } from "./_own_netns.ts";

Deno.test("a WireGuard key stays the same until its round changes, and nobody else may read it", async () => {
  const folder = await Deno.makeTempDir({ prefix: "wg-keys-" });
  try {
    let n = 0;
    const files = () => new WireguardKeyFiles(folder, () => new Uint8Array(32).fill(++n));
    const { privateKey: first, made } = await files().key(4, "");
    assert.ok(made && publicKeyOf(first));
    assert.equal((await Deno.stat(`${folder}/wireguard.key`)).mode! & 0o777, 0o600);
    assert.deepEqual(await files().key(4, ""), { privateKey: first, made: false });
    assert.notEqual((await files().key(6, "")).privateKey, first);
    await Deno.chmod(`${folder}/wireguard.key`, 0o644);
    await files().key(4, "");
    assert.equal((await Deno.stat(`${folder}/wireguard.key`)).mode! & 0o777, 0o600);
    const { privateKey: second } = await files().key(4, "2026-11");
    assert.notEqual(second, first);
    assert.deepEqual(await files().key(4, "2026-11"), { privateKey: second, made: false });
    await Deno.writeTextFile(`${folder}/wireguard.key`, "torn");
    assert.equal((await files().key(4, "2026-11")).made, true);
    assert.deepEqual([...Deno.readDirSync(folder)].map((f) => f.name).sort(), ["wireguard-v6.key", "wireguard.key"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

const root = "/calico/resources/v3/projectcalico.org";

/** A node's keeper of keys over a store in memory; without a real dataplane a key is in it when the test says so. */
async function keeper(real?: Dataplane) {
  const stateDir = await Deno.makeTempDir({ prefix: "wg-keys-" });
  const store = new MemoryStore({ clock: systemClock }), stop = new AbortController(), changed = new Pulse();
  const mirror = Mirror.start({ store, clock: systemClock, log: silentLog });
  const put = (plural: string, name: string, kind: string, rest: Record<string, unknown>) => {
    const { metadata, ...more } = rest;
    const value = { apiVersion: "projectcalico.org/v3", kind, metadata: { name, ...metadata as object }, ...more };
    return store.txn({ compare: [], write: [{ put: `${root}/${plural}/${name}`, value: JSON.stringify(value) }] });
  };
  await put("nodes", "n1", "Node", { spec: {}, status: { podCIDRs: ["10.0.0.0/24"] } });
  let used: WireguardKeys = {}, device: WireguardDeviceState;
  const dataplane = {
    useWireguardKeys(keys: WireguardKeys) {
      used = keys;
      real?.useWireguardKeys(keys);
    },
    wireguardDevices: () => [],
    wireguardDevice: (v: 4 | 6) => (real ? real.wireguardDevice(v) : v === 4 ? device : undefined),
    changes: (signal: AbortSignal) => (real ? real.changes(signal) : changed.beats(signal)),
  };
  const settings = { get: () => undefined, names: () => [], reports: [] };
  const shared = {
    store,
    mirror,
    settings,
    stateDir,
    node: "n1",
    clock: systemClock,
    log: silentLog,
    metrics: noMetrics,
  };
  const done = keepWireguardKeys({ ...shared, signal: stop.signal } as unknown as Shared, dataplane);
  return {
    configure: (spec: Record<string, unknown>, annotations: Record<string, string> = {}) =>
      put("felixconfigurations", "default", "FelixConfiguration", { spec, metadata: { annotations } }),
    rewriteNode: (status: Record<string, unknown>) => put("nodes", "n1", "Node", { spec: { x: 1 }, status }),
    values: () => ["nodes/n1", "felixconfigurations/default"].flatMap((path) => mirror.get(`${root}/${path}`) ?? []),
    used: () => used[4],
    device(state: WireguardDeviceState) {
      device = state;
      changed.beat();
    },
    status: () => JSON.parse(mirror.get(`${root}/nodes/n1`)?.value ?? "{}").status as Record<string, unknown>,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
      await mirror[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await Deno.remove(stateDir, { recursive: true });
    },
  };
}

const working = (privateKey: string) => ({ privateKey, port: 51820, mark: 0x200000 });

Deno.test("a public key is in the Node's status from when its device works until WireGuard is off, through changes of all sorts", async () => {
  await using all = await keeper();
  const podCIDRs = ["10.0.0.0/24"];
  const says = (what: string, publicKey: string | undefined) =>
    wait(what, () => all.status()?.wireguardPublicKey === publicKey);
  await all.configure({ wireguardEnabled: true });
  const first = await wait("a key for the device", () => all.used());
  assert.deepEqual(all.status(), { podCIDRs }, "not before the device has it");
  all.device(working(first));
  await says("the key", publicKeyOf(first));
  assert.deepEqual(all.status(), { podCIDRs, wireguardPublicKey: publicKeyOf(first) });

  await all.rewriteNode({ podCIDRs, wireguardPublicKey: "someone's" });
  await says("what another wrote is set right", publicKeyOf(first));

  await all.configure({ wireguardEnabled: true }, { "config.projectcalico.org/TortieWireguardKeyRound": "2" });
  await wait("a new key for the device", () => all.used() !== first);
  const second = all.used()!;
  all.device(working(first));
  assert.equal(
    all.status().wireguardPublicKey,
    publicKeyOf(first),
    "the others use the old one until the device changes",
  );
  all.device(working(second));
  await says("the new key", publicKeyOf(second));

  await all.configure({ wireguardEnabled: false });
  await says("no key when it is off", undefined);
  assert.deepEqual([all.status(), all.used()], [{ podCIDRs }, undefined]);
  await all.configure({ wireguardEnabled: true });
  assert.equal(await wait("the key for the device again", () => all.used()), second);
  all.device("refused");
  await wait("the device is given up", () => all.used() === undefined);
  assert.deepEqual(all.status(), { podCIDRs });
});

const noWireguard = (() => {
  using socket = RtSocket.open(undefined, genericProtocol);
  return genericFamily(socket, "wireguard") === undefined;
})();

Deno.test({
  name: "where the kernel has no WireGuard the rest of the network comes in order, in clear",
  ignore: !noWireguard,
  fn: async () => {
    await using host = await enterOwnNetns("wgn");
    await host.ip("link set lo up");
    const inputs = new NetworkInputs({ node: "n1", birdRuns: false, env: () => undefined });
    const options = { clock: systemClock, random: Math.random, log: silentLog, health: new Health(systemClock) };
    await using plane = Dataplane.start({ ...options, mtuFile: undefined });
    await using all = await keeper(plane);
    await all.configure({ wireguardEnabled: true });
    await wait("both values", () => all.values().length === 2);
    inputs.update({ set: all.values(), deleted: [] });
    await wait("a key for the device", () => all.used());
    plane.apply(inputs.desired().desired);
    await wait("the device is refused and given up", () => all.used() === undefined);
    await wait("the rest in order", () => plane.status().inSync);
    assert.equal(all.status().wireguardPublicKey, undefined);
  },
});
