import type { Json } from "../lib/json64.ts";
import { version } from "../lib/version.ts";
import { metadataFields } from "../datastore/codec.ts";
import { apiVersion, type Kind } from "../datastore/kind.ts";
import { basePath, served } from "./resources.ts";

type Words = { [word: string]: Json };

const ref = (name: string): Words => ({ $ref: `#/components/schemas/${name}` });
const content = (schema: Json): Words => ({ "application/json": { schema } });
const answer = (description: string, schema: Json): Words => ({ description, content: content(schema) });
const parameter = (where: string, name: string, description: string, schema: Words = { type: "string" }): Words => ({
  ...{ in: where, name, description, schema, required: where === "path" },
});

/** The API as an OpenAPI 3.1 document, made from the kinds' tables. */
export function openApi(): Words {
  return {
    openapi: "3.1.0",
    info: {
      title: "tortie",
      version,
      description: "Calico's resources in etcd, with calicoctl's validation and optimistic locking by resourceVersion.",
    },
    security: [{ token: [] }],
    paths: Object.assign({}, ...served.map(pathsOf)),
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: { Status: status, ...Object.assign({}, ...served.map(schemasOf)) },
    },
  };
}

function schemasOf(kind: Kind): Words {
  const fields = kind.fields.schema();
  return {
    [kind.kind]: {
      type: "object",
      required: ["apiVersion", "kind", "metadata"],
      properties: {
        apiVersion: { const: apiVersion },
        kind: { const: kind.kind },
        metadata: metadataFields.schema(),
        ...fields.properties as Words,
      },
      examples: [kind.example as unknown as Json],
    },
    [`${kind.kind}List`]: {
      type: "object",
      properties: {
        ...{ apiVersion: { const: apiVersion }, kind: { const: `${kind.kind}List` } },
        metadata: { type: "object", properties: { resourceVersion: { type: "string" } } },
        items: { type: "array", items: ref(kind.kind) },
      },
    },
  };
}

function pathsOf(kind: Kind): Words {
  const all = `${basePath}/${kind.plural}`;
  if (!kind.namespaced) return { [all]: listPath(kind, []), [`${all}/{name}`]: objectPath(kind, [name]) };
  const inside = `${basePath}/namespaces/{namespace}/${kind.plural}`;
  return {
    [all]: { get: list(kind, "of all namespaces", "InAllNamespaces"), parameters: [] },
    [inside]: listPath(kind, [namespace]),
    [`${inside}/{name}`]: objectPath(kind, [namespace, name]),
  };
}

const name = parameter("path", "name", "name of the object");
const namespace = parameter("path", "namespace", "its namespace");
const strictness = parameter(
  "query",
  "fieldValidation",
  "Ignore keeps members that are not known; else they are refused",
  {
    ...{ type: "string", enum: ["Strict", "Ignore"], default: "Strict" },
  },
);

function listPath(kind: Kind, parameters: Words[]): Words {
  return { parameters, get: list(kind, "", ""), post: write(kind, "create", "Stores a new object", 201) };
}

function list(kind: Kind, which: string, suffix: string): Words {
  return {
    operationId: `list${kind.kind}${suffix}`,
    summary: `All objects ${which}`.trim(),
    parameters: [
      parameter("query", "labelSelector", "a selector of Calico's language: app == 'web' && has(tier)"),
      parameter("query", "watch", "changes as server-sent events", { type: "boolean" }),
      parameter("query", "resourceVersion", "with watch: only changes after this revision"),
    ],
    responses: { 200: answer("the objects at one revision", ref(`${kind.kind}List`)), default: failed },
  };
}

function objectPath(kind: Kind, parameters: Words[]): Words {
  const done = answer("the object", ref(kind.kind));
  return {
    parameters,
    get: { operationId: `get${kind.kind}`, responses: { 200: done, default: failed } },
    put: write(kind, "replace", "Replaces the object of metadata.resourceVersion; without one, whatever is there", 200),
    patch: {
      operationId: `patch${kind.kind}`,
      summary: "JSON Merge Patch (RFC 7396): null removes a member, a list replaces a list",
      parameters: [strictness],
      requestBody: { required: true, content: content({ type: "object" }) },
      responses: { 200: done, default: failed },
    },
    delete: {
      operationId: `delete${kind.kind}`,
      parameters: [parameter("query", "resourceVersion", "only when the stored object is this one")],
      responses: { 200: answer("the object as it was", ref(kind.kind)), default: failed },
    },
  };
}

function write(kind: Kind, verb: string, summary: string, code: number): Words {
  return {
    ...{ operationId: `${verb}${kind.kind}`, summary, parameters: [strictness] },
    requestBody: { required: true, content: content(ref(kind.kind)) },
    responses: { [code]: answer("the object as it is stored", ref(kind.kind)), default: failed },
  };
}

const status: Words = {
  type: "object",
  description:
    "Kubernetes' Status: 400 unreadable, 404, 409 conflict or exists, 422 a rule of the kind, 503 try again.",
  properties: {
    ...{
      kind: { const: "Status" },
      code: { type: "integer" },
      reason: { type: "string" },
      message: { type: "string" },
    },
    details: {
      type: "object",
      properties: {
        causes: {
          type: "array",
          items: { type: "object", properties: { field: { type: "string" }, message: { type: "string" } } },
        },
      },
    },
  },
};

const failed: Words = answer("what went wrong", ref("Status"));
