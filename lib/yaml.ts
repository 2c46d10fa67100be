/**
 * The YAML reader, to be imported dynamically (`await import("…/lib/yaml.ts")`) when the first file is read. The package
 * itself must not be: in a bundle a CommonJS package that is imported dynamically has only a `default`.
 */
export { parse, parseDocument, stringify } from "yaml";
