import { html } from "hono/html";

/** Text of a page that is escaped already. */
export type Html = ReturnType<typeof html>;

/** The pages, in the order of the menu. */
export const menu = [
  ["/", "Overview"],
  ["/endpoints", "Endpoints"],
  ["/policies", "Policies"],
  ["/reach", "Who reaches whom"],
  ["/ipam", "Addresses"],
  ["/bgp", "BGP"],
  ["/drops", "Drops"],
] as const;

/** A whole page. Nothing is loaded from elsewhere, and the only script is what the page names. */
export function page(path: string, title: string, body: Html, script?: string): Response {
  const links = menu.map(([to, name]) =>
    html`<a href="${to}" ${to === path ? html`aria-current="page"` : ""}>${name}</a>`
  );
  const text = html`
    <!doctype html>
    <html lang="en">
      <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>${title} · tortie</title>
    <link rel="stylesheet" href="/style.css">
    ${script ? html`<script src="${script}" defer></script>` : ""}
      </head>
      <body>
        <header><b>tortie</b><nav>${links}</nav></header>
        <main><h1>${title}</h1>${body}</main>
      </body>
    </html>
  `;
  return new Response(String(text), { headers: { "content-type": "text/html; charset=utf-8", ...safe } });
}

/** The page may load from here alone, run no script of its text, and be in no other page's frame. */
const safe = {
  "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
};

/** A table. Cells are escaped unless they are Html. */
export function table(heads: string[], rows: (string | number | Html)[][], whenEmpty: string): Html {
  if (rows.length === 0) return html`<p class="empty">${whenEmpty}</p>`;
  return html`
    <table>
      <thead>
        <tr>${heads.map((head) => html`<th>${head}</th>`)}</tr>
      </thead>
      <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>\n`)}</tbody>
    </table>
  `;
}

/** How much of a whole is in use, as a bar. */
export function bar(used: number, whole: number): Html {
  const percent = whole === 0 ? 0 : Math.round((100 * used) / whole);
  const level = percent >= 90 ? "bad" : percent >= 75 ? "warn" : "good";
  return html`<meter min="0" max="100" high="90" value="${percent}" class="${level}"></meter> ${percent}%`;
}
