import {
  attribute,
  attributesOf,
  join,
  type Message,
  nested,
  NLM,
  readText,
  readU32,
  type Request,
  text,
  u32,
} from "./message.ts";
import type { RtSocket } from "./socket.ts";

/** linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h */
const qdiscType = { created: 36, deleted: 37, get: 38 };
const filterCreated = 44;
const TCA = { kind: 1, options: 2 };
const TBF = { parameters: 1, rate64: 4, peak64: 5, peakBurst: 7 };
const U32 = { classId: 1, selector: 5, action: 7 };
const ACT = { kind: 1, options: 2 };
const MIRRED_PARAMETERS = 2;
const rootParent = 0xffffffff, ingressParent = 0xfffffff1;
/** Handles `1:` and `ffff:`. */
const rootHandle = 0x10000, ingressHandle = 0xffff0000;
/** Of any protocol, in network order, with priority 1. */
const everyProtocol = (1 << 16) | 0x0300;
const ETHERNET = 1;
const most32 = 0xffffffff;
/** A tick of the kernel's packet scheduler. */
const tickNs = 64;

/** A token bucket filter as the kernel keeps it. */
export interface TokenBucket {
  /** Bytes a second. */
  rate: number;
  /** How long a burst takes at that rate, in the scheduler's ticks of 64 ns; at most 2^32 - 1. */
  bufferTicks: number;
  /** Bytes that may wait. */
  limitBytes: number;
  /** Bytes a second at most, also within a burst; 0 = whatever the link can. */
  peakRate: number;
  /** Bytes that may pass at once at the peak rate. */
  minburstBytes: number;
}

/** Whether two buckets let the same pass. The kernel keeps the smaller burst as a time, and gives it back rounded. */
export function sameBucket(a: TokenBucket | undefined, b: TokenBucket | undefined): boolean {
  if (!a || !b) return a === b;
  const near = (x: number, y: number) => Math.abs(x - y) <= 1 + x / 100;
  return a.rate === b.rate && a.bufferTicks === b.bufferTicks && a.limitBytes === b.limitBytes &&
    a.peakRate === b.peakRate && (a.peakRate === 0 || near(a.minburstBytes, b.minburstBytes));
}

/** A queueing discipline of an interface. */
export interface Qdisc {
  /** Index of the interface. */
  index: number;
  kind: string;
  isRoot: boolean;
  bucket?: TokenBucket;
}

/** All of the socket's namespace but the kernel's own defaults. @throws Problem "kernel". */
export const listQdiscs = (socket: RtSocket): Qdisc[] =>
  socket.dump({ type: qdiscType.get, flags: 0, body: tcmsg(0, 0, 0) }).map(decodeQdisc);

/** A message's content. */
export function decodeQdisc({ body }: Message): Qdisc {
  const view = new DataView(body.buffer, body.byteOffset, body.length), found = attributesOf(body, 20);
  const kind = readText(found.get(TCA.kind)) ?? "", options = found.get(TCA.options);
  const bucket = kind === "tbf" && options ? decodeBucket(attributesOf(options)) : undefined;
  return {
    index: view.getInt32(4, true),
    kind,
    isRoot: view.getUint32(12, true) === rootParent,
    ...(bucket && { bucket }),
  };
}

/** `struct tc_tbf_qopt`: two rates of twelve bytes, whose last four say the rate, then limit, buffer, smaller buffer. */
function decodeBucket(found: Map<number, Uint8Array>): TokenBucket | undefined {
  const bytes = found.get(TBF.parameters);
  if (!bytes || bytes.length < 36) return undefined;
  const at = (offset: number) => readU32(bytes.subarray(offset))!;
  const rate = readU64(found.get(TBF.rate64)) ?? at(8), peakRate = readU64(found.get(TBF.peak64)) ?? at(20);
  const minburstBytes = Math.round(at(32) * tickNs * peakRate / 1e9);
  return { rate, peakRate, limitBytes: at(24), bufferTicks: at(28), minburstBytes };
}

/** Limits what leaves by an interface; takes the place of what is there. */
export function setBucket(index: number, bucket: TokenBucket): Request {
  const { rate, peakRate, limitBytes, bufferTicks, minburstBytes } = bucket;
  const wide = (type: number, value: number) => (value > most32 ? [attribute(type, u64(value))] : []);
  const options = nested(
    TCA.options,
    attribute(TBF.parameters, join(rateSpec(rate), rateSpec(peakRate), u32(limitBytes), u32(bufferTicks), u32(0))),
    ...wide(TBF.rate64, rate),
    ...wide(TBF.peak64, peakRate),
    ...(peakRate > 0 ? [attribute(TBF.peakBurst, u32(minburstBytes))] : []),
  );
  const body = join(tcmsg(index, rootHandle, rootParent), attribute(TCA.kind, text("tbf")), options);
  return { type: qdiscType.created, flags: NLM.CREATE | NLM.REPLACE, body };
}

const rateSpec = (rate: number): Uint8Array =>
  join(new Uint8Array([0, ETHERNET, 0, 0, 0, 0, 0, 0]), u32(Math.min(rate, most32)));

/** Takes the limit off what leaves by an interface; ENOENT where there is none. */
export const removeBucket = (index: number): Request => ({
  type: qdiscType.deleted,
  flags: 0,
  body: join(tcmsg(index, rootHandle, rootParent), attribute(TCA.kind, text("tbf"))),
});

/** What comes in by an interface can be filtered from now on. EEXIST where it can already. */
export const openIngress = (index: number): Request => ({
  type: qdiscType.created,
  flags: NLM.CREATE | NLM.EXCL,
  body: join(tcmsg(index, ingressHandle, ingressParent), attribute(TCA.kind, text("ingress"))),
});

/** Takes away openIngress() with all its filters; EINVAL or ENOENT where there is none. */
export const closeIngress = (index: number): Request => ({
  type: qdiscType.deleted,
  flags: 0,
  body: join(tcmsg(index, ingressHandle, ingressParent), attribute(TCA.kind, text("ingress"))),
});

/** Sends all that comes in by an interface through another one, as if it left there, before it goes on. */
export function redirectIngress(index: number, through: number): Request {
  // `struct tc_u32_sel` with the flag "terminal" and one key that fits everything.
  const selector = join(new Uint8Array([1, 0, 1, 0]), new Uint8Array(12), new Uint8Array(16));
  const stolen = 4, egressRedirect = 1;
  const mirred = join(u32(0), u32(0), u32(stolen), u32(0), u32(0), u32(egressRedirect), u32(through));
  const action = nested(
    1,
    attribute(ACT.kind, text("mirred")),
    nested(ACT.options, attribute(MIRRED_PARAMETERS, mirred)),
  );
  const options = nested(
    TCA.options,
    attribute(U32.classId, u32(0x10001)),
    attribute(U32.selector, selector),
    nested(U32.action, action),
  );
  const body = join(tcmsg(index, 0, ingressHandle, everyProtocol), attribute(TCA.kind, text("u32")), options);
  return { type: filterCreated, flags: NLM.CREATE | NLM.EXCL, body };
}

/** `struct tcmsg` */
function tcmsg(index: number, handle: number, parent: number, info = 0): Uint8Array {
  return join(new Uint8Array(4), u32(index), u32(handle), u32(parent), u32(info));
}

function u64(n: number): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(n), true);
  return out;
}

function readU64(value: Uint8Array | undefined): number | undefined {
  if (!value || value.length < 8) return undefined;
  return Number(new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true));
}
