import {
  type Action,
  type Chain,
  clearMark,
  type Failsafe,
  goTo,
  jump,
  markClear,
  markSet,
  type Match,
  type NetfilterSettings,
  type NetRule,
  rule as line,
  setMark,
  type Table,
} from "./model.ts";

/** A rule of a kernel chain that leads into ours. `append`: at its end, else at its top. */
export interface Hook {
  chain: string;
  append: boolean;
  rules: NetRule[];
}

const accepted = "Host endpoint policy accepted packet.";

/** Rules in the kernel's own chains, by table. Source: Calico's felix/dataplane/linux/int_dataplane.go. */
export function hooks(table: Table, settings: NetfilterSettings, appendAll = false): Hook[] {
  const into = (chain: string, append = appendAll): Hook => ({
    chain,
    append,
    rules: [line([], jump(`cali-${chain}`))],
  });
  switch (table) {
    case "raw":
      return [into("PREROUTING"), into("OUTPUT")];
    case "mangle":
      return [into("PREROUTING"), into("POSTROUTING")];
    case "nat":
      // After kube-proxy, so that its masquerade mark is gone by then.
      return [into("PREROUTING"), into("OUTPUT"), into("POSTROUTING", true)];
    case "filter":
      return [into("INPUT"), into("FORWARD"), into("OUTPUT"), {
        chain: "FORWARD",
        append: true,
        rules: forwardEnd(settings),
      }];
    case "security":
      return settings.flushGuard ? [into("INPUT", false), into("FORWARD", false)] : [];
  }
}

/**
 * Last in FORWARD: accepts what policy allowed; the rest is marked as forwarded for mangle POSTROUTING. Where there is a
 * guard, a workload's packet that comes here without a mark has not met policy, and is left to it.
 */
export function forwardEnd({ marks, flushGuard, interfacePrefixes }: NetfilterSettings): NetRule[] {
  const ofWorkloads = flushGuard ? interfacePrefixes.flatMap((p) => [fromWorkload(p), toWorkload(p)]) : [];
  return [
    line([markSet(marks.accept)], { is: "accept" }, "Policy explicitly accepted packet."),
    ...ofWorkloads.map((way) => line([way], { is: "return" })),
    line([], setMark(marks.accept)),
  ];
}

/** The chains of a table that are always the same. Source: Calico's felix/rules/static.go. */
export function staticChains(table: Table, settings: NetfilterSettings): Chain[] {
  return { raw, mangle, nat, filter, security }[table](settings);
}

const toWorkload = (p: string): Match => ({ is: "interface", direction: "out", name: `${p}+` });
const fromWorkload = (p: string): Match => ({ is: "interface", direction: "in", name: `${p}+` });
const udpTo = (port: number): Match[] => [
  { is: "protocol", protocol: 17 },
  { is: "ports", side: "destination", ports: [{ min: port, max: port }] },
];

/** accept|pass|scratch0|scratch1; the drop bit never outlives its rule. */
const ourBits = ({ marks }: NetfilterSettings): number =>
  (marks.accept | marks.pass | marks.scratch0 | marks.scratch1) >>> 0;

function raw(s: NetfilterSettings): Chain[] {
  const { accept, scratch0, wireguard } = s.marks;
  const untracked: NetRule[] = s.vxlan
    ? [
      line([{ is: "protocol", protocol: "udp" }, {
        is: "ports",
        side: "destination",
        ports: [{ min: s.vxlanPort, max: s.vxlanPort }],
      }], { is: "notrack" }),
    ]
    : [];
  const incoming = ["lo", ...s.wireguardDevices].map((name): Match => ({
    is: "interface",
    direction: "in",
    name,
  }));
  return [
    {
      name: "cali-failsafe-in",
      rules: [
        ...failsafes(s, s.failsafeIn, "source", "destination"),
        ...failsafes(s, s.failsafeOut, "source", "source"),
        ...discovery(s),
      ],
    },
    {
      name: "cali-failsafe-out",
      rules: [
        ...failsafes(s, s.failsafeOut, "destination", "destination"),
        ...failsafes(s, s.failsafeIn, "destination", "source"),
        ...discovery(s),
      ],
    },
    {
      name: "cali-PREROUTING",
      rules: [
        line([], clearMark(ourBits(s))),
        ...(wireguard && s.wireguardHostEncryption ? [line([], jump("cali-wireguard-incoming-mark"))] : []),
        ...untracked,
        ...s.interfacePrefixes.map((p) => line([fromWorkload(p)], setMark(scratch0))),
        line([markSet(scratch0)], jump("cali-rpf-skip")),
        line([markSet(scratch0), { is: "spoofed" }], { is: "drop" }),
        line([markClear(scratch0)], jump("cali-from-host-endpoint")),
        line([markSet(accept)], { is: "accept" }),
      ],
    },
    {
      name: "cali-wireguard-incoming-mark",
      rules: [
        ...[...incoming, ...s.interfacePrefixes.map(fromWorkload)].map((m) => line([m], { is: "return" })),
        line([], setMark(wireguard)),
      ],
    },
    {
      name: "cali-OUTPUT",
      rules: [
        line([], clearMark(ourBits(s))),
        line([], jump("cali-to-host-endpoint")),
        ...untracked,
        line([markSet(accept)], { is: "accept" }),
      ],
    },
  ];
}

function mangle(s: NetfilterSettings): Chain[] {
  const { accept } = s.marks;
  const allow: Action = { is: s.mangleAllow };
  const leavesCluster: Match[] = [
    { is: "set", side: "source", set: "dscp-src-net" },
    { is: "set", side: "destination", set: "network-ip-pools", not: true },
    { is: "set", side: "destination", set: "this-host", not: true },
  ];
  return [
    ...failsafeChains(s),
    {
      name: "cali-PREROUTING",
      rules: [
        line([{ is: "connection", states: ["RELATED", "ESTABLISHED"] }], allow),
        line([markSet(accept)], allow),
        line([], jump("cali-from-host-endpoint")),
        line([markSet(accept)], allow, accepted),
      ],
    },
    {
      name: "cali-POSTROUTING",
      rules: [
        line(leavesCluster, jump("cali-egress-dscp"), "set dscp for traffic leaving cluster."),
        line([markSet(accept)], { is: "return" }),
        line([], clearMark(ourBits(s))),
        line([{ is: "connection", states: ["DNAT"] }], jump("cali-to-host-endpoint")),
        line([markSet(accept)], { is: "return" }, accepted),
      ],
    },
  ];
}

function nat(s: NetfilterSettings): Chain[] {
  return [
    { name: "cali-PREROUTING", rules: [line([], jump("cali-fip-dnat"))] },
    {
      name: "cali-POSTROUTING",
      rules: [
        line([], jump("cali-fip-snat")),
        line([], jump("cali-nat-outgoing")),
        ...s.tunnels.flatMap((t) => tunnelNat(t, s)),
      ],
    },
    { name: "cali-OUTPUT", rules: [line([], jump("cali-fip-dnat"))] },
  ];
}

/** A packet of ours that enters a tunnel with an address of another interface gets the tunnel's. */
function tunnelNat(device: string, s: NetfilterSettings): NetRule[] {
  const match: Match[] = [
    { is: "interface", direction: "out", name: device },
    { is: "local", side: "source", not: true, throughOut: true },
    { is: "local", side: "source" },
  ];
  const above = { min: s.vxlanPort + 1, max: 65535 }, below = { min: 1024, max: s.vxlanPort - 1 };
  // A source port that is the VXLAN port would make the outer packets of two nodes look like one flow.
  const ports = above.max - above.min >= below.max - below.min ? above : below;
  const udp: Match = { is: "protocol", protocol: 17 };
  return [
    ...(s.vxlan ? [line([udp, ...match], { is: "masquerade", ports })] : []),
    line(match, { is: "masquerade" }),
  ];
}

function filter(s: NetfilterSettings): Chain[] {
  const { accept } = s.marks;
  const allow: Action = { is: s.filterAllow };
  return [
    {
      name: "cali-FORWARD",
      rules: [
        line([], clearMark((ourBits(s) & ~accept) >>> 0)),
        line([markClear(accept)], jump("cali-from-hep-forward")),
        ...s.interfacePrefixes.flatMap((p) => [
          line([fromWorkload(p)], jump("cali-from-wl-dispatch")),
          line([toWorkload(p)], jump("cali-to-wl-dispatch")),
        ]),
        line([], jump("cali-to-hep-forward")),
        line([], jump("cali-cidr-block")),
      ],
    },
    {
      name: "cali-INPUT",
      rules: [
        ...tunnelsIn(s),
        ...s.interfacePrefixes.map((p) => line([fromWorkload(p)], goTo("cali-wl-to-host"))),
        line([markSet(accept)], allow),
        line([], clearMark(ourBits(s))),
        line([], jump("cali-from-host-endpoint")),
        line([markSet(accept)], allow, accepted),
      ],
    },
    { name: "cali-wl-to-host", rules: workloadToHost(s) },
    failsafeChains(s)[0]!,
    {
      name: "cali-OUTPUT",
      rules: [
        line([markSet(accept)], allow),
        ...s.interfacePrefixes.map((p) => line([toWorkload(p)], { is: "return" })),
        ...tunnelsOut(s),
        line([], clearMark(ourBits(s))),
        line([{ is: "connection", states: ["DNAT"], not: true }], jump("cali-to-host-endpoint")),
        line([markSet(accept)], allow, accepted),
      ],
    },
    failsafeChains(s)[1]!,
  ];
}

/**
 * DIFFERS: behind filter's rules, and only where `TortieFlushGuard` asks for it: a workload's packet that begins a flow and
 * that filter has not marked as accepted does not pass. So somebody who flushes the filter table opens nothing.
 */
function security(s: NetfilterSettings): Chain[] {
  if (!s.flushGuard) return [];
  const unjudged: Match[] = [
    { is: "connection", states: ["RELATED", "ESTABLISHED"], not: true },
    markClear(s.marks.accept),
  ];
  const dropped = (way: Match) => line([way, ...unjudged], { is: "drop" }, "Not judged by policy");
  return [
    {
      name: "cali-FORWARD",
      rules: s.interfacePrefixes.flatMap((p) => [dropped(fromWorkload(p)), dropped(toWorkload(p))]),
    },
    {
      name: "cali-INPUT",
      rules: [
        ...discoveryFromWorkloads(s, { is: "return" }),
        ...s.interfacePrefixes.map((p) => dropped(fromWorkload(p))),
      ],
    },
  ];
}

function tunnelsIn(s: NetfilterSettings): NetRule[] {
  const allow: Action = { is: s.filterAllow };
  const toUs: Match = { is: "local", side: "destination" };
  const rules: NetRule[] = [];
  if (s.ipip && s.family === 4) {
    const ipip: Match = { is: "protocol", protocol: 4 };
    const known: Match = { is: "set", side: "source", set: "all-hosts-net" };
    rules.push(line([ipip, known, toUs], allow, "Allow IPIP packets from Calico hosts"));
    rules.push(
      line([ipip], { is: s.deny }, `${s.deny === "drop" ? "Drop" : "Reject"} IPIP packets from non-Calico hosts`),
    );
  }
  if (s.vxlan) {
    const known: Match = { is: "set", side: "source", set: "all-vxlan-net" };
    // In IPv4 a stranger's packet is dropped whatever the deny action is: an answer would tell that we are here.
    const deny: Action = { is: s.family === 4 ? "drop" : s.deny };
    rules.push(
      line([...udpTo(s.vxlanPort), known, toUs], allow, `Allow IPv${s.family} VXLAN packets from allowed hosts`),
    );
    const said = deny.is === "drop" ? "Drop" : "Reject";
    rules.push(
      line([...udpTo(s.vxlanPort), toUs], deny, `${said} IPv${s.family} VXLAN packets from non-allowed hosts`),
    );
  }
  if (s.wireguardPort) rules.push(line([...udpTo(s.wireguardPort), toUs], allow, "Allow incoming Wireguard packets"));
  return rules;
}

function tunnelsOut(s: NetfilterSettings): NetRule[] {
  const allow: Action = { is: s.filterAllow };
  const fromUs: Match = { is: "local", side: "source" };
  const rules: NetRule[] = [];
  if (s.ipip && s.family === 4) {
    const known: Match = { is: "set", side: "destination", set: "all-hosts-net" };
    rules.push(
      line([{ is: "protocol", protocol: 4 }, known, fromUs], allow, "Allow IPIP packets to other Calico hosts"),
    );
  }
  if (s.vxlan) {
    const known: Match = { is: "set", side: "destination", set: "all-vxlan-net" };
    rules.push(
      line([...udpTo(s.vxlanPort), fromUs, known], allow, `Allow IPv${s.family} VXLAN packets to other allowed hosts`),
    );
  }
  if (s.wireguardPort) rules.push(line([...udpTo(s.wireguardPort), fromUs], allow, "Allow outgoing Wireguard packets"));
  return rules;
}

/** Multicast listeners, router solicitation and neighbour discovery. */
function discoveryFromWorkloads({ family }: NetfilterSettings, action: Action): NetRule[] {
  const types = family === 6 ? [130, 131, 132, 133, 135, 136] : [];
  return types.map((type) => line([{ is: "protocol", protocol: 58 }, { is: "icmp", type }], action));
}

function workloadToHost(s: NetfilterSettings): NetRule[] {
  return [
    ...discoveryFromWorkloads(s, { is: s.filterAllow }),
    line([], jump("cali-from-wl-dispatch")),
    line([], { is: s.endpointToHost }, "Configured DefaultEndpointToHostAction"),
  ];
}

function failsafeChains(s: NetfilterSettings): [Chain, Chain] {
  return [
    { name: "cali-failsafe-in", rules: [...failsafes(s, s.failsafeIn, "source", "destination"), ...discovery(s)] },
    {
      name: "cali-failsafe-out",
      rules: [...failsafes(s, s.failsafeOut, "destination", "destination"), ...discovery(s)],
    },
  ];
}

/** ICMPv6 without which no other packet finds its way: router solicitation and advertisement, neighbours' too (RFC 4861). */
export const discoveryTypes = [133, 134, 135, 136];

/**
 * DIFFERS: IPv6 neighbour discovery passes beside the failsafe ports, also when there are none. Calico drops it at a host
 * endpoint whose policies do not allow it, and then the failsafe ports are out of reach as soon as a neighbour is forgotten.
 */
function discovery(s: NetfilterSettings): NetRule[] {
  if (s.family === 4) return [];
  return discoveryTypes.map((type) => line([{ is: "protocol", protocol: 58 }, { is: "icmp", type }], { is: "accept" }));
}

/** @param peer the end whose network an entry names; @param port the end whose port it is. */
function failsafes(
  s: NetfilterSettings,
  entries: readonly Failsafe[],
  peer: "source" | "destination",
  port: "source" | "destination",
): NetRule[] {
  return entries.filter((e) => !e.net || e.net.includes(":") === (s.family === 6)).map((e) => {
    const match: Match[] = [
      { is: "protocol", protocol: e.protocol },
      { is: "ports", side: port, ports: [{ min: e.port, max: e.port }] },
    ];
    if (e.net) match.push({ is: "net", side: peer, net: e.net });
    return line(match, { is: "accept" });
  });
}
