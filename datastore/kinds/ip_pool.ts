import { formatCidr, formatIp, overlaps, parseCidr, sameIp, tryParseCidr, tryParseNet } from "../../lib/ip.ts";
import { always, flag, given, integer, list, object, type Refuse, text } from "../schema/fields.ts";
import { blockFamilyPrefix, parseIpamKey } from "../ipam_keys.ts";
import { defineKind, type Needs, type Resource, resourcePrefix } from "../kind.ts";
import { identify, invalid } from "../problems.ts";
import type { Of } from "../schema/schema.ts";
import { prefixRange } from "../store.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, pointer, specColumn } from "../columns.ts";
import { condition } from "./_condition.ts";
import { storedSpec } from "./_references.ts";

const modes = ["Never", "Always", "CrossSubnet"];

const fields = object({
  spec: always(object({
    /** The network, without host bits. */
    cidr: always(text({ go: "CIDR", tags: [tags.net], max: 48, format: "cidr" })),
    vxlanMode: text({ go: "VXLANMode", oneOf: modes }),
    ipipMode: text({ go: "IPIPMode", oneOf: modes }),
    /** Masquerade what leaves the pools. */
    natOutgoing: flag({ go: "NATOutgoing" }),
    /** No new addresses; what was given stays valid. */
    disabled: flag(),
    disableBGPExport: flag(),
    /** Prefix length of a block. */
    blockSize: integer({ min: 0, max: 128 }),
    nodeSelector: text({ tags: [tags.selector], max: 1024, default: "all()" }),
    namespaceSelector: text({ tags: [tags.selector], max: 1024 }),
    allowedUses: list(text({ oneOf: ["Workload", "Tunnel", "LoadBalancer"] }), { maxItems: 10 }),
    assignmentMode: given(text({ oneOf: ["Automatic", "Manual"], default: "Automatic" })),
  })),
  status: given(object({ conditions: list(condition()) })),
});

/** What a pool says. After reading, `blockSize` 0 or absent means 26 (IPv4) or 122 (IPv6). */
export type IPPoolSpec = Of<typeof fields>["spec"];
/** Addresses from which workloads and tunnels get theirs. */
export type IPPool = Resource<IPPoolSpec, Of<typeof fields>["status"]>;

/** The kind. */
export const ipPool = defineKind<IPPool>({
  kind: "IPPool",
  plural: "ippools",
  shortNames: ["ipp", "ipps", "pool", "pools"],
  namespaced: false,
  fields,
  defaults,
  onRead: fillIn,
  needs: (pool, old) => (old ? undefined : roomFor(pool)),
  check({ spec }, refuse) {
    const net = tags.parseNetOrIp(spec.cidr);
    if (spec.cidr === "") refuse("IPpool.CIDR", "IPPool CIDR must be specified", spec.cidr);
    else if (!net) refuse("IPpool.CIDR", "IPPool CIDR must be a valid subnet", spec.cidr);
    else if (!net.masked) refuse("IPpool.CIDR", "IP pool CIDR is not strictly masked", spec.cidr);
    const known = ["LoadBalancer", "Workload", "Tunnel"];
    for (const use of (spec.allowedUses ?? []).filter((u) => !known.includes(u))) {
      refuse("IPpool.AllowedUses", `unknown use: ${use}`, spec.allowedUses);
    }
  },
  checkSchema: ({ spec }, refuse) => checkSchema(spec, refuse),
  checkUpdate,
  columns: [
    nameColumn,
    specColumn("CIDR", (spec) => spec.cidr),
    specColumn("NAT", (spec) => String(spec.natOutgoing ?? false), "wide"),
    specColumn("IPIPMODE", (spec) => spec.ipipMode || "Never", "wide"),
    specColumn("VXLANMODE", (spec) => spec.vxlanMode || "Never", "wide"),
    specColumn("DISABLED", (spec) => String(spec.disabled ?? false), "wide"),
    specColumn("DISABLEBGPEXPORT", (spec) => String(spec.disableBGPExport ?? false), "wide"),
    specColumn("SELECTOR", (spec) => spec.nodeSelector ?? ""),
    specColumn("ASSIGNMENTMODE", (spec) => pointer(spec.assignmentMode), "wide"),
  ],
  example: {
    metadata: { name: "main" },
    spec: { cidr: "10.65.0.0/16", ipipMode: "CrossSubnet", natOutgoing: true },
  },
});

/** Prefix length of a pool's blocks when it does not say. */
export const defaultBlockSize = (family: 4 | 6): number => (family === 4 ? 26 : 122);

/** What a pool means by saying nothing. */
function fillIn({ spec }: IPPool): void {
  const family = tryParseCidr(spec.cidr)?.v;
  if (family) spec.blockSize ||= defaultBlockSize(family);
  if (!spec.allowedUses?.length) spec.allowedUses = ["Workload", "Tunnel"];
  spec.nodeSelector ||= "all()";
  spec.assignmentMode ??= "Automatic";
  spec.ipipMode ||= "Never";
  spec.vxlanMode ||= "Never";
}

/** fillIn(), and the CIDR in its canonical form. @throws Problem when the CIDR is none, or has host bits. */
function defaults(pool: IPPool): void {
  const field = "IPPool.Spec.CIDR";
  const { cidr } = pool.spec;
  if (cidr === "") throw invalid([{ field, reason: "IPPool CIDR must be specified" }]);
  const net = tryParseNet(cidr);
  if (!net) throw invalid([{ field, value: cidr, reason: "IPPool CIDR must be a valid subnet" }]);
  pool.spec.cidr = formatCidr(net.cidr);
  fillIn(pool);
  if (formatIp(net.ip) === formatIp(net.cidr)) return;
  throw invalid([{ field, value: pool.spec.cidr, reason: "IPPool CIDR is not strictly masked" }]);
}

/** A new pool must not overlap another one, nor hold blocks of another size. */
function roomFor(pool: IPPool): Needs {
  const cidr = parseCidr(pool.spec.cidr);
  const pools = prefixRange(`${resourcePrefix}ippools/`);
  const blocks = prefixRange(blockFamilyPrefix(cidr.v));
  return {
    read: [pools, blocks],
    verdict(values) {
      const problems = [];
      for (const { key, value } of values.values()) {
        if (!key.startsWith(pools.start)) continue;
        const text = String(storedSpec(value)?.cidr ?? "");
        const other = tryParseCidr(text);
        const name = key.slice(pools.start.length);
        if (name === pool.metadata.name || !other || !overlaps(other, cidr)) continue;
        const [us, them] = [identify("IPPool", pool.metadata.name), identify("IPPool", name)];
        const reason = `${us} CIDR overlaps with ${them} CIDR ${text}`;
        problems.push({ field: "IPPool.Spec.CIDR", value: pool.spec.cidr, reason });
      }
      if (problems.length > 0) return invalid(problems);
      const odd = [...values.keys()].map(parseIpamKey).some((key) =>
        key?.is === "block" && key.cidr.len !== pool.spec.blockSize && overlaps(key.cidr, cidr)
      );
      if (!odd) return undefined;
      const reason = "IPPool blocksSize conflicts with existing allocations that use a different blockSize";
      return invalid([{ field: "IPPool.Spec.BlockSize", value: pool.spec.blockSize, reason }]);
    },
  };
}

function checkUpdate(pool: IPPool, old: IPPool, refuse: Refuse): void {
  const { spec } = pool;
  const [was, is] = [tryParseCidr(old.spec.cidr), tryParseCidr(spec.cidr)];
  const same = old.spec.cidr === spec.cidr || was && is && sameIp(was, is) && spec.cidr === formatCidr(is);
  if (!same) refuse("IPPool.Spec.CIDR", "IPPool CIDR cannot be modified", spec.cidr);
  const oldSize = old.spec.blockSize || defaultBlockSize(was?.v ?? 4);
  if (oldSize !== spec.blockSize) {
    refuse("IPPool.Spec.BlockSize", "IPPool BlockSize cannot be modified", spec.blockSize);
  }
  const wasBalancer = old.spec.allowedUses?.includes("LoadBalancer");
  if (wasBalancer && spec.allowedUses?.some((use) => use !== "LoadBalancer")) {
    const reason = "IPPool allowed use cannot be changed from LoadBalacer to Workload or Tunnel";
    refuse("IPPool.Spec.AllowedUses", reason, spec.allowedUses);
  }
}

function checkSchema(spec: IPPoolSpec, refuse: (reason: string) => void): void {
  const on = (mode: string | undefined) => !!mode && mode !== "Never";
  const uses = spec.allowedUses ?? [];
  if (on(spec.ipipMode) && on(spec.vxlanMode)) refuse("ipipMode and vxlanMode cannot both be enabled");
  if (uses.includes("LoadBalancer")) checkLoadBalancer(spec, uses, refuse);
  if (uses.includes("Tunnel") && spec.namespaceSelector) {
    refuse("IP Pool with AllowedUse Tunnel cannot have namespaceSelector");
  }
  for (const member of ["nodeSelector", "namespaceSelector"] as const) {
    if (spec[member]?.includes("global(")) refuse(`global() selector is not valid for IPPool ${member}`);
  }
  const net = tryParseNet(spec.cidr);
  if (!net) return;
  const { cidr } = net;
  if (formatIp(net.ip) !== formatIp(cidr)) refuse("IPPool CIDR must be strictly masked");
  if (cidr.v === 6 && on(spec.ipipMode)) refuse("IPIP is not supported on IPv6 pools");
  for (const [family, range] of [[4, "169.254.0.0/16"], [6, "fe80::/10"]] as const) {
    if (overlaps(cidr, parseCidr(range))) refuse(`IPPool CIDR overlaps with IPv${family} link local range ${range}`);
  }
  const size = spec.blockSize || defaultBlockSize(cidr.v);
  const [least, most] = cidr.v === 4 ? [20, 32] : [116, 128];
  if (size < least! || size > most!) {
    refuse("blockSize must be between 20 and 32 for IPv4 pools, and between 116 and 128 for IPv6 pools");
  }
  if (!spec.disabled && cidr.len > size) {
    refuse("IP pool size is too small for use with Calico IPAM. It must be equal to or greater than the block size.");
  }
}

function checkLoadBalancer(spec: IPPoolSpec, uses: string[], refuse: (reason: string) => void): void {
  const on = (mode: string | undefined) => !!mode && mode !== "Never";
  if (on(spec.ipipMode) || on(spec.vxlanMode)) refuse("LoadBalancer IP pool cannot have IPIP or VXLAN enabled");
  if (uses.includes("Workload") || uses.includes("Tunnel")) {
    refuse("LoadBalancer cannot be combined with Workload or Tunnel allowed uses");
  }
  if (spec.disableBGPExport) refuse("LoadBalancer IP pools cannot disable BGP export");
  if (spec.nodeSelector !== "all()") {
    refuse("IP Pool with AllowedUse LoadBalancer must have nodeSelector set to all()");
  }
}
