import type { NetfilterSettings, Table } from "../../agent/netfilter/model.ts";

/** Set by rules behind ours in raw, and in mangle before routing: the packet was not accepted before. */
export const passed = 1;

/** Fate of a packet at the end, told in its TOS: the marks that are left, and whether it is tracked. */
export function tellTale({ marks }: NetfilterSettings): string[] {
  const bits = [[marks.accept, 4], [marks.pass, 8], [marks.drop, 16], [passed, 32]] as const;
  return [
    ...bits.map(([mark, tos]) => `-A POSTROUTING -m mark --mark ${mark}/${mark} -j TOS --or-tos ${tos}`),
    "-A POSTROUTING -m conntrack --ctstate UNTRACKED -j TOS --or-tos 64",
  ];
}

/** What a stub does, by number: its destination ports are 9000 + 10 * stub + action, source ports 21000 + … */
export const actionCount = 4;
/** Source and destination port at which a stub does its action number `action`. */
export const stubPorts = (stub: number, action: number): [number, number] => [
  21000 + 10 * stub + action,
  9000 + 10 * stub + action,
];

/** Lines of a chain that the case goes to and does not have. @param has names of the chains that the case has. */
export function stubLines(name: string, stub: number, table: Table, s: NetfilterSettings, has: Set<string>): string[] {
  const mark = (bit: number) => `MARK --set-mark ${bit}/${bit}`;
  const isSource = /fip-snat|nat-outgoing/.test(name);
  const actions = {
    filter: [mark(s.marks.accept), mark(s.marks.pass), "DROP", "ACCEPT"],
    raw: [mark(s.marks.accept), "NOTRACK", "DROP", "ACCEPT"],
    mangle: [mark(s.marks.accept), "DSCP --set-dscp 32", "DROP", "ACCEPT"],
    nat: ["ACCEPT", isSource ? "MASQUERADE" : "RETURN", mark(s.marks.accept), "ACCEPT"],
    security: ["RETURN", "RETURN", "DROP", "ACCEPT"],
  }[table];
  const lines = actions.flatMap((action, i) => {
    const [source, destination] = stubPorts(stub, i);
    return [`-p tcp --sport ${source}`, `-p tcp --dport ${destination}`, `-p udp --sport ${source}`]
      .map((match) => `-A ${name} ${match} -j ${action}`);
  });
  // Tunnelled packets are welcome, so that it shows who drops them.
  if (table === "filter") {
    for (const match of ["-p 4", ...[4789, 8472].map((p) => `-p udp --dport ${p}`)]) {
      lines.push(`-A ${name} ${match} -j ${mark(s.marks.accept)}`);
    }
  }
  // Host endpoints' chains begin with failsafes and end in deny; without that failsafes would not show.
  const failsafe = /from-host-endpoint$/.test(name) ? "cali-failsafe-in" : "cali-failsafe-out";
  if (!/host-endpoint$/.test(name) || !has.has(failsafe)) return lines;
  const marked = `-A ${name} -m mark --mark ${s.marks.accept}/${s.marks.accept} -j RETURN`;
  return [
    `-A ${name} -j ${failsafe}`,
    ...lines,
    marked,
    `-A ${name} -p tcp --dport 7000 -j RETURN`,
    `-A ${name} -j DROP`,
  ];
}
