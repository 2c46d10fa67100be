import { type Ip, tryParseIp } from "../lib/ip.ts";

/** The remote session in which a command runs, as far as it is known. */
export interface Session {
  client: Ip;
  /** 0 = not known. */
  clientPort: number;
  /** Address of this host that the client speaks to. */
  server?: Ip;
  serverPort: number;
  /** Interface of this host that has `server`. */
  interfaceName?: string;
  /** This host's node name. */
  node?: string;
}

/** Where a session is looked for, the surest first; each is read only when those before told nothing. */
export interface SessionSources {
  /** SSH_CONNECTION of this process: `client port server port`. */
  own: string | undefined;
  /** Environments of the parent processes, the nearest first, as `/proc/PID/environ` has them: sudo and su drop the variable. */
  parents(): Iterable<string>;
  /** The connection of the sshd that is among the parents, in SSH_CONNECTION's words. */
  served(): string | undefined;
  /** What `who -m` prints. */
  who(): Promise<string>;
}

/** The port of sshd when only the client's address is known. */
const sshPort = 22;

/** The session; undefined for who sits at the machine, or comes from the machine itself. */
export async function findSession(sources: SessionSources): Promise<Session | undefined> {
  const told = parseConnection(sources.own) ?? fromParents(sources.parents()) ?? parseConnection(sources.served()) ??
    parseWho(await sources.who());
  return told && !isLoopback(told.client) ? told : undefined;
}

function fromParents(environments: Iterable<string>): Session | undefined {
  for (const environment of environments) {
    const line = environment.split("\0").find((v) => v.startsWith("SSH_CONNECTION="));
    const found = parseConnection(line?.slice("SSH_CONNECTION=".length));
    if (found) return found;
  }
  return undefined;
}

/** Source: ssh(1), ENVIRONMENT. A link-local address may carry its interface after a `%`. */
function parseConnection(text: string | undefined): Session | undefined {
  const [client, clientPort, server, serverPort] = (text ?? "").split(" ");
  const [from, to] = [addressOf(client), addressOf(server)];
  if (!from || !to || !isPort(clientPort) || !isPort(serverPort)) return undefined;
  return { client: from, clientPort: Number(clientPort), server: to, serverPort: Number(serverPort) };
}

/** `ann  pts/0  2026-11-21 20:49 (203.0.113.7)`. Names that were looked up backwards, and displays, tell nothing. */
function parseWho(text: string): Session | undefined {
  const client = addressOf(/\(([^()]+)\)\s*$/.exec(text)?.[1]);
  return client && { client, clientPort: 0, serverPort: sshPort };
}

const addressOf = (text: string | undefined): Ip | undefined => tryParseIp((text ?? "").replace(/%.*$/, ""));
const isPort = (text: string | undefined): boolean => /^\d{1,5}$/.test(text ?? "") && Number(text) <= 65535;
const isLoopback = ({ v, n }: Ip): boolean => (v === 4 ? n >> 24n === 127n : n === 1n);
