/** The pages' look. */
export const style = `
:root { color-scheme: light dark; --line: #8884; --good: #2a8f4f; --bad: #c4373c; --some: #c98a1b; --soft: #8882; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.45 system-ui, sans-serif; }
header { display: flex; gap: 1.5rem; align-items: baseline; padding: .7rem 1.2rem; border-bottom: 1px solid var(--line); }
header b { font-size: 1.15rem; }
nav { display: flex; flex-wrap: wrap; gap: 1rem; }
a { color: inherit; }
nav a { text-decoration: none; opacity: .75; }
nav a[aria-current] { opacity: 1; font-weight: 600; border-bottom: 2px solid var(--good); }
main { padding: 1rem 1.2rem 3rem; }
h1 { font-size: 1.3rem; margin: .3rem 0 1rem; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; opacity: .75; }
code, .mono { font-family: ui-monospace, monospace; font-size: .92em; }
.empty, .note { opacity: .7; }
.good { color: var(--good); } .bad { color: var(--bad); } .some { color: var(--some); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; min-width: 8rem; text-decoration: none; }
.tile strong { display: block; font-size: 1.5rem; }
.reach td, .reach th { padding: 2px; border: 0; }
.reach th.top { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400; white-space: nowrap; }
.reach th.side { font-weight: 400; text-align: right; padding-right: .5rem; white-space: nowrap; }
.reach td { width: 1.5rem; height: 1.5rem; border-radius: 3px; }
.reach .all { background: var(--good); } .reach .none { background: var(--bad); } .reach .part { background: var(--some); }
.reach .self { background: var(--soft); }
.block { display: inline-grid; grid-template-columns: repeat(32, 9px); gap: 1px; margin: .2rem 0 .6rem; }
.block i { width: 9px; height: 9px; background: var(--soft); border-radius: 1px; }
.block i.used { background: var(--good); } .block i.tunnel { background: #3a6ea8; } .block i.cooling { background: var(--some); }
.block i.reserved { background: var(--bad); }
meter { width: 8rem; }
#drops { white-space: pre-wrap; }
`;
