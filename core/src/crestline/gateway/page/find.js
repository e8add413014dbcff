// A search in a text that grows: matches are highlighted, Enter goes to the next.

import { h } from './dom.js';

const MOST = 1000; // matches that are counted and highlighted
const [FOUND, CURRENT] = globalThis.Highlight ? [new Highlight(), new Highlight()] : [new Set(), new Set()];
if (globalThis.Highlight) {
  CSS.highlights.set('found', FOUND);
  CSS.highlights.set('current', CURRENT);
}

/** Ranges of `text` where `words` stand, in any case. */
function matches(text, words) {
  const nodes = [...text.childNodes].filter((node) => node.length);
  const pattern = new RegExp(words.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'), 'giu');
  const ranges = [];
  let [at, from] = [0, 0]; // a node, and how many characters stand before it
  const seek = (offset) => {
    while (offset > from + nodes[at].length) {
      from += nodes[at].length;
      at += 1;
    }
    return [nodes[at], offset - from];
  };
  for (const { index, 0: { length } } of text.textContent.matchAll(pattern)) {
    const range = new Range();
    range.setStart(...seek(index));
    range.setEnd(...seek(index + length));
    ranges.push(range);
    if (ranges.length === MOST) break;
  }
  return ranges;
}

/** The controls, and `refresh()` for when the text has changed. `hold()` is called once the user looks for something. */
export function finder(text, title, hold, signal) {
  let ranges = [];
  let current = -1;
  const count = h('span', { class: 'quiet', 'aria-live': 'polite' });
  const words = h('input', { type: 'search', 'aria-label': `Find in ${title}`, placeholder: 'Find', oninput: () => { refresh(); go(0); } });
  words.addEventListener('keydown', (event) => { if (event.key === 'Enter') go(current + (event.shiftKey ? -1 : 1)); });
  signal.addEventListener('abort', clear);

  function clear() {
    for (const range of ranges) {
      FOUND.delete(range);
      CURRENT.delete(range);
    }
    ranges = [];
  }

  function refresh() {
    clear();
    if (words.value) ranges = matches(text, words.value);
    for (const range of ranges) FOUND.add(range);
    show();
  }

  function go(to) {
    if (words.value) hold();
    current = ranges.length ? (to + ranges.length) % ranges.length : -1;
    show();
    if (current < 0) return;
    const { top } = ranges[current].getBoundingClientRect();
    text.scrollTop += top - text.getBoundingClientRect().top - text.clientHeight / 2;
  }

  function show() {
    current = Math.min(current, ranges.length - 1);
    for (const range of ranges) CURRENT.delete(range);
    if (current >= 0) CURRENT.add(ranges[current]);
    const found = ranges.length === MOST ? `${MOST} or more` : ranges.length;
    count.textContent = words.value ? `${current + 1} of ${found}` : '';
  }
  return { controls: [words, count], refresh };
}
