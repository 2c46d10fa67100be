import type { Family } from "../../lib/ip.ts";
import type { Port } from "../reconcile.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  familyOf,
  join,
  type Message,
  NLM,
  readU32,
  type Request,
  u32,
  u8,
} from "./message.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";

/** Message numbers of routing rules. */
export const ruleType = { created: 32, deleted: 33, get: 34 };
const FRA = { priority: 6, mark: 10, table: 15, mask: 16, protocol: 21 };
const TO_TABLE = 1;
const INVERT = 2;

/** `not from all fwmark 0x200000/0x200000 lookup 1`: packets that match look into a table. */
export interface Rule {
  family: Family;
  priority: number;
  table: number;
  /** Mark and mask that a packet must have; 0/0 = any. */
  mark: number;
  mask: number;
  /** The condition is turned round. */
  invert: boolean;
  /** Who made it, as a route's. */
  protocol: number;
}

/** A rule message's content; undefined when it is no rule that leads to a table, or of another family. */
export function decodeRule(message: Message): Rule | undefined {
  const { body } = message;
  const family = familyOf(body[0]);
  if (family === undefined || body[7] !== TO_TABLE) return undefined;
  const found = attributesOf(body, 12);
  return {
    family,
    priority: readU32(found.get(FRA.priority)) ?? 0,
    table: readU32(found.get(FRA.table)) ?? body[4]!,
    mark: readU32(found.get(FRA.mark)) ?? 0,
    mask: readU32(found.get(FRA.mask)) ?? 0,
    invert: (readU32(body.subarray(8, 12))! & INVERT) !== 0,
    protocol: found.get(FRA.protocol)?.[0] ?? 0,
  };
}

/** All rules of a family. @throws Problem "kernel". */
export function listRules(socket: RtSocket, family: Family): Rule[] {
  const body = new Uint8Array(12);
  body[0] = addressFamily(family);
  return socket.dump({ type: ruleType.get, flags: 0, body }).map(decodeRule).filter((r) => r !== undefined);
}

/** Adds a rule; EEXIST when exactly this one is there. */
export const addRule = (r: Rule): Request => ({
  type: ruleType.created,
  flags: NLM.CREATE | NLM.EXCL,
  body: ruleBody(r),
});

/** Removes exactly this rule. */
export const removeRule = (r: Rule): Request => ({ type: ruleType.deleted, flags: 0, body: ruleBody(r) });

function ruleBody(r: Rule): Uint8Array {
  const head = new Uint8Array(12);
  head[0] = addressFamily(r.family);
  head[4] = r.table < 256 ? r.table : 0;
  head[7] = TO_TABLE;
  head[8] = r.invert ? INVERT : 0;
  return join(
    head,
    attribute(FRA.priority, u32(r.priority)),
    attribute(FRA.table, u32(r.table)),
    ...(r.mask ? [attribute(FRA.mark, u32(r.mark)), attribute(FRA.mask, u32(r.mask))] : []),
    attribute(FRA.protocol, u8(r.protocol)),
  );
}

/** Key of the rule port: everything but who made it, because the kernel may hold several rules of one priority. */
export const ruleKey = (r: Rule): string =>
  `${r.family} ${r.priority} ${r.invert ? "not " : ""}${r.mark}/${r.mask} ${r.table}`;

/** Rules of a family that are ours. Of rules that differ only in who made them one is enough. */
export function rulePort(socket: RtSocket, family: Family, owns: (r: Rule) => boolean): Port<string, Rule> {
  const list = () => new Map(listRules(socket, family).filter(owns).map((r) => [ruleKey(r), r]));
  return {
    name: `rules ip${family}`,
    list: () => Promise.resolve(list()),
    same: () => true,
    apply(put, remove) {
      const have = remove.length > 0 ? list() : new Map<string, Rule>();
      const steps = [
        ...put.map(([key, r]) => ({ key, request: addRule(r) })),
        ...remove.flatMap((key) => have.has(key) ? [{ key, request: removeRule(have.get(key)!) }] : []),
      ];
      const failed = new Map<string, Error>();
      socket.batch(steps.map((s) => s.request)).forEach(({ error }, i) => {
        const gone = steps[i]!.request.type === ruleType.deleted && isErrno(error, E.NOENT);
        if (error && !gone) failed.set(steps[i]!.key, error);
      });
      return Promise.resolve(failed);
    },
  };
}
