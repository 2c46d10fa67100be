import { html } from "hono/html";
import { kindByName } from "../../datastore/kinds/index.ts";
import type { Resource } from "../../datastore/kind.ts";
import { Resources } from "../../datastore/resources.ts";
import type { ApiParts } from "../parts.ts";
import { page, table } from "./layout.ts";

/** Kinds of policies, those that are not enforced last. */
const policyKinds = [
  ...["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"],
  "StagedKubernetesNetworkPolicy",
];

/** All policies in the order in which they are asked: by tier, then by order. */
export async function policiesPage({ store }: ApiParts): Promise<Response> {
  const resources = new Resources(store);
  const [tiers, ...lists] = await Promise.all(["Tier", ...policyKinds].map((kind) => resources.list(kind)));
  const order = new Map(tiers!.items.map((t) => [t.metadata.name, orderOf(t)]));
  const policies = lists.flatMap((l) => l.items).sort((a, b) =>
    (order.get(tierOf(a)) ?? Infinity) - (order.get(tierOf(b)) ?? Infinity) || orderOf(a) - orderOf(b) ||
    (a.metadata.name < b.metadata.name ? -1 : 1)
  );
  const rows = policies.map((policy) => {
    const { kind, metadata, spec } = policy;
    const path = `/apis/projectcalico.org/v3/${metadata.namespace ? `namespaces/${metadata.namespace}/` : ""}` +
      `${kindByName(kind).plural}/${metadata.name}`;
    return [
      ...[tierOf(policy), Number.isFinite(orderOf(policy)) ? String(orderOf(policy)) : "last"],
      html`<a href="${path}">${metadata.namespace ? `${metadata.namespace}/` : ""}${metadata.name}</a>`,
      kind.startsWith("Staged") ? html`<span class="some">staged: not enforced</span>` : kind,
      html`<code>${String(spec.selector ?? "all()") || "all()"}</code>`,
      ...[countOf(spec.ingress), countOf(spec.egress)],
    ];
  });
  const heads = ["tier", "order", "policy", "kind", "applies to", "ingress rules", "egress rules"];
  const unreadable = lists.flatMap((l) => l.undecodable);
  return page(
    "/policies",
    "Policies",
    html`${table(heads, rows, "No policy: every workload reaches every other.")}
${unreadable.map(({ key, why }) => html`<p class="bad">${key} cannot be read: ${why}</p>`)}
<p class="note"><a href="/reach">Who reaches whom</a> shows what they come to.</p>`,
  );
}

const tierOf = ({ spec }: Resource): string => String(spec.tier ?? "") || "default";
const orderOf = ({ spec }: Resource): number => (typeof spec.order === "number" ? spec.order : Infinity);
const countOf = (rules: unknown): string => (Array.isArray(rules) ? String(rules.length) : "-");
