import { type Family, formatCidr, formatIp, ipBytes, ipFromBytes, tryParseCidrOrIp, tryParseIp } from "../../lib/ip.ts";
import { attribute, nested, u8 } from "../rtnetlink/message.ts";

/** Types of sets that we make. */
export type SetType = "hash:net" | "hash:ip" | "hash:ip,port";

/** Attributes of one member (linux/netfilter/ipset/ip_set.h). Numbers are in network byte order, and say so. */
const ATTR = { ip: 1, cidr: 3, port: 4, proto: 7 };
const DATA = 7;
const NET_BYTEORDER = 0x4000;
const protocols: Record<string, number> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 };
const protocolNames = new Map(Object.entries(protocols).map(([name, n]) => [n, name]));

/**
 * A member as the kernel shows it, so that texts can be compared: no `/32` or `/128`, host bits zero.
 * @param text `10.0.0.1`, `10.0.0.0/8` (hash:net), `10.0.0.1,tcp:8080` (hash:ip,port).
 * @returns undefined when such a set cannot hold it.
 */
export function memberText(type: SetType, family: Family, text: string): string | undefined {
  if (type === "hash:ip,port") {
    const parts = /^([^,]+),(\w+):(\d{1,5})$/.exec(text);
    const ip = parts && addressText(family, parts[1]!);
    const protocol = parts && (protocols[parts[2]!] ?? Number(parts[2]));
    if (!ip || protocol === null || !(protocol <= 255) || Number(parts[3]) > 65535) return undefined;
    return `${ip},${protocolNames.get(protocol) ?? protocol}:${Number(parts[3])}`;
  }
  if (family === 4 && isPlainIp4(text)) return text;
  const net = tryParseCidrOrIp(text);
  if (!net || net.v !== family || net.len === 0) return undefined;
  if (net.len === (family === 4 ? 32 : 128)) return formatIp(net);
  return type === "hash:net" ? formatCidr(net) : undefined;
}

function addressText(family: Family, text: string): string | undefined {
  const ip = tryParseIp(text);
  return ip?.v === family ? formatIp(ip) : undefined;
}

/** Four decimal numbers without leading zeros: nothing to rewrite. Most members are that. */
function isPlainIp4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((p) => /^(0|[1-9]\d{0,2})$/.test(p) && Number(p) < 256);
}

/** The DATA attribute of a member as memberText() gives it. */
export function encodeMember(family: Family, text: string): Uint8Array {
  const [address, port] = text.split(",") as [string, string?];
  const net = tryParseCidrOrIp(address)!;
  const parts = [nested(ATTR.ip, attribute((family === 4 ? 1 : 2) | NET_BYTEORDER, ipBytes(net)))];
  if (address.includes("/")) parts.push(attribute(ATTR.cidr, u8(net.len)));
  if (port !== undefined) {
    const [protocol, number] = port.split(":") as [string, string];
    const n = Number(number);
    parts.push(attribute(ATTR.port | NET_BYTEORDER, new Uint8Array([n >> 8, n & 255])));
    parts.push(attribute(ATTR.proto, u8(protocols[protocol] ?? Number(protocol))));
  }
  return nested(DATA, ...parts);
}

/** The members in the ADT attribute of a listing, as memberText() gives them. */
export function* decodeMembers(type: SetType, family: Family, list: Uint8Array): Generator<string> {
  const view = new DataView(list.buffer, list.byteOffset, list.length);
  const whole = family === 4 ? 32 : 128;
  for (let at = 0; at + 4 <= list.length; at += (view.getUint16(at, true) + 3) & ~3) {
    const end = at + view.getUint16(at, true);
    if (end < at + 4) return;
    let address = "", cidr = whole, port = 0, proto = 0;
    for (let a = at + 4; a + 4 <= end; a += (view.getUint16(a, true) + 3) & ~3) {
      const attr = view.getUint16(a + 2, true) & 0x3fff;
      // The address is one attribute within another: two heads of four bytes.
      if (attr === ATTR.ip) address = addressOf(list.subarray(a + 8, a + view.getUint16(a, true)));
      else if (attr === ATTR.cidr) cidr = view.getUint8(a + 4);
      else if (attr === ATTR.port) port = view.getUint16(a + 4, false);
      else if (attr === ATTR.proto) proto = view.getUint8(a + 4);
    }
    if (type === "hash:ip,port") yield `${address},${protocolNames.get(proto) ?? proto}:${port}`;
    else yield cidr === whole ? address : `${address}/${cidr}`;
  }
}

const addressOf = (b: Uint8Array): string =>
  b.length === 4 ? `${b[0]}.${b[1]}.${b[2]}.${b[3]}` : formatIp(ipFromBytes(b));
