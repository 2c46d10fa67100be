import { run } from "../../lib/process.ts";
import type { Tools } from "./iptables.ts";

/** A chain that nothing leads to, there for a moment. Its name is none of ours: nobody repairs it. */
const chain = "tortie-probe";

/**
 * Why this kernel or these programs refuse rules with NFLOG and limit; undefined = they take them. To be asked before such a
 * rule is put into a chain that matters: a chain that is refused is closed.
 */
export async function refusesNflog({ restore }: Tools): Promise<string | undefined> {
  const write = (...lines: string[]) =>
    run(restore, ["--noflush", "--wait", "10"], { stdin: ["*filter", ...lines, "COMMIT", ""].join("\n") });
  const rule =
    `-A ${chain} -m limit --limit 25/second --limit-burst 50 -j NFLOG --nflog-group 1 --nflog-prefix x --nflog-size 80`;
  const { code, stderr } = await write(`:${chain} - [0:0]`, rule);
  await write(`:${chain} - [0:0]`, `-F ${chain}`, `-X ${chain}`);
  return code === 0 ? undefined : stderr.trim() || `${restore} failed`;
}
