import { Problem } from "../lib/problem.ts";

/** Where the API listens. */
export interface ApiSettings {
  /** Unix socket of mode 0600. */
  socket: string;
  /** A port, for those who have the token. */
  port?: { hostname: string; port: number; tokenFile: string; tls?: { certFile: string; keyFile: string } };
}

/** The settings by their environment variables. */
export type SettingOf = (name: string) => string | undefined;

/**
 * Reads TORTIE_API_SOCKET, TORTIE_API_LISTEN (`ADDRESS:PORT`), TORTIE_API_TOKEN_FILE, TORTIE_API_CERT_FILE and
 * TORTIE_API_KEY_FILE. Nothing is served on the network unless it is asked for, and there nothing without TLS: a token
 * that is sent in clear is everybody's.
 * @throws Problem "bad-input".
 */
export function apiSettings(setting: SettingOf, dirs: { state: string; run: string }): ApiSettings {
  const socket = setting("TORTIE_API_SOCKET") ?? `${dirs.run}/api.sock`;
  const listen = setting("TORTIE_API_LISTEN");
  if (listen === undefined) return { socket };
  const [, hostname, port] = /^(.*):(\d{1,5})$/.exec(listen) ?? [];
  if (!hostname || Number(port) > 65_535) {
    throw bad(`TORTIE_API_LISTEN is "${listen}", not ADDRESS:PORT`, "For this host alone: 127.0.0.1:9096");
  }
  const [certFile, keyFile] = [setting("TORTIE_API_CERT_FILE"), setting("TORTIE_API_KEY_FILE")];
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw bad("a certificate needs its key", "Set both TORTIE_API_CERT_FILE and TORTIE_API_KEY_FILE");
  }
  const address = hostname.replace(/^\[(.*)\]$/, "$1");
  const tls = certFile && keyFile ? { certFile, keyFile } : undefined;
  if (!tls && !isLoopback(address)) {
    throw bad(
      `the API would send its token over the network in clear (TORTIE_API_LISTEN is "${listen}")`,
      "Set TORTIE_API_CERT_FILE and TORTIE_API_KEY_FILE, or listen on 127.0.0.1",
    );
  }
  const tokenFile = setting("TORTIE_API_TOKEN_FILE") ?? `${dirs.state}/api-token`;
  return { socket, port: { hostname: address, port: Number(port), tokenFile, tls } };
}

const isLoopback = (address: string): boolean => /^127\.\d+\.\d+\.\d+$|^::1$|^localhost$/.test(address);

const bad = (what: string, todo: string): Problem => new Problem({ code: "bad-input", what, todo });
