import { type Cidr, compareIp, type Ip, ipBytes, ipFromBytes, sameIp } from "../../lib/ip.ts";
import { keyBytes } from "../../lib/wireguard_key.ts";
import type { Port } from "../reconcile.ts";
import { genericFamily, genericHeader, genericRequest } from "./generic.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  eachAttribute,
  familyOf,
  ipAttribute,
  join,
  type Message,
  nested,
  readIp,
  readText,
  readU32,
  type Request,
  text,
  u16,
  u32,
  u8,
} from "./message.ts";
import { E, type RtSocket } from "./socket.ts";

/** linux/wireguard.h */
const command = { get: 0, set: 1 };
const DEVICE = { name: 2, privateKey: 3, publicKey: 4, port: 6, mark: 7, peers: 8 };
const PEER = { key: 1, flags: 3, endpoint: 4, keepalive: 5, handshake: 6, received: 7, sent: 8, allowed: 9 };
const ALLOWED = { family: 1, ip: 2, mask: 3 };
const peerFlag = { remove: 1, replaceAllowed: 2, updateOnly: 4 };
/** Allowed networks a message: 36 bytes each in IPv6, and an attribute holds 64 KiB. */
const maxAllowed = 1000;

/** What a WireGuard device itself is set to; keys are base64. */
export interface WireguardDevice {
  privateKey: string;
  /** UDP port that it listens at. */
  port: number;
  /** Mark of the outer packets. */
  mark: number;
}

/** Another host as a WireGuard device knows it. */
export interface WireguardPeer {
  device: string;
  publicKey: string;
  endpoint: { ip: Ip; port: number } | undefined;
  /** 0 = none is sent. */
  keepaliveSeconds: number;
  /** Networks that are sent to it, and from which it may send. */
  allowed: readonly Cidr[];
}

/** What the kernel counts of a peer. */
export interface PeerTraffic {
  /** Unix time of the last handshake; 0 = there was none. */
  handshakeSeconds: number;
  receivedBytes: bigint;
  sentBytes: bigint;
}

/** A device with its peers, as the kernel tells it. */
export interface WireguardState {
  name: string;
  device: WireguardDevice;
  /** Undefined without a private key. */
  publicKey: string | undefined;
  /** By public key. */
  peers: Map<string, WireguardPeer & PeerTraffic>;
}

/** The device in the messages of one dump; a peer with many networks goes on in the next message. */
export function decodeWireguard(messages: Message[]): WireguardState | undefined {
  let state: WireguardState | undefined;
  for (const { body } of messages) {
    const found = attributesOf(body, genericHeader);
    const name = readText(found.get(DEVICE.name));
    if (!state) {
      if (name === undefined) return undefined;
      const device = {
        privateKey: keyText(found.get(DEVICE.privateKey)) ?? "",
        port: readU16(found.get(DEVICE.port)),
        mark: readU32(found.get(DEVICE.mark)) ?? 0,
      };
      state = { name, device, publicKey: keyText(found.get(DEVICE.publicKey)), peers: new Map() };
    }
    const into = state;
    eachAttribute(found.get(DEVICE.peers) ?? new Uint8Array(), 0, (_, value) => readPeer(into, value));
  }
  return state;
}

function readPeer(state: WireguardState, value: Uint8Array): void {
  const found = attributesOf(value);
  const publicKey = keyText(found.get(PEER.key));
  if (publicKey === undefined) return;
  const allowed: Cidr[] = [];
  eachAttribute(found.get(PEER.allowed) ?? new Uint8Array(), 0, (_, net) => {
    const parts = attributesOf(net), ip = readIp(parts.get(ALLOWED.ip));
    if (ip) allowed.push({ ...ip, len: parts.get(ALLOWED.mask)?.[0] ?? 0 });
  });
  const begun = state.peers.get(publicKey);
  if (begun) return void state.peers.set(publicKey, { ...begun, allowed: [...begun.allowed, ...allowed] });
  state.peers.set(publicKey, {
    ...{ device: state.name, publicKey, allowed },
    endpoint: readEndpoint(found.get(PEER.endpoint)),
    keepaliveSeconds: readU16(found.get(PEER.keepalive)),
    handshakeSeconds: Number(readU64(found.get(PEER.handshake))),
    receivedBytes: readU64(found.get(PEER.received)),
    sentBytes: readU64(found.get(PEER.sent)),
  });
}

/** Sets a device; the kernel keeps its sessions when the key is the same. @throws Error when the key is none. */
export const setWireguard = (family: number, name: string, { privateKey, port, mark }: WireguardDevice): Request =>
  genericRequest(
    family,
    command.set,
    attribute(DEVICE.name, text(name)),
    attribute(DEVICE.privateKey, keyOf(privateKey)),
    attribute(DEVICE.port, u16(port)),
    attribute(DEVICE.mark, u32(mark)),
  );

/** Makes a peer, or makes it so; several messages when it has many networks. Those that another peer has are taken from it. */
export function setPeer(family: number, peer: WireguardPeer): Request[] {
  const { device, publicKey, endpoint, keepaliveSeconds, allowed } = peer;
  const message = (first: boolean, nets: readonly Cidr[]): Request =>
    peerMessage(
      family,
      device,
      attribute(PEER.key, keyOf(publicKey)),
      attribute(PEER.flags, u32(first ? peerFlag.replaceAllowed : peerFlag.updateOnly)),
      ...(first && endpoint ? [attribute(PEER.endpoint, endpointBytes(endpoint))] : []),
      ...(first ? [attribute(PEER.keepalive, u16(keepaliveSeconds))] : []),
      nested(PEER.allowed, ...nets.map(allowedNet)),
    );
  const requests = [message(true, allowed.slice(0, maxAllowed))];
  for (let at = maxAllowed; at < allowed.length; at += maxAllowed) {
    requests.push(message(false, allowed.slice(at, at + maxAllowed)));
  }
  return requests;
}

/** Removes a peer; no error when there is none. */
export const removePeer = (family: number, device: string, publicKey: string): Request =>
  peerMessage(family, device, attribute(PEER.key, keyOf(publicKey)), attribute(PEER.flags, u32(peerFlag.remove)));

const peerMessage = (family: number, device: string, ...parts: Uint8Array[]): Request =>
  genericRequest(family, command.set, attribute(DEVICE.name, text(device)), nested(DEVICE.peers, nested(0, ...parts)));

const allowedNet = (net: Cidr): Uint8Array =>
  nested(
    0,
    attribute(ALLOWED.family, u16(addressFamily(net.v))),
    ipAttribute(ALLOWED.ip, net),
    attribute(ALLOWED.mask, u8(net.len)),
  );

/** `struct sockaddr_in` or `sockaddr_in6`. */
function endpointBytes({ ip, port }: { ip: Ip; port: number }): Uint8Array {
  const head = join(u16(addressFamily(ip.v)), Uint8Array.of(port >> 8, port & 255));
  return ip.v === 4 ? join(head, ipBytes(ip), new Uint8Array(8)) : join(head, u32(0), ipBytes(ip), u32(0));
}

function readEndpoint(value: Uint8Array | undefined): WireguardPeer["endpoint"] {
  const v = familyOf(value?.[0]);
  if (!value || v === undefined || value.length < (v === 4 ? 8 : 24)) return undefined;
  return { ip: ipFromBytes(v === 4 ? value.slice(4, 8) : value.slice(8, 24)), port: (value[2]! << 8) | value[3]! };
}

function keyOf(text: string): Uint8Array {
  const bytes = keyBytes(text);
  if (!bytes) throw new Error("not a WireGuard key");
  return bytes;
}

const keyText = (value: Uint8Array | undefined): string | undefined =>
  value?.length === 32 && value.some((b) => b !== 0) ? value.toBase64() : undefined;
const readU16 = (
  value: Uint8Array | undefined,
): number => (value && value.length >= 2 ? value[0]! | (value[1]! << 8) : 0);
const readU64 = (value: Uint8Array | undefined): bigint =>
  value && value.length >= 8 ? new DataView(value.buffer, value.byteOffset).getBigUint64(0, true) : 0n;

/** The devices of these names that are there and are WireGuard's. @throws Problem "kernel". */
export function readWireguard(socket: RtSocket, names: Iterable<string>): WireguardState[] {
  const wanted = [...names];
  const family = wanted.length > 0 ? genericFamily(socket, "wireguard") : undefined;
  if (family === undefined) return [];
  return wanted.flatMap((name) => {
    const query = genericRequest(family, command.get, attribute(DEVICE.name, text(name)));
    // Of another kind: EOPNOTSUPP; the port of devices tells of it.
    return decodeWireguard(socket.dump(query, E.NODEV, E.OPNOTSUPP)) ?? [];
  });
}

/** True when a device is set as wanted. */
export const sameWireguard = (a: WireguardDevice, b: WireguardDevice): boolean =>
  a.privateKey === b.privateKey && a.port === b.port && a.mark === b.mark;

/** True when two peers are the same, in whatever order their networks are. */
export function samePeer(a: WireguardPeer, b: WireguardPeer): boolean {
  if (a === b) return true;
  const sameEnd = a.endpoint && b.endpoint
    ? sameIp(a.endpoint.ip, b.endpoint.ip) && a.endpoint.port === b.endpoint.port
    : a.endpoint === b.endpoint;
  return a.device === b.device && a.publicKey === b.publicKey && sameEnd &&
    a.keepaliveSeconds === b.keepaliveSeconds && sameNets(a.allowed, b.allowed);
}

function sameNets(a: readonly Cidr[], b: readonly Cidr[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  const order = (x: Cidr, y: Cidr) => compareIp(x, y) || x.len - y.len;
  const [left, right] = [a.toSorted(order), b.toSorted(order)];
  return left.every((net, i) => sameIp(net, right[i]!) && net.len === right[i]!.len);
}

/** Key of the peers' port. */
export const peerKey = ({ device, publicKey }: Pick<WireguardPeer, "device" | "publicKey">): string =>
  `${device} ${publicKey}`;

/** What is set on WireGuard devices, by name. It goes with the device: nothing is removed here. */
export function wireguardPort(socket: RtSocket, names: () => Iterable<string>): Port<string, WireguardDevice> {
  return {
    name: "wireguard devices",
    list: () => Promise.resolve(new Map(readWireguard(socket, names()).map(({ name, device }) => [name, device]))),
    same: sameWireguard,
    apply: (put) => Promise.resolve(send(socket, put, (family, name, want) => [setWireguard(family, name, want)])),
  };
}

/** Peers of WireGuard devices by peerKey(). All of them are ours: strangers are removed. */
export function peerPort(socket: RtSocket, names: () => Iterable<string>): Port<string, WireguardPeer> {
  return {
    name: "wireguard peers",
    list() {
      const peers = readWireguard(socket, names()).flatMap((state) => [...state.peers.values()]);
      return Promise.resolve(new Map(peers.map((peer) => [peerKey(peer), peer])));
    },
    same: samePeer,
    apply(put, remove) {
      const steps: [string, WireguardPeer | undefined][] = [
        ...remove.map((key): [string, undefined] => [key, undefined]),
        ...put,
      ];
      return Promise.resolve(send(socket, steps, (family, key, peer) => {
        const [device = "", publicKey = ""] = key.split(" ");
        return peer ? setPeer(family, peer) : [removePeer(family, device, publicKey)];
      }));
    },
  };
}

/** @returns what the kernel refused, by key. */
function send<V>(
  socket: RtSocket,
  steps: [string, V][],
  requests: (family: number, key: string, value: V) => Request[],
): Map<string, Error> {
  const failed = new Map<string, Error>();
  if (steps.length === 0) return failed;
  const family = genericFamily(socket, "wireguard");
  if (family === undefined) {
    return new Map(steps.map(([key]) => [key, new Error("this kernel has no WireGuard")]));
  }
  const all = steps.flatMap(([key, value]) => requests(family, key, value).map((request) => ({ key, request })));
  socket.batch(all.map(({ request }) => request)).forEach(({ error }, i) => {
    if (error) failed.set(all[i]!.key, error);
  });
  return failed;
}
