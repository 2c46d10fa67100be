import { type Family, formatIp } from "../lib/ip.ts";
import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import type { Metrics } from "../lib/metrics.ts";
import { Wake } from "../lib/wake.ts";
import { publicKeyOf } from "../lib/wireguard_key.ts";
import type { WireguardState } from "../kernel/rtnetlink/wireguard.ts";
import { resourceKey } from "../datastore/keys.ts";
import type { Dataplane, WireguardDeviceState } from "../agent/dataplane/apply.ts";
import { FelixSources } from "../agent/felix_sources.ts";
import { flag, resolveSettings, type Row } from "../agent/settings.ts";
import { networkSettings } from "../agent/network/settings.ts";
import type { WireguardKeys } from "../agent/network/wireguard.ts";
import { type Shared, untilDone } from "./parts.ts";
import { WireguardKeyFiles } from "./wireguard_keys.ts";

const families = [4, 6] as const;
const fieldOf = (v: Family): string => (v === 4 ? "wireguardPublicKey" : "wireguardPublicKeyV6");
/** Everything is looked at again so often, in case a write failed. */
const againMs = 30_000;
/** A device that the kernel refuses is tried again after so long; until then the rest of the dataplane is in order. */
const refusedMs = 300_000;

/**
 * Keeps this node's WireGuard keys while WireGuard is on: a key in its file, its device with it, and then, not before,
 * the public key in the Node's status, by which the others begin to encrypt. It is taken back when WireGuard is switched
 * off or the kernel has none; then packets go in clear, as with Calico. A changed round (`TortieWireguardKeyRound`) makes new keys. Runs until the signal.
 * Source: Calico's felix/wireguard/wireguard.go, daemon.go.
 */
export async function keepWireguardKeys(
  shared: Shared,
  dataplane: Pick<Dataplane, "useWireguardKeys" | "wireguardDevice" | "wireguardDevices" | "changes">,
): Promise<void> {
  const { clock, mirror, node, settings, signal, stateDir } = shared;
  const log = shared.log.child("wireguard");
  const files = new WireguardKeyFiles(stateDir, () => crypto.getRandomValues(new Uint8Array(32)));
  const sources = new FelixSources(node, (name) => settings.get(name));
  const wake = new Wake(clock);
  let known = false;
  const follow = async () => {
    for await (const { set, deleted } of mirror.changes(signal)) {
      const touches = [...set.map(({ key }) => key), ...deleted].includes(resourceKey("Node", node));
      if (!sources.update({ set, deleted }).changed && !touches && known) continue;
      known = true;
      wake.call();
    }
  };
  const watch = async () => {
    for await (const _ of dataplane.changes(signal)) wake.call();
  };
  const refusedUntil = new Map<Family, number>();
  shared.metrics.onCollect(() => {
    const rows = { on: ["prometheusWireGuardMetricsEnabled", flag, true] as Row<boolean> };
    const { on } = resolveSettings<{ on: boolean }>(rows, sources.sources()).settings;
    collectWireguard(on ? dataplane.wireguardDevices() : [], node, shared.metrics);
  });
  const run = async () => {
    for (; !signal.aborted; await wake.sleep(againMs, signal)) {
      if (!known) continue;
      await untilDone({ ...shared, log }, "WireGuard's keys wait for etcd", async () => {
        const { wireguard } = networkSettings(sources.sources()).settings;
        const keys: WireguardKeys = {};
        for (const v of families.filter((v) => wireguard.enabled[v])) {
          if (dataplane.wireguardDevice(v) === "refused") {
            refusedUntil.set(v, clock.monotonicMs() + refusedMs);
            log.error("kernel refuses WireGuard: packets are not encrypted", { version: v });
          }
          if (clock.monotonicMs() < (refusedUntil.get(v) ?? 0)) continue;
          const { privateKey, made } = await files.key(v, wireguard.keyRound);
          if (made) log.info("WireGuard key made", { version: v, file: files.path(v) });
          keys[v] = privateKey;
        }
        dataplane.useWireguardKeys(keys);
        await publish(shared, (v) => publishedKey(keys[v], dataplane.wireguardDevice(v)));
      });
    }
  };
  await Promise.all([follow(), watch(), run()]);
}

/** What the Node's status should say; undefined = it stays as it is, because the device's state is not known yet. */
export function publishedKey(privateKey: string | undefined, device: WireguardDeviceState): string | undefined {
  if (privateKey === undefined || device === "refused") return "";
  return device && device.privateKey === privateKey ? publicKeyOf(privateKey) : undefined;
}

/** Writes the Node when a key in its status is other than wanted. Without a Node there is nothing to do. */
async function publish({ store, mirror, node, log }: Shared, wanted: (v: Family) => string | undefined): Promise<void> {
  const kv = mirror.get(resourceKey("Node", node));
  if (!kv) return;
  const next = withKeys(parseJson(kv.value), { 4: wanted(4), 6: wanted(6) });
  if (next === undefined) return;
  const value = writeJson(next);
  const compare = [{ key: kv.key, revision: kv.revision }];
  const result = await store.txn({ compare, write: [{ put: kv.key, value }] });
  // Another writer was faster: the mirror brings its value, and with that the next try.
  if (!result.committed) return;
  mirror.learn([{ key: kv.key, value, revision: result.revision, created: kv.created }]);
  log.info("WireGuard's public keys published");
}

/** A Node with other keys in its status; undefined when nothing changes, or it is no object. */
export function withKeys(node: Json, wanted: Record<Family, string | undefined>): Json | undefined {
  if (!isObject(node)) return undefined;
  const before = isObject(node.status) ? node.status as Record<string, Json> : {};
  const status: Record<string, Json> = { ...before };
  for (const v of families) {
    if (wanted[v] === "") delete status[fieldOf(v)];
    else if (wanted[v] !== undefined) status[fieldOf(v)] = wanted[v];
  }
  return families.every((v) => status[fieldOf(v)] === before[fieldOf(v)]) ? undefined : { ...node, status } as Json;
}

/** What the kernel counts of WireGuard, under Felix's names. Source: Calico's felix/wireguard/metrics_linux.go. */
export function collectWireguard(
  devices: readonly WireguardState[],
  hostname: string,
  metrics: Pick<Metrics, "add" | "set" | "clear">,
): void {
  const names = [
    "wireguard_meta",
    "wireguard_bytes_rcvd",
    "wireguard_bytes_sent",
    "wireguard_latest_handshake_seconds",
  ];
  for (const name of names) metrics.clear(name as "wireguard_meta");
  for (const { name, publicKey: public_key = "", device, peers } of devices) {
    metrics.set("wireguard_meta", 1, { hostname, public_key, iface: name, listen_port: String(device.port) });
    for (const { publicKey, endpoint, receivedBytes, sentBytes, handshakeSeconds } of peers.values()) {
      const host = endpoint && (endpoint.ip.v === 6 ? `[${formatIp(endpoint.ip)}]` : formatIp(endpoint.ip));
      const peer_endpoint = endpoint ? `${host}:${endpoint.port}` : "";
      const labels = { hostname, public_key, peer_key: publicKey, peer_endpoint };
      metrics.add("wireguard_bytes_rcvd", Number(receivedBytes), labels);
      metrics.add("wireguard_bytes_sent", Number(sentBytes), labels);
      metrics.set("wireguard_latest_handshake_seconds", handshakeSeconds, labels);
    }
  }
}
