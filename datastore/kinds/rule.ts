import { always, given, integer, list, map, object, text } from "../fields.ts";
import { port, protocol } from "../scalars.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";

const actions = ["Allow", "Deny", "Log", "Pass"];

const icmp = (go: string) =>
  object({
    type: given(integer({ min: 0, max: 254, tags: [tags.gte(0), tags.lte(254)] })),
    code: given(integer({ min: 0, max: 255, tags: [tags.gte(0), tags.lte(255)] })),
  }, { go });

const entity = () =>
  object({
    nets: list(text({ tags: [tags.net] }), { maxItems: 256 }),
    selector: text({ tags: [tags.selector], max: 1024 }),
    /** Selects namespaces, and with them the endpoints in them; `global()` selects what has no namespace. */
    namespaceSelector: text({ tags: [tags.selector], max: 1024 }),
    services: given(object({
      name: text({ tags: [tags.name], max: 253 }),
      namespace: text({ tags: [tags.name], max: 253 }),
    })),
    ports: list(port(), { maxItems: 50 }),
    notNets: list(text({ tags: [tags.net] }), { maxItems: 256 }),
    notSelector: text({ tags: [tags.selector], max: 1024 }),
    notPorts: list(port(), { maxItems: 50 }),
    serviceAccounts: given(object({
      names: list(text()),
      selector: text({ tags: [tags.selector] }),
    })),
  });

const ruleFields = {
  action: always(text({ oneOf: actions, required: true })),
  ipVersion: given(integer({ go: "IPVersion", oneOf: [4, 6] })),
  protocol: given(protocol()),
  icmp: given(icmp("ICMP")),
  notProtocol: given(protocol()),
  notICMP: given(icmp("NotICMP")),
  source: entity(),
  destination: entity(),
  http: given(object({
    methods: list(text(), { maxItems: 20 }),
    paths: list(object({ exact: text({ max: 1024 }), prefix: text({ max: 1024 }) }), { maxItems: 20 }),
  })),
  metadata: given(object({ annotations: map(text()) })),
};

/** One rule of a policy or profile. */
export const rule = () => object(ruleFields);

/** One rule: conditions, all of which must hold, and what then happens. */
export type Rule = Of<ReturnType<typeof rule>>;
/** One side of a rule: who it is, by address, label, service or account. */
export type EntityRule = Of<ReturnType<typeof entity>>;
