import { runOk } from "../../lib/process.ts";

/** Files of one certificate and its key, PEM. */
export interface Certificate {
  certFile: string;
  keyFile: string;
}

/** An authority that signs certificates for the lab's servers and clients. */
export interface Authority extends Certificate {
  /**
   * A certificate for `name` (its CN) that serves and asks. `hosts` are the names and addresses it is valid for.
   * Writes `<name>.crt` and `<name>.key` into the authority's folder. @param group its O, which Kubernetes takes for a group.
   */
  issue(name: string, hosts?: string[], group?: string): Promise<Certificate>;
}

/** Makes an authority in `dir` (files `<name>.crt`, `<name>.key`), valid for two days, with ECDSA keys. */
export async function makeAuthority(dir: string, name = "ca"): Promise<Authority> {
  const own = { certFile: `${dir}/${name}.crt`, keyFile: `${dir}/${name}.key` };
  await newKey(own.keyFile);
  await openssl(
    "req",
    "-x509",
    "-new",
    "-key",
    own.keyFile,
    "-out",
    own.certFile,
    "-days",
    "2",
    "-subj",
    `/CN=${name}`,
  );
  return { ...own, issue: (subject, hosts = [], group) => issue(dir, own, subject, hosts, group) };
}

async function issue(
  dir: string,
  ca: Certificate,
  name: string,
  hosts: string[],
  group: string | undefined,
): Promise<Certificate> {
  const files = { certFile: `${dir}/${name}.crt`, keyFile: `${dir}/${name}.key` };
  await newKey(files.keyFile);
  const request = `${dir}/${name}.csr`, extensions = `${dir}/${name}.ext`;
  await openssl(
    "req",
    "-new",
    "-key",
    files.keyFile,
    "-out",
    request,
    "-subj",
    `${group ? `/O=${group}` : ""}/CN=${name}`,
  );
  const names = hosts.map((h) => (/^[0-9.]+$|:/.test(h) ? `IP:${h}` : `DNS:${h}`));
  const lines = ["basicConstraints=CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"];
  if (names.length > 0) lines.push(`subjectAltName=${names.join(",")}`);
  await Deno.writeTextFile(extensions, lines.join("\n") + "\n");
  await openssl(
    ...["x509", "-req", "-in", request, "-CA", ca.certFile, "-CAkey", ca.keyFile, "-CAcreateserial"],
    ...["-out", files.certFile, "-days", "2", "-extfile", extensions],
  );
  return files;
}

const newKey = (file: string) => openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file);

const openssl = (...args: string[]) => runOk("openssl", args);
