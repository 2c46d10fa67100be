import { formatIp } from "../lib/ip.ts";
import { goTimestamp } from "../lib/clock.ts";
import type { Call, CniDeps } from "./call.ts";
import { namespaceOf } from "./cluster.ts";
import { checkNodeName } from "./conditions.ts";
import { addressSource } from "./request.ts";
import { differs, gc, print, status, type Verb } from "./verbs.ts";
import { type Result, shapeResult } from "./versions.ts";

/** ADD of the IPAM plugin alone: addresses under the container's handle, without link and endpoint. */
const add: Verb = async (call, deps) => {
  checkNodeName(call, deps, true);
  const namespace = await namespaceOf(call, deps);
  const addresses = addressSource(call, {});
  if (addresses.from !== "ipam") throw new Error("the IPAM plugin never delegates");
  const given = await deps.lifecycle.lease({
    attachment: call.attachment,
    addresses,
    attributes: attributesOf(call, deps),
    ...(namespace ? { namespaceLabels: namespace.metadata.labels ?? {} } : {}),
  }, call.asked);
  // An address that was asked for by name comes back as itself, a chosen one with its block's mask: as with Calico.
  const texts = given.map(({ ip, block }) =>
    `${formatIp(ip)}/${addresses.specific ? (ip.v === 4 ? 32 : 128) : block.len}`
  );
  const result: Result = {
    interfaces: [],
    ips: texts.map((address) => ({ address })),
    routes: texts.map((dst) => ({ dst })),
    dns: {},
  };
  return print(shapeResult(result, call.form));
};

/** DEL: everything under the container's handle; without etcd the journal takes it. */
const del: Verb = async (call, deps) => {
  await deps.lifecycle.remove({ attachment: call.attachment });
  return "";
};

/** CHECK: the container's handle still holds an address. */
const check: Verb = (call, deps) => {
  if (deps.lifecycle.addressesOf(call.attachment).length > 0) return Promise.resolve("");
  return Promise.reject(differs(["no address is held for the container"], call.attachment.containerId));
};

/** Verbs of `calico-ipam`. STATUS and GC are the main plugin's: both look at handles. */
export const ipamVerbs = { ADD: add, DEL: del, CHECK: check, STATUS: status, GC: gc };

function attributesOf({ ids }: Call, { clock }: CniDeps): Record<string, string> {
  const where: Record<string, string> = ids.pod === "" ? {} : { pod: ids.pod, namespace: ids.namespace };
  return { node: ids.node, timestamp: goTimestamp(clock.now()), ...where };
}
