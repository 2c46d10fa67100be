import type { ApiObjects } from "./api_objects.ts";

/** A request, in the words of rights. */
export interface Asked {
  verb: string;
  /** "" for core/v1. */
  group: string;
  /** "pods", or "serviceaccounts/token". */
  resource: string;
  namespace: string | undefined;
  name: string | undefined;
}

/** A rule of a Role or ClusterRole. */
export interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}

/**
 * Tokens of service accounts, as JWTs without a signature, and what their accounts may do by the Roles and bindings among the
 * objects, as Kubernetes' RBAC decides.
 */
export class ApiAccess {
  readonly #accounts = new Map<string, { account: string; expiresMs: number }>();

  constructor(private readonly objects: ApiObjects) {}

  /** A new token of an account. */
  issue(namespace: string, account: string, seconds: number): string {
    const iat = Math.floor(Date.now() / 1000), exp = iat + seconds;
    const claims = { sub: `system:serviceaccount:${namespace}:${account}`, iat, exp, jti: crypto.randomUUID() };
    const part = (value: unknown) => btoa(JSON.stringify(value)).replaceAll("+", "-").replaceAll("/", "_");
    const token = `${part({ alg: "none" })}.${part(claims)}.lab`;
    this.#accounts.set(token, { account: `${namespace}/${account}`, expiresMs: exp * 1000 });
    return token;
  }

  /** "namespace/name" of the account whose token it is; undefined for others, and for one that is over. */
  accountOf(token: string): string | undefined {
    const known = this.#accounts.get(token);
    return known && known.expiresMs > Date.now() ? known.account : undefined;
  }

  /** Whether an account may. */
  allows(account: string, asked: Asked): boolean {
    return this.rulesOf(account).some(({ rule, within }) =>
      (within ?? asked.namespace) === asked.namespace && covers(rule, asked)
    );
  }

  /** The rules of an account, each with the namespace that it is for; undefined = all. */
  rulesOf(account: string): { rule: Rule; within: string | undefined }[] {
    const found: { rule: Rule; within: string | undefined }[] = [];
    for (const bindings of ["clusterrolebindings", "rolebindings"]) {
      for (const binding of this.objects.list(bindings, {})) {
        const subjects = (binding.subjects ?? []) as { kind: string; name: string; namespace?: string }[];
        if (!subjects.some((s) => s.kind === "ServiceAccount" && `${s.namespace}/${s.name}` === account)) continue;
        const within = bindings === "rolebindings" ? binding.metadata.namespace : undefined;
        const { kind, name } = binding.roleRef as { kind: string; name: string };
        const role = kind === "Role"
          ? this.objects.get("roles", within, name)
          : this.objects.get("clusterroles", undefined, name);
        for (const rule of (role?.rules ?? []) as Rule[]) found.push({ rule, within });
      }
    }
    return found;
  }
}

/** True when the rule is about what is asked. */
export const covers = (rule: Rule, asked: Asked): boolean =>
  rule.apiGroups.includes(asked.group) && rule.resources.includes(asked.resource) && rule.verbs.includes(asked.verb) &&
  (rule.resourceNames === undefined || (asked.name !== undefined && rule.resourceNames.includes(asked.name)));

/** A request's line ("GET /api/v1/pods?watch=true") in the words of rights; undefined for what is no resource. */
export function askedBy(line: string): Asked | undefined {
  const [method, target] = line.split(" ") as [string, string];
  const url = new URL(target, "https://api");
  const [, core, group, rest] = /^\/(?:(api)\/v1|apis\/([^/]+)\/[^/]+)\/(.+)$/.exec(url.pathname) ?? [];
  if (rest === undefined) return undefined;
  const parts = rest.split("/").map(decodeURIComponent);
  const namespace = parts[0] === "namespaces" && parts.length > 2 ? parts.splice(0, 2)[1] : undefined;
  const [collection, name, subresource] = parts as [string, string | undefined, string | undefined];
  const resource = subresource === undefined ? collection : `${collection}/${subresource}`;
  const isWatch = ["true", "1"].includes(url.searchParams.get("watch") ?? "");
  const reads = isWatch ? "watch" : name === undefined ? "list" : "get";
  const verbs: Record<string, string> = { GET: reads, POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" };
  // A namespace is its own object: /namespaces/NAME.
  return { verb: verbs[method] ?? method, group: core ? "" : group!, resource, namespace, name };
}
