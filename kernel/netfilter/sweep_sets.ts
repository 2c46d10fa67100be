import { isProblem } from "../../lib/problem.ts";
import { run } from "../../lib/process.ts";

/** Names of the sets that are ours; none without the program ipset. */
export async function heldSets(isOwn: (name: string) => boolean): Promise<string[]> {
  const listed = await run("ipset", ["list", "-name"]).catch((error) => {
    if (isProblem(error, "unavailable")) return undefined;
    throw error;
  });
  return (listed?.stdout ?? "").split("\n").filter((name) => name !== "" && isOwn(name));
}

/** Destroys sets that no rule looks into any more. @throws Error that names those that stay, when all others are gone. */
export async function sweepSets(names: readonly string[]): Promise<void> {
  const staying: string[] = [];
  for (let open = [...names]; open.length > 0;) {
    const { code, stderr } = await run("ipset", ["restore"], {
      stdin: open.map((name) => `destroy ${name}\n`).join(""),
    });
    if (code === 0) break;
    const [, line, why] = /Error in line (\d+): (.*)/.exec(stderr) ?? [];
    if (line === undefined) throw new Error(`ipset: ${stderr.trim()}`);
    staying.push(`${open[Number(line) - 1]}: ${why}`);
    open = open.slice(Number(line));
  }
  if (staying.length > 0) throw new Error(`ipset: ${staying.join("; ")}`);
}
