// One file, its text followed while it grows.

import { h } from './dom.js';
import { download, linkTo } from './files.js';
import { follow } from './log.js';

export async function showFile({ place, system, rest, settings, signal }) {
  const file = `/${rest.join('/')}`;
  const name = rest.at(-1);
  const pane = h('section', { class: 'log', 'aria-label': 'Content' });
  place.append(h('h1', {}, name), h('div', { class: 'actions' },
    download(system, file, name, settings), h('a', { href: linkTo(system.name, `/${rest.slice(0, -1).join('/')}`) }, 'Its directory')), pane);
  follow(pane, { title: 'Content', system: system.name, file, ended: () => false, signal });
  return name;
}
