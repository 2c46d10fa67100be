import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { Problem } from "../lib/problem.ts";
import { ipamConfigKey } from "../datastore/keys.ts";
import type { Store } from "../datastore/store.ts";
import { badInput } from "./command.ts";

/** What an absent key means. Calico's command writes the third member too when it writes the key first. */
const absent: Record<string, Json> = {
  strict_affinity: false,
  auto_allocate_blocks: true,
  kubeVirtVMAddressPersistence: "Enabled",
};

/** Times a change is tried again when somebody else changed the settings meanwhile. */
const tries = 5;

/**
 * Changes members of IPAM's settings; the others stay. A member that means nothing (false, 0) is left out.
 * @throws Problem "bad-input" for a limit of blocks without strict affinity; "undecodable"; "conflict".
 */
export async function changeIpamConfig(store: Store, changes: Record<string, Json>): Promise<void> {
  for (let left = tries; left > 0; left--) {
    const stored = await store.get(ipamConfigKey);
    const config = { ...stored ? settingsIn(stored.value) : absent, ...changes };
    if (Number(config.maxBlocksPerHost ?? 0) > 0 && config.strict_affinity !== true) {
      throw badInput("error: MaxBlocksPerHost requires StrictAffinity to be enabled");
    }
    const kept = Object.entries(config).filter(([, value]) => value !== false && value !== 0);
    const result = await store.txn({
      compare: [{ key: ipamConfigKey, revision: stored?.revision ?? 0n }],
      write: [{ put: ipamConfigKey, value: writeJson(Object.fromEntries(kept)) }],
    });
    if (result.committed) return;
  }
  throw new Problem({
    code: "conflict",
    what: "IPAM's settings keep changing",
    where: ipamConfigKey,
    todo: "Try again",
  });
}

function settingsIn(text: string): Record<string, Json> {
  try {
    const value = parseJson(text);
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Problem({ code: "undecodable", what: "IPAM's settings are not a JSON object", where: ipamConfigKey });
}
