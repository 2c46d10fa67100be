/** A label selector of Kubernetes (metav1.LabelSelector). */
export interface LabelSelector {
  matchLabels?: Record<string, string> | null;
  matchExpressions?: { key: string; operator: string; values?: string[] | null }[] | null;
}

/** A label selector in Calico's words, and what of it could not be said. */
export interface SelectorText {
  /** Its terms joined by `&&`; "" when it has none. */
  text: string;
  /** Terms that are left out, in words: then `text` selects more than was written. */
  unread: string[];
}

/** A pod comes from Kubernetes; endpoints of others are none of a Kubernetes policy's business. */
export const kubernetesPods = "projectcalico.org/orchestrator == 'k8s'";

/**
 * matchLabels in the order of their keys, then matchExpressions as they stand. A key or value that would be read as more
 * than itself is not said: the API refuses such, a value in etcd need not have passed it.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/conversion.go k8sSelectorToCalico.
 */
export function selectorText(selector: LabelSelector | null | undefined, first: string[] = []): SelectorText {
  const terms = [...first], unread: string[] = [];
  const add = (key: string, values: readonly string[], term: string | undefined) => {
    const isSafe = /^[A-Za-z0-9_./-]{1,512}$/.test(key) && values.every((v) => /^[^'\n]*$/.test(v));
    if (term !== undefined && isSafe) terms.push(term);
    else unread.push(`selector term on "${key}"`);
  };
  const labels = selector?.matchLabels ?? {};
  for (const key of Object.keys(labels).sort()) add(key, [labels[key]!], `${key} == '${labels[key]}'`);
  for (const { key, operator, values } of selector?.matchExpressions ?? []) {
    add(key, values ?? [], expression(key, operator, values ?? []));
  }
  return { text: terms.join(" && "), unread };
}

/** A selector of pods: only such of Kubernetes, no selector is all of them. */
export const podSelectorText = (selector: LabelSelector | null | undefined): SelectorText =>
  selectorText(selector, [kubernetesPods]);

/** A selector of namespaces: an empty one is all of them; none at all is "". */
export function namespaceSelectorText(selector: LabelSelector | null | undefined): SelectorText {
  if (!selector) return { text: "", unread: [] };
  const { text, unread } = selectorText(selector);
  return { text: text || "all()", unread };
}

function expression(key: string, operator: string, values: readonly string[]): string | undefined {
  const list = `{ '${values.join("', '")}' }`;
  switch (operator) {
    case "In":
      return values.length > 0 ? `${key} in ${list}` : undefined;
    case "NotIn":
      return values.length > 0 ? `${key} not in ${list}` : undefined;
    case "Exists":
      return `has(${key})`;
    case "DoesNotExist":
      return `! has(${key})`;
    default:
      return undefined;
  }
}
