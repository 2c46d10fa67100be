import { formatIp, type Ip, sameIp } from "../../lib/ip.ts";
import type { Port } from "../reconcile.ts";
import { decodeLink, deleteLink, ifinfo, IFLA, INFO, type Link, linkQuery, linkType, setLink } from "./link.ts";
import {
  attribute,
  attributesOf,
  ipAttribute,
  join,
  macBytes,
  type Message,
  nested,
  NLM,
  readIp,
  readU32,
  type Request,
  text,
  u32,
  u8,
} from "./message.ts";
import { E, isErrno, type KernelError, type RtSocket } from "./socket.ts";

/** Attributes of a VXLAN (linux/if_link.h). */
const VXLAN = { id: 1, parent: 3, local: 4, learning: 7, port: 15, local6: 17 };

/** What makes a VXLAN; a device that differs in one of these is made anew. */
export interface VxlanSettings {
  vni: number;
  /** Outer UDP port. */
  port: number;
  /** Index of the interface that outer packets leave by. */
  parent: number;
  /** Source address of outer packets. */
  local: Ip;
}

/** The device of a tunnel. */
export interface TunnelDevice {
  /** rtnetlink's word; what is there may be of any other kind. */
  kind: "vxlan" | "ipip" | "wireguard" | (string & Record<never, never>);
  mtuBytes: number;
  up: boolean;
  /** Undefined = the kernel's choice. */
  mac?: string;
  vxlan?: VxlanSettings;
}

/** A tunnel's device of a link message. */
export function decodeTunnelDevice(message: Message): { link: Link; device: TunnelDevice } | undefined {
  const link = decodeLink(message);
  if (!link) return undefined;
  const { kind = "", mtuBytes, up, mac } = link;
  const device: TunnelDevice = { kind, mtuBytes, up, ...(mac === undefined ? {} : { mac }) };
  const data = attributesOf(attributesOf(message.body, 16).get(IFLA.linkInfo) ?? new Uint8Array()).get(INFO.data);
  if (kind === "vxlan" && data) device.vxlan = decodeVxlan(data);
  return { link, device };
}

function decodeVxlan(data: Uint8Array): VxlanSettings | undefined {
  const found = attributesOf(data);
  const port = found.get(VXLAN.port), local = readIp(found.get(VXLAN.local) ?? found.get(VXLAN.local6));
  if (!port || !local) return undefined;
  return {
    vni: readU32(found.get(VXLAN.id)) ?? 0,
    port: (port[0]! << 8) | port[1]!,
    parent: readU32(found.get(VXLAN.parent)) ?? 0,
    local,
  };
}

/** Makes a device, down. EEXIST for `tunl0`, which comes with its module by itself. */
export function createTunnelDevice(name: string, { kind, mtuBytes, mac, vxlan }: TunnelDevice): Request {
  const data = vxlan
    ? [nested(
      INFO.data,
      attribute(VXLAN.id, u32(vxlan.vni)),
      attribute(VXLAN.parent, u32(vxlan.parent)),
      ipAttribute(vxlan.local.v === 4 ? VXLAN.local : VXLAN.local6, vxlan.local),
      attribute(VXLAN.learning, u8(0)), // who is where is known; packets of strangers teach nothing
      attribute(VXLAN.port, new Uint8Array([vxlan.port >> 8, vxlan.port & 255])),
    )]
    : [];
  const body = join(
    ifinfo(),
    attribute(IFLA.name, text(name)),
    ...(mac ? [attribute(IFLA.address, macBytes(mac))] : []),
    ...(mtuBytes ? [attribute(IFLA.mtu, u32(mtuBytes))] : []),
    nested(IFLA.linkInfo, attribute(INFO.kind, text(kind)), ...data),
  );
  return { type: linkType.created, flags: NLM.CREATE | NLM.EXCL, body };
}

/** True when a device needs not be made anew to become another. Source: Calico's felix vxlanLinksIncompat. */
export function isConvertible(have: TunnelDevice, want: TunnelDevice): boolean {
  if (have.kind !== want.kind) return false;
  if (want.mac !== undefined && have.mac !== want.mac.toLowerCase()) return false;
  if (!want.vxlan) return true;
  const { vxlan } = have;
  return vxlan !== undefined && vxlan.vni === want.vxlan.vni && vxlan.port === want.vxlan.port &&
    vxlan.parent === want.vxlan.parent && sameIp(vxlan.local, want.vxlan.local);
}

/** True when a device is as wanted. */
export const sameTunnelDevice = (have: TunnelDevice, want: TunnelDevice): boolean =>
  isConvertible(have, want) && have.up === want.up && (want.mtuBytes === 0 || have.mtuBytes === want.mtuBytes);

/** What a port of tunnels' devices is for. */
export interface TunnelPortOptions {
  /** Names that are ours alone, with the kind that we make; a device of that kind is removed when it is not wanted. */
  ours(): ReadonlyMap<string, string>;
  /** Names that are looked at only while they are wanted, and never deleted: `tunl0`, which no one can. */
  shared: ReadonlySet<string>;
  wanted(): Iterable<string>;
}

/** Devices of tunnels by name. */
export function tunnelDevicePort(socket: RtSocket, options: TunnelPortOptions): Port<string, TunnelDevice> {
  const read = (names: Iterable<string>) => {
    const found = socket.batch([...names].map(linkQuery)).flatMap(({ messages }) => messages).map(decodeTunnelDevice);
    return new Map(found.flatMap((f) => (f ? [[f.link.name, f] as const] : [])));
  };
  const list = () => {
    const wanted = new Set(options.wanted());
    const ours = options.ours(), names = new Set([...ours.keys(), ...wanted]);
    return new Map(
      [...read(names)].filter(([name, { device }]) => wanted.has(name) || ours.get(name) === device.kind),
    );
  };
  return {
    name: "tunnel devices",
    list: () => Promise.resolve(new Map([...list()].map(([name, { device }]) => [name, device]))),
    same: sameTunnelDevice,
    async apply(put, remove) {
      const failed = new Map<string, Error>();
      const have = read([...put.map(([name]) => name), ...remove]);
      const doomed = [
        ...remove.filter((name) => !options.shared.has(name)),
        ...put.filter(([name, want]) => have.has(name) && !isConvertible(have.get(name)!.device, want)).map(([n]) => n),
      ].filter((name) => have.has(name));
      await removeAll(socket, doomed.map((name) => [name, have.get(name)!.link.index]), failed);
      for (const [name, want] of put) {
        if (failed.has(name)) continue;
        const error = make(socket, name, want, doomed.includes(name) ? undefined : have.get(name)?.link);
        if (error) failed.set(name, error);
      }
      return failed;
    },
  };
}

async function removeAll(socket: RtSocket, links: [string, number][], failed: Map<string, Error>): Promise<void> {
  const answers = await socket.batchLater(links.map(([, index]) => deleteLink(index)));
  answers.forEach(({ error }, i) => {
    if (error && !isErrno(error, E.NODEV)) failed.set(links[i]![0], error);
  });
}

/** Creates what is missing, then sets what can be set. @returns the kernel's refusal. */
function make(socket: RtSocket, name: string, want: TunnelDevice, have: Link | undefined): KernelError | undefined {
  if (!have) {
    const { error } = socket.batch([createTunnelDevice(name, want)])[0]!;
    if (error && !isErrno(error, E.EXIST)) return error;
  }
  const found = have ?? socket.batch([linkQuery(name)])[0]!.messages.map(decodeLink)[0];
  if (!found) return socket.batch([linkQuery(name)])[0]!.error;
  // An MTU that the kernel refuses must not keep the device down.
  const settings = [{ up: want.up }, ...(want.mtuBytes ? [{ mtuBytes: want.mtuBytes }] : [])];
  return socket.batch(settings.map((s) => setLink(found.index, s))).find(({ error }) => error)?.error;
}

/** For logs: `vxlan 4096 local 192.0.2.1 port 4789 mtu 1450`. */
export function describeTunnelDevice({ kind, mtuBytes, vxlan }: TunnelDevice): string {
  const of = vxlan ? `${kind} ${vxlan.vni} local ${formatIp(vxlan.local)} port ${vxlan.port}` : kind;
  return `${of} mtu ${mtuBytes}`;
}
