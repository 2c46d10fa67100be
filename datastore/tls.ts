import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { isIP } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Logger } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import type { StoreOptions } from "./options.ts";

/** The private part of grpc-js 1.12's credentials that is asked for options at every connect. */
interface ConnectionOptionsSource {
  _getConnectionOptions?(): Record<string, unknown> | null;
}

/**
 * Channel credentials for https endpoints that do two things grpc-js 1.12.6 does not do on Deno:
 * - endpoints that are IP addresses: grpc-js puts the address into the TLS server name, where Deno refuses one. Without a
 *   server name the certificate is still checked against the address (its IP SAN).
 * - certificate files are read again at every connect, so replaced ones are used without a restart. Files that cannot be
 *   read at that moment (half replaced) leave the last good ones in force.
 * grpc-js is pinned because both hang on one private method.
 * @throws Problem "bad-input" when a file cannot be read or is no certificate now.
 */
export function tlsCredentials(options: StoreOptions, deps: { log: Logger }): ChannelCredentials {
  let good = readContext(options);
  const made = credentials.createFromSecureContext(good);
  const source = made as unknown as ConnectionOptionsSource;
  const original = source._getConnectionOptions?.bind(made);
  if (!original) throw new Error("grpc-js changed: its credentials have no _getConnectionOptions; it must be 1.12.6");
  source._getConnectionOptions = () => {
    try {
      good = readContext(options);
    } catch (error) {
      deps.log.warn("certificate files cannot be used now, the last good ones stay", { why: messageOf(error) });
    }
    return withoutIpAsServerName({ ...original(), secureContext: good });
  };
  return made;
}

/** The same options, whose `servername` takes names and drops addresses. */
function withoutIpAsServerName(options: Record<string, unknown>): Record<string, unknown> {
  let name: string | undefined;
  Object.defineProperty(options, "servername", {
    enumerable: true,
    configurable: true,
    get: () => name,
    set: (value: string) => {
      name = isIP(value.replace(/^\[|\]$/g, "")) ? undefined : value;
    },
  });
  return options;
}

function readContext(o: StoreOptions): SecureContext {
  const ca = o.caPem ?? readPem(o.caFile, "CERTIFICATE");
  const cert = o.certPem ?? readPem(o.certFile, "CERTIFICATE");
  const key = o.keyPem ?? readPem(o.keyFile, "PRIVATE KEY");
  try {
    return createSecureContext({ ca, cert, key });
  } catch (cause) {
    const where = [o.caFile, o.certFile, o.keyFile].filter((f) => f).join(", ") || "inline certificates";
    throw new Problem({
      code: "bad-input",
      what: "certificates for etcd cannot be used",
      where,
      todo: "Check that certificate and key belong together and are PEM",
      cause,
    });
  }
}

function readPem(path: string | undefined, label: string): string | undefined {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (cause) {
    throw new Problem({
      code: "bad-input",
      what: "certificate file for etcd cannot be read",
      where: path,
      todo: "Check ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE",
      cause,
    });
  }
  if (!new RegExp(`-----BEGIN [A-Z0-9 ]*${label}-----`).test(text)) {
    throw new Problem({ code: "bad-input", what: `file holds no PEM ${label.toLowerCase()}`, where: path });
  }
  return text;
}
