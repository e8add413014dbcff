// A Jupyter notebook as its cells: text and code as text, and outputs as text or pictures. Nothing of it becomes markup.

import { h } from './dom.js';

const PICTURES = ['image/png', 'image/jpeg'];
const CODES = /\x1b\[[0-9;]*m/g; // colours of a terminal

const text = (lines) => [lines ?? ''].flat().join('');

/** Show the notebook in `source` at `place`; false if it is none. */
export function showNotebook(place, source, signal) {
  let notebook;
  try {
    notebook = JSON.parse(source);
  } catch {
    return false;
  }
  if (!Array.isArray(notebook?.cells)) return false;
  place.append(...notebook.cells.map((cell, at) => h('section', { class: 'card', 'aria-label': `Cell ${at + 1}` },
    h(cell.cell_type === 'code' ? 'pre' : 'div', { class: cell.cell_type === 'code' ? null : 'prose', tabindex: cell.cell_type === 'code' ? 0 : null }, text(cell.source)),
    (cell.outputs ?? []).map((output) => draw(output, at + 1, signal)))));
  return true;
}

function draw(output, number, signal) {
  const type = PICTURES.find((each) => output.data?.[each]);
  if (!type) {
    const shown = text(output.text ?? output.traceback?.join('\n') ?? output.data?.['text/plain']).replaceAll(CODES, '');
    return h('pre', { tabindex: 0, 'aria-label': `Output of cell ${number}` }, shown);
  }
  try {
    const bytes = Uint8Array.from(atob(text(output.data[type])), (letter) => letter.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type }));
    signal.addEventListener('abort', () => URL.revokeObjectURL(address));
    return h('img', { class: 'preview', src: address, alt: text(output.data['text/plain']) || `Output of cell ${number}` });
  } catch {
    return h('p', { class: 'quiet' }, 'A picture that cannot be read.');
  }
}
