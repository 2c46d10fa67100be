import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import { Problem } from "../lib/problem.ts";

/**
 * The token of a file; a file that is not there is made, with a new random token and mode 0600. It is read anew whenever it
 * is needed, so that one that is replaced counts at once.
 * @throws Problem "bad-input" for a file that others may read, or one without a token.
 */
export async function readToken(file: string): Promise<string> {
  const token = (await readIfThere(file))?.trim();
  if (token === undefined) return await makeToken(file);
  const { mode } = await Deno.stat(file);
  if (mode !== null && (mode & 0o077) !== 0) {
    throw new Problem({
      code: "bad-input",
      what: "others may read the API's token",
      where: file,
      todo: `chmod 600 ${file}`,
    });
  }
  if (token.length >= 16) return token;
  const todo = "Remove the file, and a new one is made";
  throw new Problem({ code: "bad-input", what: "the API's token is shorter than 16 characters", where: file, todo });
}

async function makeToken(file: string): Promise<string> {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  const token = bytes.toBase64({ alphabet: "base64url" });
  await writeDurably(file, `${token}\n`, 0o600);
  return token;
}
