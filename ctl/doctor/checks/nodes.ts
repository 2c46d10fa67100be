import { contains, formatIp, type Ip, sameIp, tryParseCidrOrIp, tryParseNet } from "../../../lib/ip.ts";
import type { Node } from "../../../datastore/kinds/node.ts";
import { check, type Detail } from "../check.ts";

/** Who the nodes are, and where. */
export const nodeChecks = [
  check({
    id: "node-missing",
    about: "this host is a node of the cluster",
    looksAt: ["host", "objects"],
    fault: "there is no Node {node}, which this host is called",
    cure: "Start the agent (`systemctl start tortie`), which makes it. If the name is not the right one, see " +
      "`node-name-stale`, NODENAME and /var/lib/calico/nodename.",
    find: ({ host, objects }) => objects.nodes.some(isNamed(host.nodeName)) ? [] : [{ node: host.nodeName }],
  }),
  check({
    id: "node-name-stale",
    about: "the name that is kept for this host is its own",
    looksAt: ["host", "objects"],
    fault: "/var/lib/calico/nodename says {kept}, and there is no such Node, while there is one called {hostName}",
    cure: "Stop the agent, write {hostName} into that file (or remove it), start the agent.",
    find: ({ host: { keptName, hostName }, objects: { nodes } }) =>
      keptName && keptName !== hostName && !nodes.some(isNamed(keptName)) && nodes.some(isNamed(hostName))
        ? [{ kept: keptName, hostName }]
        : [],
  }),
  check({
    id: "node-without-address",
    about: "every node has an address",
    looksAt: ["objects"],
    fault: "node {node} has no address: nobody can send to its pods",
    cure:
      'See the agent\'s log there ("address detected"), or set IP or IP_AUTODETECTION_METHOD on it. If the machine is ' +
      "gone: `tortie ctl delete node {node}`.",
    find: ({ objects }) =>
      objects.nodes.filter((node) => addressesOf(node).length === 0).map(({ metadata }) => ({ node: metadata.name })),
  }),
  check({
    id: "node-address-twice",
    about: "no two nodes have one address",
    looksAt: ["objects"],
    fault: "nodes {nodes} have the same address {address}",
    cure:
      "Give each machine its own address, or choose another with IP_AUTODETECTION_METHOD; delete the Node of a machine " +
      "that is gone.",
    find: ({ objects }) => shared(objects.nodes, (node) => addressesOf(node).map(formatIp)),
  }),
  check({
    id: "tunnel-address-twice",
    about: "no two nodes have one tunnel address",
    looksAt: ["objects"],
    fault: "nodes {nodes} have the same tunnel address {address}",
    cure: "Remove the address from one of the Nodes (`tortie ctl edit node …`); its agent takes another.",
    find: ({ objects }) =>
      shared(
        objects.nodes,
        ({ spec }) =>
          [
            spec.bgp?.ipv4IPIPTunnelAddr,
            spec.ipv4VXLANTunnelAddr,
            spec.ipv6VXLANTunnelAddr,
            spec.wireguard?.interfaceIPv4Address,
            spec.wireguard?.interfaceIPv6Address,
          ].filter((text): text is string => !!text),
      ),
  }),
  check({
    id: "node-address-elsewhere",
    about: "this node's address is one of this host's",
    looksAt: ["host", "objects", "interfaces"],
    fault: "node {node} is registered at {address}, which no interface of this host has",
    cure: "Restart the agent, which looks for the address again, or set IP to the right one.",
    find({ host, objects, interfaces }) {
      const node = objects.nodes.find(isNamed(host.nodeName));
      return (node ? addressesOf(node) : []).filter((ip) => !interfaces.addresses.some((a) => sameIp(a.ip, ip)))
        .map((ip) => ({ node: host.nodeName, address: formatIp(ip) }));
    },
  }),
  check({
    id: "host-endpoint-nowhere",
    about: "each host endpoint of this node has its interface",
    looksAt: ["host", "objects", "interfaces"],
    fault: "host endpoint {name} is for {wanted}, and this host has none: its policy protects nothing",
    cure: "Correct interfaceName or expectedIPs (`tortie ctl edit hostendpoint {name}`); interfaces here: {there}.",
    find({ host, objects, interfaces }) {
      const there = [...interfaces.links.values()].map((link) => link.name).filter((name) => !/^(lo|cali)/.test(name));
      return objects.hostEndpoints.filter(({ spec }) => spec.node === host.nodeName).flatMap(({ metadata, spec }) => {
        const { interfaceName = "", expectedIPs = [] } = spec;
        const found = interfaceName !== ""
          ? interfaceName === "*" || there.includes(interfaceName) || interfaceName === "lo"
          : expectedIPs.some((ip) => interfaces.addresses.some((a) => contains(tryParseCidrOrIp(ip)!, a.ip)));
        const wanted = interfaceName !== "" ? `interface ${interfaceName}` : `addresses ${expectedIPs.join(", ")}`;
        return found ? [] : [{ name: metadata.name, wanted, there: there.join(", ") }];
      });
    },
  }),
  check({
    id: "endpoint-of-gone-node",
    about: "every workload endpoint is on a node that exists",
    looksAt: ["objects"],
    fault: "workload endpoint {name} is on node {node}, which does not exist",
    cure: "If that machine is gone: `tortie ctl delete wep {short} -n {namespace}`, then `tortie ctl ipam gc`. " +
      "If not: start its agent.",
    find({ objects: { nodes, endpoints } }) {
      const there = new Set(nodes.map(({ metadata }) => metadata.name));
      return endpoints.filter(({ spec }) => !there.has(spec.node ?? "")).map(({ metadata, spec }) => ({
        name: `${metadata.namespace}/${metadata.name}`,
        short: metadata.name,
        namespace: metadata.namespace ?? "",
        node: spec.node ?? "",
      }));
    },
  }),
];

/** True for the node of that name. */
export const isNamed = (name: string) => (node: Node): boolean => node.metadata.name === name;

/** Addresses by which other nodes reach it. */
export function addressesOf({ spec }: Node): Ip[] {
  const texts = [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address];
  const bgp = texts.flatMap((
    text,
  ) => (text ? tryParseNet(text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`)?.ip ?? [] : []));
  if (bgp.length > 0) return bgp;
  return (spec.addresses ?? []).flatMap(({ address }) => tryParseCidrOrIp(address) ?? []);
}

/** What more than one node has. */
function shared(nodes: readonly Node[], addresses: (node: Node) => string[]): Detail[] {
  const users = new Map<string, string[]>();
  for (const node of nodes) {
    for (const address of new Set(addresses(node))) {
      users.set(address, [...users.get(address) ?? [], node.metadata.name]);
    }
  }
  return [...users].filter(([, names]) => names.length > 1).map(([address, names]) => ({
    address,
    nodes: names.join(", "),
  }));
}
