import { always, given, integer, list, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { asNumber, int32 } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, specColumn } from "../columns.ts";

// The schema spells the numbers out digit by digit, because its patterns cannot compare.
const below65536 = "([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
const below2to32 =
  "([0-9]|[1-9][0-9]{1,8}|[1-3][0-9]{9}|4[0-1][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|" +
  "42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[0-1][0-9]{2}|42949672[0-8][0-9]|429496729[0-5])";
const communityText = `^(${below65536}:${below65536}|${below2to32}:${below2to32}:${below2to32})$`;
const communityPattern = { text: communityText, test: new RegExp(communityText) };
const maxPriority = 2147483646;

const ruleOf = (family: 4 | 6) => {
  const [net, cidrLength, bits] = family === 4 ? [tags.netv4, 18, 32] : [tags.netv6, 43, 128];
  const length = () =>
    given(
      integer({ readable: int32, min: 0, max: bits, tags: [tags.range(`bgpFilterPrefixLengthV${family}`, 0, bits)] }),
    );
  return object({
    cidr: text({ tags: [net], max: cidrLength, format: "cidr" }),
    prefixLength: given(object({ min: length(), max: length() })),
    source: text({ tags: [tags.oneof("RemotePeers")], oneOf: ["RemotePeers"] }),
    interface: text({ tags: [tags.bgpFilterInterface], max: 15 }),
    matchOperator: text({ oneOf: ["Equal", "NotEqual", "In", "NotIn"] }),
    peerType: text({ tags: [tags.oneof("eBGP", "iBGP")], oneOf: ["eBGP", "iBGP"] }),
    communities: given(object({
      values: always(list(text({ pattern: communityPattern, max: 32 }), {
        tags: [tags.required],
        minItems: 1,
        maxItems: 1,
      })),
    })),
    asPathPrefix: list(asNumber(), { go: "ASPathPrefix" }),
    priority: given(integer({ min: 1, max: maxPriority, tags: [tags.gte(1), tags.lte(maxPriority)] })),
    action: always(text({ tags: [tags.required], oneOf: ["Accept", "Reject"], required: true })),
    operations: list(
      object({
        addCommunity: given(object({
          value: given(text({ tags: [tags.required], pattern: communityPattern, max: 32, required: true })),
        })),
        prependASPath: given(object({
          prefix: always(list(asNumber(), { tags: [tags.required], minItems: 1, maxItems: 10, required: true })),
        })),
        setPriority: given(object({
          value: given(
            integer({
              tags: [tags.required, tags.gte(1), tags.lte(maxPriority)],
              min: 1,
              max: maxPriority,
              required: true,
            }),
          ),
        })),
      }, { minMembers: 1, maxMembers: 1 }),
      { minItems: 1, maxItems: 10 },
    ),
  }, {
    cel({ cidr, matchOperator, prefixLength, operations, action }, refuse) {
      if (!cidr !== !matchOperator) refuse("cidr and matchOperator must both be set or both be empty");
      if (prefixLength && !cidr) refuse("cidr is required when prefixLength is set");
      if (operations?.length && action !== "Accept") refuse("operations may only be used with action Accept");
    },
  });
};

const fields = object({
  spec: always(object({
    exportV4: list(ruleOf(4)),
    importV4: list(ruleOf(4)),
    exportV6: list(ruleOf(6)),
    importV6: list(ruleOf(6)),
  })),
});

/** Rules per direction and family, first match wins. */
export type BGPFilterSpec = Of<typeof fields>["spec"];
/** One rule of a filter. */
export type BGPFilterRule = Of<ReturnType<typeof ruleOf>>;
/** What a BGP session may tell and learn. */
export type BGPFilter = Resource<BGPFilterSpec>;

const count = (head: string, member: keyof BGPFilterSpec) =>
  specColumn<BGPFilter>(head, (spec) => String(spec[member]?.length ?? 0));

/** The kind. */
export const bgpFilter = defineKind<BGPFilter>({
  kind: "BGPFilter",
  plural: "bgpfilters",
  shortNames: ["bgpf", "bgpfs", "bf", "bfs"],
  namespaced: false,
  fields,
  columns: [
    nameColumn,
    count("NUMEXPORTV4", "exportV4"),
    count("NUMIMPORTV4", "importV4"),
    count("NUMEXPORTV6", "exportV6"),
    count("NUMIMPORTV6", "importV6"),
  ],
  example: {
    metadata: { name: "no-private" },
    spec: { exportV4: [{ action: "Reject", matchOperator: "In", cidr: "10.0.0.0/8" }] },
  },
});
