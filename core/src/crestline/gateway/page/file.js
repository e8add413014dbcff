// One file: a picture, a table, or its text, followed while it grows.

import { complain, h } from './dom.js';
import { editButton } from './editor.js';
import { download, linkTo } from './files.js';
import { follow } from './log.js';
import { preview } from './preview.js';

export async function showFile({ place, system, rest, settings, signal }) {
  const file = `/${rest.join('/')}`;
  const name = rest.at(-1);
  const editor = h('div');
  const again = () => window.dispatchEvent(new HashChangeEvent('hashchange')); // shows what the file is now
  const pane = h('section', { class: 'log', 'aria-label': 'Content' });
  const seen = h('div');
  place.append(h('h1', {}, name), h('div', { class: 'actions' },
    download(system, file, name, settings), h('a', { href: linkTo(system.name, `/${rest.slice(0, -1).join('/')}`) }, 'Its directory'),
    editButton(editor, system, file, again)), editor, seen, pane);
  const isShown = await preview(seen, system, file, signal).catch((error) => {
    if (![404, 416].includes(error.status)) complain(seen, error);
    return false;
  });
  if (!isShown) follow(pane, { title: 'Content', system, file, ended: () => false, signal });
  return name;
}
