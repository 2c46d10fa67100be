import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { identify } from "../../datastore/problems.ts";
import { Problem } from "../../lib/problem.ts";
import type { LocalInterface } from "../interfaces.ts";
import type { Service } from "./services.ts";
import type { Survey } from "./survey.ts";

/** Label of everything that protects a host; its value is the node's name. */
export const protectLabel = "tortie.io/protects";

/** What somebody wants of the protection. */
export interface Wishes {
  node: string;
  /** Interfaces to protect; empty = those with a default route. */
  interfaces: string[];
  /** Open and closed ports beside the usual ones. */
  allow: Port[];
  close: Port[];
  /** Ports of sshd and of the session that asks. */
  sshPorts: number[];
  /** Failsafe ports are made as few as this host needs. Not with an etcd elsewhere, which other hosts share. */
  ownFailsafes: boolean;
}

/** A port of a protocol. */
export interface Port {
  protocol: "TCP" | "UDP";
  port: number;
}

/** What a host's web server is for everybody to reach. */
const usuallyOpen: Port[] = [{ protocol: "TCP", port: 80 }, { protocol: "TCP", port: 443 }, {
  protocol: "UDP",
  port: 443,
}];

const samePort = (a: Port) => (b: Port): boolean => a.protocol === b.protocol && a.port === b.port;

/** Ports on which ssh listens: sshd's own, those that systemd holds for it, and 22 when nothing else is known. */
export function sshPortsOf(services: readonly Service[], session: number | undefined): number[] {
  const own = services.filter((s) => s.protocol === "TCP" && (/^(sshd|dropbear)$/.test(s.program) || s.port === 22));
  const ports = [...new Set([...own.map((s) => s.port), ...(session ? [session] : [])])].sort((a, b) => a - b);
  return ports.length > 0 ? ports : [22];
}

/** Interfaces to protect by default: those by which the world reaches this host. */
export const uplinks = (interfaces: readonly LocalInterface[]): string[] =>
  interfaces.filter((i) => i.defaultRoute.length > 0).map((i) => i.name);

/**
 * What protects a host: a host endpoint for each interface, a policy that lets in ssh, what listens on a web server's
 * ports, what was wished for and the ICMP that networks need, and failsafe ports. Out goes everything. Pure.
 */
export function proposal(survey: Survey, wishes: Wishes): Resource[] {
  const { node } = wishes;
  const names = wishes.interfaces.length > 0 ? wishes.interfaces : uplinks(survey.interfaces);
  const labels = { [protectLabel]: node };
  const endpoints = names.map((name) =>
    object("HostEndpoint", `${node}-${name}`, { node, interfaceName: name }, labels)
  );
  const policy = {
    ...{ tier: "default", order: 1000, selector: `${protectLabel} == '${node}'`, types: ["Ingress", "Egress"] },
    ingress: [...openPorts(survey, wishes).map(portRule), ...networkRules],
    egress: [{ action: "Allow" }],
  };
  const failsafes = {
    failsafeInboundHostPorts: [
      ...wishes.sshPorts.map((port) => ({ protocol: "TCP", port })),
      { protocol: "UDP", port: dhcpClient },
    ],
  };
  return [
    ...(wishes.ownFailsafes ? [object("FelixConfiguration", `node.${node}`, failsafes, labels)] : []),
    object("GlobalNetworkPolicy", `protect-${node}`, policy, labels),
    ...endpoints,
  ];
}

const dhcpClient = 68;
const dhcpV6Client = 546;

/** Echo, and for IPv6 answers of DHCP, which come to a request that went to a group and so are no answers for conntrack. */
const networkRules = [
  { action: "Allow", ipVersion: 4, protocol: "ICMP", icmp: { type: 8 } },
  { action: "Allow", ipVersion: 6, protocol: "ICMPv6", icmp: { type: 128 } },
  {
    ...{ action: "Allow", ipVersion: 6, protocol: "UDP", source: { nets: ["fe80::/10"] } },
    destination: { ports: [dhcpV6Client] },
  },
];

function openPorts({ services }: Survey, { allow, close, sshPorts }: Wishes): (Port & { program?: string })[] {
  const ssh = sshPorts.map((port): Port => ({ protocol: "TCP", port }));
  const web = services.filter((s) => usuallyOpen.some(samePort(s)));
  const open = [...ssh, ...web, ...allow].filter((p) => !close.some(samePort(p)));
  return open.filter((p, i) => open.findIndex(samePort(p)) === i).map(({ protocol, port }) => {
    const program = services.find(samePort({ protocol, port }))?.program;
    return { protocol, port, ...(program && { program }) };
  });
}

const portRule = ({ protocol, port, program }: Port & { program?: string }): Record<string, unknown> => ({
  ...(program && { metadata: { annotations: { program } } }),
  ...{ action: "Allow", protocol, destination: { ports: [port] } },
});

const object = (
  kind: string,
  name: string,
  spec: Record<string, unknown>,
  labels: Record<string, string>,
): Resource => ({ apiVersion, kind, metadata: { name, labels }, spec });

const failsafeField = "failsafeInboundHostPorts";

/**
 * A proposed object laid over the stored one of its name. A node's parameters are there from its start on: of them only the
 * failsafe ports are changed. @throws Problem "exists" when somebody else made what would be changed.
 */
export function withStored(proposed: Resource, stored: Resource | undefined): Resource {
  if (!stored) return proposed;
  const { kind, metadata } = stored, isOurs = metadata.labels?.[protectLabel] !== undefined;
  const isParameters = kind === "FelixConfiguration";
  if (!isOurs && !(isParameters && stored.spec[failsafeField] === undefined)) {
    const what = `${identify(kind, metadata.name)} is there and was not made by protect`;
    const todo = "Use --print, leave that object out or give it another name, and hand the rest back with -f";
    throw new Problem({ code: "exists", what, todo });
  }
  if (!isParameters) return proposed;
  const labels = { ...metadata.labels, ...proposed.metadata.labels };
  return { ...stored, metadata: { ...metadata, labels }, spec: { ...stored.spec, ...proposed.spec } };
}

/** What is left of an object of ours when the protection is removed; undefined = nothing. */
export function withoutProtection(stored: Resource): Resource | undefined {
  const { [failsafeField]: _, ...spec } = stored.spec;
  if (stored.kind !== "FelixConfiguration" || Object.keys(spec).length === 0) return undefined;
  const { [protectLabel]: __, ...labels } = stored.metadata.labels ?? {};
  return { ...stored, metadata: { ...stored.metadata, labels }, spec };
}
