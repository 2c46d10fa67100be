import { doesNotMatch, equal, match, ok } from "node:assert/strict";
import { readAccountToken, renewalMs } from "./account_token.ts";
import { isOurKubeconfig, kubeconfigText } from "./kubeconfig.ts";

const jwt = (claims: unknown): string =>
  ["{}", JSON.stringify(claims), "sig"].map((part) =>
    btoa(part).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")
  ).join(".");

Deno.test("a bound token of a service account tells its account and its life", () => {
  const token = readAccountToken(jwt({ sub: "system:serviceaccount:kube-system:tortie-node", iat: 1000, exp: 4600 }))!;
  equal(token.namespace, "kube-system");
  equal(token.account, "tortie-node");
  equal(renewalMs(token), (1000 + 1200) * 1000);
});

Deno.test("everything else is no token that could be renewed", () => {
  const sub = "system:serviceaccount:a:b";
  const others = [
    "",
    "abc",
    "a.b.c",
    "a.%%%.c",
    jwt([]),
    jwt({ sub, iat: 1 }),
    jwt({ sub: "admin", iat: 1, exp: 2 }),
    jwt({ sub: "system:serviceaccount:a", iat: 1, exp: 2 }),
  ];
  for (const text of others) equal(readAccountToken(text), undefined, text);
});

Deno.test("a kubeconfig of ours says server, authority and token, and is known as ours", () => {
  const text = kubeconfigText({ server: "https://[fd00::1]:6443", ca: "PEM", token: "a.b.c" });
  match(text, /server: "https:\/\/\[fd00::1\]:6443"\n/);
  match(text, /certificate-authority-data: UEVN\n/);
  match(text, /token: "a\.b\.c"\n/);
  doesNotMatch(kubeconfigText({ server: "https://a", token: "t" }), /authority/);
  ok(isOurKubeconfig(text));
  ok(!isOurKubeconfig("apiVersion: v1\n"));
});
