import { decodeResource, encodeResource, isUndecodable, policyNameAnnotation } from "../../datastore/codec.ts";
import type { Resource } from "../../datastore/kind.ts";
import { kinds } from "../../datastore/kinds/index.ts";
import { kindPrefix, resourceKey } from "../../datastore/keys.ts";
import { type KeyValue, prefixRange, type Store } from "../../datastore/store.ts";
import type { Command } from "../command.ts";

/** `datastore migrate-policy-names`: moves policies from the keys that Calico up to 3.31 gave them. */
export const policyNames: Command = {
  words: ["datastore", "migrate-policy-names"],
  summary: "Move policies stored as default.NAME by Calico up to 3.31 to the key NAME",
  usage: "",
  flags: [],
  async run(call) {
    const { store } = await call.resources();
    let moved = 0;
    for (const kind of kinds.filter((k) => k.isPolicy)) {
      const found: KeyValue[] = [];
      await store.list(prefixRange(kindPrefix(kind.kind)), (kvs) => found.push(...kvs));
      for (const kv of found) if (await move(store, kv)) moved++;
    }
    call.surroundings.out(`Policy name migration complete, migrated ${moved} policies.\n`);
    return 0;
  },
};

/** Moves one policy, unless its key is right or its new key taken. */
async function move(store: Store, kv: KeyValue): Promise<boolean> {
  const policy = decodeResource(kv);
  if (!policy || isUndecodable(policy) || !kv.value.includes(policyNameAnnotation)) return false;
  const key = keyOf(policy);
  if (key === kv.key) return false;
  const { committed } = await store.txn({
    compare: [{ key: kv.key, revision: kv.revision }, { key, revision: 0n }],
    write: [{ delete: kv.key }, { put: key, value: encodeResource(policy) }],
  });
  return committed;
}

const keyOf = ({ kind, metadata }: Resource): string => resourceKey(kind, metadata.name, metadata.namespace);
