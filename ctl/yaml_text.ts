import { isObject } from "../lib/json64.ts";

/**
 * YAML of a JSON value as calicoctl prints it: members sorted, two blanks a level, lists not indented, text quoted where
 * a YAML 1.1 reader would take it for something else. Ends with a line break.
 */
export function yamlText(value: unknown): string {
  if (isObject(value) && Object.keys(value).length > 0) return members(value, "").join("\n") + "\n";
  if (Array.isArray(value) && value.length > 0) return items(value, "").join("\n") + "\n";
  return `${scalar(value, "")}\n`;
}

/** Lines of an object's members. */
function members(value: Record<string, unknown>, indent: string): string[] {
  const names = Object.keys(value).filter((name) => value[name] !== undefined).sort();
  return names.flatMap((name) => {
    const member = value[name];
    const key = `${indent}${plainOrQuoted(name)}:`;
    if (isObject(member) && Object.keys(member).length > 0) return [key, ...members(member, `${indent}  `)];
    if (Array.isArray(member) && member.length > 0) return [key, ...items(member, indent)];
    return [`${key} ${scalar(member, `${indent}  `)}`];
  });
}

/** Lines of a list's items. */
function items(value: unknown[], indent: string): string[] {
  return value.flatMap((item) => {
    const nested = isObject(item) && Object.keys(item).length > 0
      ? members(item, `${indent}  `)
      : Array.isArray(item) && item.length > 0
      ? items(item, `${indent}  `)
      : undefined;
    if (!nested) return [`${indent}- ${scalar(item, `${indent}  `)}`];
    return [`${indent}- ${nested[0]!.slice(indent.length + 2)}`, ...nested.slice(1)];
  });
}

function scalar(value: unknown, indent: string): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "string") return value.includes("\n") ? literal(value, indent) : plainOrQuoted(value);
  if (Array.isArray(value)) return "[]";
  return typeof value === "object" ? "{}" : String(value);
}

/** Text of several lines after `|`. What a literal cannot hold exactly is quoted. */
function literal(text: string, indent: string): string {
  if (!/^[^\s][^\r\t]*$/.test(text) || /[^\n\x20-\x7e\xa0-\ufffd]| \n/.test(text)) return JSON.stringify(text);
  const body = text.replace(/\n+$/, "");
  const trailing = text.length - body.length;
  const chomping = trailing === 0 ? "-" : trailing === 1 ? "" : "+";
  const lines = text.slice(0, trailing > 1 ? -1 : body.length).split("\n");
  return `|${chomping}\n${lines.map((line) => (line === "" ? "" : indent + line)).join("\n")}`;
}

function plainOrQuoted(text: string): string {
  if (text === "" || looksTyped(text)) return JSON.stringify(text);
  if (/[^\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd]/.test(text.replace(/[\ud800-\udbff][\udc00-\udfff]/g, "x"))) {
    return JSON.stringify(text);
  }
  return isPlain(text) ? text : `'${text.replaceAll("'", "''")}'`;
}

/** True for text that YAML 1.1 reads as null, a boolean, a number, a time, or a merge key. */
function looksTyped(text: string): boolean {
  return /^(~|null|Null|NULL|<<|=)$/.test(text) ||
    /^(y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$/.test(text) ||
    /^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$/.test(text) ||
    /^[-+]?(\.[0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$/.test(text) ||
    /^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$/.test(text) ||
    /^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$/.test(text) ||
    /^\d{4}-\d{1,2}-\d{1,2}([Tt ]|$)/.test(text);
}

/** True when text may stand without quotes in a block. */
function isPlain(text: string): boolean {
  if (/^(---|\.\.\.)/.test(text) || /^\s|\s$/.test(text)) return false;
  if (/^[#,[\]{}&*!|>'"%@`]/.test(text) || /^[-?:](\s|$)/.test(text)) return false;
  return !/:(\s|$)/.test(text) && !/\s#/.test(text);
}
