import assert from "node:assert/strict";
import { Problem } from "../lib/problem.ts";
import { storeOptions } from "./options.ts";

const of = (env: Record<string, string>, config?: Record<string, string>) =>
  storeOptions({ env: (name) => env[name], config });

/** The Problem that `env` and `config` make. */
function refusal(env: Record<string, string>, config?: Record<string, string>): Problem {
  try {
    of(env, config);
  } catch (error) {
    assert(error instanceof Problem, String(error));
    return error;
  }
  assert.fail("nothing was refused");
}

Deno.test("endpoints come from the environment as a comma list, trimmed and each once", () => {
  const options = of({ ETCD_ENDPOINTS: " http://10.0.0.1:2379, http://10.0.0.2:2379/,http://10.0.0.1:2379, " });
  assert.deepEqual(options, { endpoints: ["http://10.0.0.1:2379", "http://10.0.0.2:2379"], deadlineMs: 5000 });
});

Deno.test("CALICO_ names win over plain ones, and config wins over both", () => {
  const env = { ETCD_ENDPOINTS: "http://a:1", CALICO_ETCD_ENDPOINTS: "http://b:2" };
  assert.deepEqual(of(env).endpoints, ["http://b:2"]);
  assert.deepEqual(of(env, { etcd_endpoints: "http://c:3" }).endpoints, ["http://c:3"]);
  assert.deepEqual(of(env, { etcdEndpoints: "http://d:4" }).endpoints, ["http://d:4"]);
  assert.deepEqual(of(env, { etcdEndpoints: "" }).endpoints, ["http://b:2"], "an empty field is unset");
});

Deno.test("calicoctl's and the CNI config's names of the certificate files are understood", () => {
  const base = { etcdEndpoints: "https://[fd00::1]:2379" };
  const ctl = of({}, { ...base, etcdCACertFile: "/ca", etcdCertFile: "/c", etcdKeyFile: "/k" });
  assert.deepEqual([ctl.endpoints, ctl.caFile, ctl.certFile, ctl.keyFile], [
    base.etcdEndpoints.split(","),
    "/ca",
    "/c",
    "/k",
  ]);
  const cni = of({}, {
    etcd_endpoints: "https://e:1",
    etcd_ca_cert_file: "/ca",
    etcd_cert_file: "/c",
    etcd_key_file: "/k",
  });
  assert.deepEqual([cni.caFile, cni.certFile, cni.keyFile], ["/ca", "/c", "/k"]);
  const pem = of({}, { ...base, etcdCACert: "CA", etcdCert: "C", etcdKey: "K" });
  assert.deepEqual([pem.caPem, pem.certPem, pem.keyPem, pem.caFile], ["CA", "C", "K", undefined]);
});

Deno.test("an endpoint without a scheme means https when there are certificate files, and is refused without", () => {
  assert.deepEqual(of({ ETCD_ENDPOINTS: "e:2379", ETCD_CA_CERT_FILE: "/ca" }).endpoints, ["https://e:2379"]);
  assert.match(refusal({ ETCD_ENDPOINTS: "e:2379" }).message, /"e:2379".*no scheme.*ETCD_ENDPOINTS.*Write http:/);
});

Deno.test("endpoints that cannot be dialled are refused with what, where and what to do", () => {
  const bad = [
    "http://a",
    "http://a:0",
    "http://a:70000",
    "http://u@a:1",
    "http://a:1/x",
    "unix://s",
    "http://:1",
    ",",
  ];
  for (const text of bad) {
    const problem = refusal({ ETCD_ENDPOINTS: text });
    assert.equal(problem.code, "bad-input");
    assert.match(problem.where ?? "", /ETCD_ENDPOINTS/, text);
    assert.ok(problem.todo, text);
  }
  assert.match(refusal({ ETCD_ENDPOINTS: "http://a:1,https://b:2" }).what, /mixed/);
  assert.match(refusal({}).message, /no etcd endpoints specified.*ETCD_ENDPOINTS/);
});

Deno.test("user and password come together", () => {
  const env = { ETCD_ENDPOINTS: "http://a:1", ETCD_USERNAME: "u", ETCD_PASSWORD: "p" };
  assert.deepEqual([of(env).username, of(env).password], ["u", "p"]);
  assert.match(refusal({ ...env, ETCD_PASSWORD: "" }).message, /ETCD_USERNAME is set without ETCD_PASSWORD/);
  assert.match(refusal({ ...env, ETCD_USERNAME: "" }).message, /ETCD_PASSWORD is set without ETCD_USERNAME/);
});

Deno.test("a certificate without its key, and files mixed with inline text, are refused", () => {
  const base = { ETCD_ENDPOINTS: "https://a:1" };
  assert.match(refusal({ ...base, ETCD_CERT_FILE: "/c" }).what, /certificate without its key/);
  assert.match(refusal({ ...base, CALICO_ETCD_KEY_FILE: "/k" }).where ?? "", /CALICO_ETCD_KEY_FILE/);
  assert.match(refusal({ ...base, ETCD_CA_CERT_FILE: "/ca" }, { etcdCert: "C", etcdKey: "K" }).what, /mixed/);
});

Deno.test("other datastores and discovery by SRV are refused by name", () => {
  const base = { ETCD_ENDPOINTS: "https://a:1" };
  assert.deepEqual(of({ ...base, DATASTORE_TYPE: "etcdv3" }).endpoints, ["https://a:1"]);
  assert.match(refusal({ ...base, DATASTORE_TYPE: "kubernetes" }).message, /"kubernetes" is not supported/);
  assert.match(refusal(base, { datastoreType: "kubernetes" }).where ?? "", /datastoreType/);
  assert.match(refusal({ ETCD_DISCOVERY_SRV: "example.org" }).message, /SRV.*List the endpoints/);
  assert.match(refusal({ ...base, ETCD_DISCOVERY_SRV: "example.org" }).message, /both set/);
});
