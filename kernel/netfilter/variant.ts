import type { Family } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import { run } from "../../lib/process.ts";
import type { Variant } from "./chain.ts";
import type { Tools } from "./iptables.ts";

/** What the choice between the variants is made from: what their save programs print, by family. */
export interface SavedByVariant {
  /** `-t mangle`; undefined = not asked, because the kernel has no legacy tables yet. */
  mangle: Record<Variant, (string | undefined)[]>;
  /** All tables. */
  all: Record<Variant, (string | undefined)[]>;
}

/**
 * Which variant this host uses: where kubelet has left its hint, nft first; else where more rules are, legacy when equal.
 * Source: Calico's felix/environment/feature_detect_linux.go, DetectBackend.
 */
export function chooseVariant({ mangle, all }: SavedByVariant): Variant {
  const hinted = (of: (string | undefined)[]) =>
    of.some((text) => text?.includes("KUBE-IPTABLES-HINT") || text?.includes("KUBE-KUBELET-CANARY"));
  if (hinted(mangle.nft)) return "nft";
  if (hinted(mangle.legacy)) return "legacy";
  return countRules(all.legacy) >= countRules(all.nft) ? "legacy" : "nft";
}

const countRules = (of: (string | undefined)[]): number =>
  of.reduce((n, text) => n + (text?.split("\n").filter((line) => line.startsWith("-")).length ?? 0), 0);

/** Asks the host, in the calling thread's network namespace. Without programs of a variant that one counts as empty. */
export async function detectVariant(): Promise<Variant> {
  const saved = async (variant: Variant, ...args: string[]): Promise<(string | undefined)[]> =>
    await Promise.all(([4, 6] as const).map(async (family) => {
      // Asking would load the legacy modules into a kernel that does without them.
      if (variant === "legacy" && !hasLegacyTables(family)) return undefined;
      const program = findProgram(`${prefixOf(family)}-${variant}-save`);
      if (!program) return undefined;
      return (await run(program, args, { maxOutputBytes: 256 << 20 })).stdout;
    }));
  const [mangleNft, mangleLegacy, allNft, allLegacy] = await Promise.all([
    saved("nft", "-t", "mangle"),
    saved("legacy", "-t", "mangle"),
    saved("nft"),
    saved("legacy"),
  ]);
  return chooseVariant({
    mangle: { nft: mangleNft, legacy: mangleLegacy },
    all: { nft: allNft, legacy: allLegacy },
  });
}

/** True when the kernel has the legacy tables; looking at this file does not load them. */
export function hasLegacyTables(family: Family): boolean {
  return isFile(`/proc/net/${family === 4 ? "ip" : "ip6"}_tables_names`);
}

/** The legacy tables that the kernel has by now. */
export function legacyTables(family: Family): string[] {
  const names = `/proc/net/${family === 4 ? "ip" : "ip6"}_tables_names`;
  return isFile(names) ? Deno.readTextFileSync(names).split("\n") : [];
}

/**
 * Makes the kernel have the legacy tables: where they are modules, it has none until a program asks for one, and cannot
 * even be asked. Spawns nothing for tables that are there.
 */
export async function loadLegacyTables(tools: Tools, family: Family, tables: readonly string[]): Promise<void> {
  const there = legacyTables(family);
  // One that cannot be loaded is told by whoever reads it.
  await Promise.all(tables.filter((t) => !there.includes(t)).map((table) => run(tools.save, ["-t", table])));
}

const prefixOf = (family: Family): string => (family === 4 ? "iptables" : "ip6tables");

/**
 * The programs of a variant: `iptables-legacy-save` …, or where these are not installed apart, `iptables-save` … when
 * they are of this variant.
 * @throws Problem "unsupported" that says what to install.
 */
export async function findTools(variant: Variant, family: Family): Promise<Tools> {
  const prefix = prefixOf(family);
  const named = (infix: string) => {
    const [save, restore] = ["save", "restore"].map((what) => findProgram(`${prefix}${infix}-${what}`));
    return save && restore ? { variant, save, restore } : undefined;
  };
  const own = named(`-${variant}`);
  if (own) return own;
  const plain = named("");
  if (plain && (await versionOf(plain)).variant === variant) return plain;
  throw new Problem({
    code: "unsupported",
    what: `${prefix}-${variant}-save and ${prefix}-${variant}-restore are not installed`,
    where: "PATH",
    todo: "Install the package iptables, or choose the other variant by IptablesBackend",
  });
}

/** What the programs can do. */
export interface ToolFeatures {
  /** `1.8.9`; undefined when they do not say. */
  version: string | undefined;
  /** MASQUERADE knows --random-fully (iptables 1.6.2). */
  randomFully: boolean;
  /** SNAT knows --random-fully (iptables 1.6.0). */
  snatRandomFully: boolean;
}

/** Asks the programs for their version. Kernels since 3.14 know --random-fully, which is before any that Deno runs on. */
export async function toolFeatures(tools: Tools): Promise<ToolFeatures> {
  const { version } = await versionOf(tools);
  return { version, randomFully: isAtLeast(version, [1, 6, 2]), snatRandomFully: isAtLeast(version, [1, 6, 0]) };
}

async function versionOf({ restore }: Tools): Promise<{ version: string | undefined; variant: Variant }> {
  const { stdout, stderr } = await run(restore, ["--version"]);
  return parseVersion(stdout + stderr);
}

/** `iptables-restore v1.8.9 (nf_tables)`. Before 1.8 there was only legacy, and no word about it. */
export function parseVersion(text: string): { version: string | undefined; variant: Variant } {
  return { version: /v(\d+\.\d+(\.\d+)?)/.exec(text)?.[1], variant: text.includes("nf_tables") ? "nft" : "legacy" };
}

function isAtLeast(version: string | undefined, least: number[]): boolean {
  const parts = (version ?? "0").split(".").map(Number);
  const first = least.findIndex((n, i) => (parts[i] ?? 0) !== n);
  return first < 0 || (parts[first] ?? 0) > least[first]!;
}

/** Full path of a program; looked for also where services often have no PATH to. */
export function findProgram(name: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin", "/usr/local/sbin"];
  return folders.filter((f) => f !== "").map((folder) => `${folder}/${name}`).find(isFile);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return false;
    throw error;
  }
}
