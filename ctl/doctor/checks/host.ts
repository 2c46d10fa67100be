import { cidrOf, contains, formatIp, tryParseCidr } from "../../../lib/ip.ts";
import { tunnelNames } from "../../../agent/network/ownership.ts";
import type { InterfaceFacts, ObjectFacts } from "../facts.ts";
import { check, type Detail } from "../check.ts";
import { addressesOf, isNamed } from "./nodes.ts";

/** Share of the tracked flows from which the table is nearly full. */
const flowShare = 0.9;
/** Percent of a file system from which it is full; root keeps 5 for itself. */
const diskPercent = 95;
/** What outer headers take, in bytes. */
const vxlanBytes = 50;

/** The kernel's switches and tables, the disk, and the tunnels. */
export const hostChecks = [
  check({
    id: "forwarding-off",
    about: "the host forwards packets",
    looksAt: ["switches", "objects"],
    fault: "{path} is 0: no packet passes from or to pods",
    cure: "`sysctl -w {name}=1`, and find who switches it off (files in /etc/sysctl.d, a firewall).",
    find({ switches, objects }) {
      const families = new Set(objects.pools.map((pool) => pool.spec.cidr.includes(":") ? 6 : 4));
      const paths = [
        ...(families.has(4) ? ["net/ipv4/ip_forward"] : []),
        ...(families.has(6) ? ["net/ipv6/conf/all/forwarding"] : []),
      ];
      return paths.filter((path) => switches.get(path) === "0").map((path) => ({
        path,
        name: path.replaceAll("/", "."),
      }));
    },
  }),
  check({
    id: "rp-filter-strict",
    about: "answers may come another way than questions went",
    looksAt: ["switches", "interfaces"],
    fault:
      "the strict check of source addresses is on at {device} (rp_filter 1): what comes through the tunnel and is answered " +
      "past it is dropped",
    cure:
      "`sysctl -w net/ipv4/conf/{device}/rp_filter=0`, and `net.ipv4.conf.all.rp_filter` 0 or 2: the larger of the two counts.",
    find: ({ switches, interfaces }) =>
      [...interfaces.tunnels.keys()].filter((device) => {
        const of = (name: string) => Number(switches.get(`net/ipv4/conf/${name}/rp_filter`) ?? 0);
        return Math.max(of("all"), of(device)) === 1;
      }).map((device) => ({ device })),
  }),
  check({
    id: "bridge-filter-on",
    about: "bridged packets do not pass policy twice",
    looksAt: ["switches", "interfaces"],
    fault:
      "net.bridge.bridge-nf-call-iptables is 1, and {bridge} is a bridge: what it carries between its own ports goes " +
      "through the host's rules",
    cure: "`sysctl -w net.bridge.bridge-nf-call-iptables=0`, unless another program needs it for that bridge.",
    find: ({ switches, interfaces }) =>
      switches.get("net/bridge/bridge-nf-call-iptables") !== "1"
        ? []
        : [...interfaces.links.values()].filter((link) => link.kind === "bridge").map((link) => ({
          bridge: link.name,
        })),
  }),
  check({
    id: "flows-nearly-full",
    about: "there is room for more connections",
    looksAt: ["flows"],
    fault: "{count} of {max} flows are tracked: at the limit the kernel drops new connections",
    cure: "`sysctl -w net.netfilter.nf_conntrack_max={more}`; `conntrack -L | head` shows whose they are.",
    find: ({ flows: { count, max } }) => max > 0 && count > flowShare * max ? [{ count, max, more: max * 2 }] : [],
  }),
  check({
    id: "disk-full",
    about: "there is room for the agent's state",
    looksAt: ["disks"],
    fault: "the file system of {path} is {percent} % full ({free} kB free): deletions of pods cannot be kept",
    cure: "Make room there; `du -x -d2 / | sort -n | tail` shows where it went.",
    find: ({ disks }) =>
      disks.filter((d) => d.usedPercent >= diskPercent).map(({ path, usedPercent, freeBytes }) => ({
        ...{ path, percent: usedPercent, free: Math.round(freeBytes / 1024) },
      })),
  }),
  check({
    id: "program-missing",
    about: "the programs that we run are installed",
    looksAt: ["programs"],
    fault: "the program {program} is not installed",
    cure: "Install it (Debian: packages iptables, ipset, conntrack, bird2).",
    find: ({ programs }) => [...programs].filter(([, isThere]) => !isThere).map(([program]) => ({ program })),
  }),
  check({
    id: "tunnel-missing",
    about: "the tunnels that pools ask for are there",
    looksAt: ["objects", "interfaces"],
    fault: "pool {pool} asks for {mode}, and this host has no device {device} that is up",
    cure:
      "See what the agent says of it (`tortie ctl node status`); a kernel without the module cannot (`modprobe {module}`).",
    find: ({ objects, interfaces }) =>
      wantedTunnels(objects).filter(({ device }) => !interfaces.tunnels.get(String(device))?.up),
  }),
  check({
    id: "tunnel-differs",
    about: "the VXLAN device is what all nodes agreed on",
    looksAt: ["host", "objects", "interfaces"],
    fault: "{device} has {what} {have} where {want} is wanted",
    cure:
      "`ip link delete {device}`: the agent makes it again at once. If it does not, see that no other program (flannel, " +
      "Calico) uses that name.",
    find({ host, objects, interfaces }) {
      const { settings } = objects, node = objects.nodes.find(isNamed(host.nodeName));
      const local = node && addressesOf(node).find((ip) => ip.v === 4);
      const vxlan = interfaces.tunnels.get(tunnelNames.vxlan4)?.vxlan;
      if (!vxlan || !local) return [];
      const device = tunnelNames.vxlan4;
      const compared: [string, string | number, string | number][] = [
        ["the network number", vxlan.vni, settings.vxlanVni],
        ["the UDP port", vxlan.port, settings.vxlanPort],
        ["the source address", formatIp(vxlan.local), formatIp(local)],
      ];
      return compared.filter(([, have, want]) => have !== want).map(([what, have, want]) => ({
        device,
        what,
        have,
        want,
      }));
    },
  }),
  check({
    id: "tunnel-too-large",
    about: "what a tunnel takes fits into the packets below it",
    looksAt: ["interfaces"],
    fault:
      "{device} takes packets of {mtu} bytes, and {parent} below it has room for {room} of them: larger ones are lost",
    cure: "Set vxlanMTU in the FelixConfiguration to 0 (our own choice) or to {room}.",
    find: ({ interfaces }) => tooLarge(interfaces),
  }),
  check({
    id: "wireguard-key-differs",
    about: "WireGuard has the key that other nodes were told",
    looksAt: ["host", "objects", "wireguard"],
    fault: "{device} has the public key {have}, and the Node says {told}: no other node can talk with it",
    cure: "Restart the agent, which writes the key to the Node; see that nobody else writes it.",
    find({ host, objects, wireguard }) {
      const node = objects.nodes.find(isNamed(host.nodeName));
      const { deviceName } = objects.settings.wireguard;
      const told = {
        [deviceName[4]]: node?.status?.wireguardPublicKey,
        [deviceName[6]]: node?.status?.wireguardPublicKeyV6,
      };
      return wireguard.filter(({ name, publicKey }) => told[name] !== undefined && publicKey !== told[name])
        .map(({ name, publicKey }) => ({ device: name, have: publicKey ?? "none", told: told[name]! }));
    },
  }),
  check({
    id: "pool-overlaps-host",
    about: "no network of this host lies in a pool",
    looksAt: ["objects", "interfaces"],
    fault:
      "pool {pool} ({cidr}) overlaps the network {address} of {device}: pods there and machines there cannot be told apart",
    cure:
      'Make a pool elsewhere, disable this one (`tortie ctl patch ippool {pool} -p \'{"spec":{"disabled":true}}\'`) and ' +
      "start its pods again.",
    find: ({ objects, interfaces }) => overlapping(objects, interfaces),
  }),
];

function wantedTunnels({ pools, settings }: ObjectFacts): Detail[] {
  return pools.flatMap(({ metadata, spec }): Detail[] => {
    const pool = metadata.name, isV6 = spec.cidr.includes(":");
    const isWanted = (mode: string | undefined, override: boolean | undefined) =>
      override !== false && !!mode && mode !== "Never";
    return [
      ...(isWanted(spec.vxlanMode, settings.vxlanEnabled)
        ? [{ pool, mode: "VXLAN", device: isV6 ? tunnelNames.vxlan6 : tunnelNames.vxlan4, module: "vxlan" }]
        : []),
      ...(isWanted(spec.ipipMode, settings.ipipEnabled)
        ? [{ pool, mode: "IPIP", device: tunnelNames.ipip, module: "ipip" }]
        : []),
    ];
  });
}

function tooLarge({ links, tunnels }: InterfaceFacts): Detail[] {
  return [...tunnels].flatMap(([device, { vxlan, mtuBytes }]) => {
    const parent = vxlan && links.get(vxlan.parent);
    if (!parent) return [];
    const room = parent.mtuBytes - vxlanBytes - (vxlan.local.v === 6 ? 20 : 0);
    return mtuBytes > room ? [{ device, mtu: mtuBytes, parent: parent.name, room }] : [];
  });
}

function overlapping({ pools, settings }: ObjectFacts, { links, addresses, tunnels }: InterfaceFacts): Detail[] {
  const isOwn = (name: string) =>
    settings.interfacePrefixes.some((prefix) => name.startsWith(prefix)) || tunnels.has(name);
  return pools.flatMap(({ metadata, spec }) => {
    const cidr = tryParseCidr(spec.cidr);
    return addresses.flatMap(({ index, ip, len }) => {
      const device = links.get(index)?.name ?? "";
      const touches = cidr && cidr.v === ip.v && (contains(cidr, ip) || contains(cidrOf(ip, len), cidr));
      if (!touches || isOwn(device) || links.get(index)?.loopback) return [];
      return [{ pool: metadata.name, cidr: spec.cidr, address: `${formatIp(ip)}/${len}`, device }];
    });
  });
}
