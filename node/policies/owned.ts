import { isObject, type Json, parseJson, writeJson } from "../../lib/json64.ts";
import { type KeyValue, prefixRange, type Store } from "../../datastore/store.ts";

/**
 * What files of nodes have brought into the datastore: `/tortie/files/<node>/<file>`. A record is put by the transaction that
 * puts the objects. Whoever else changes an object changes its value, and so is known.
 */
export const filesPrefix = "/tortie/files/";

/** What one file of one node brought. */
export interface Owned {
  /** By key of the object. */
  objects: Record<string, OwnedObject>;
  /** etcd's revision of the record; 0n = there is none yet. */
  revision: bigint;
}

/** Fingerprints (SHA-256, hexadecimal). */
export interface OwnedObject {
  /** Of the object as the file says it. */
  said: string;
  /** Of the value that was stored. */
  stored: string;
}

/** The record's key. Names of files hold no slash. */
export const ownedKey = (node: string, file: string): string => `${filesPrefix}${node}/${file}`;

/** A record's value. */
export const ownedValue = (objects: Record<string, OwnedObject>): string => writeJson({ objects } as unknown as Json);

/** All records: this node's by file, and the keys of objects that other nodes' files brought, too. */
export async function readOwned(store: Store, node: string): Promise<{ own: Map<string, Owned>; others: Set<string> }> {
  const own = new Map<string, Owned>(), others = new Set<string>();
  const { values } = await store.read([prefixRange(filesPrefix)]);
  for (const kv of values.values()) {
    const objects = objectsOf(kv), prefix = `${filesPrefix}${node}/`;
    if (kv.key.startsWith(prefix)) own.set(kv.key.slice(prefix.length), { objects, revision: kv.revision });
    else for (const key of Object.keys(objects)) others.add(key);
  }
  return { own, others };
}

/** A record that cannot be understood owns nothing: then its objects are others', and are named as such. */
function objectsOf({ value }: KeyValue): Record<string, OwnedObject> {
  try {
    const record = parseJson(value);
    if (!isObject(record) || !isObject(record.objects)) return {};
    const entries = Object.entries(record.objects).filter(([, o]) =>
      isObject(o) && typeof o.said === "string" && typeof o.stored === "string"
    );
    return Object.fromEntries(entries) as unknown as Record<string, OwnedObject>;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return {};
  }
}

/** The fingerprint of a text. */
export async function fingerprint(text: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
}
