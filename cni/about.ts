import { writeJson } from "../lib/json64.ts";
import { version } from "../lib/version.ts";
import { versionIn } from "./config.ts";
import { versionAnswer, versions } from "./versions.ts";

/** What the plugin says when it is run without CNI_COMMAND, on stderr as skel does. @returns the exit code. */
export function about(): Promise<number> {
  const all = versions.map((v) => v.version).join(", ");
  const text = `tortie CNI plugin ${version}\nCNI protocol versions supported: ${all}\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(text));
  return Promise.resolve(0);
}

/** The answer to VERSION. Without a configuration on stdin, or an unreadable one, it names our newest version. */
export function versionText(stdin: string): string {
  const asked = stdin.trim() === "" ? undefined : versionIn(stdin);
  return writeJson(versionAnswer(asked)) + "\n";
}
