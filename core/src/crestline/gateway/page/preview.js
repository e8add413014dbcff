// What is more readable as a picture, a table or cells than as text.

import { path, send } from './api.js';
import { h, table } from './dom.js';
import { showNotebook } from './notebook.js';

const IMAGES = { avif: 'avif', gif: 'gif', jpeg: 'jpeg', jpg: 'jpeg', png: 'png', svg: 'svg+xml', webp: 'webp' };
const SEPARATORS = { csv: ',', tsv: '\t' };
const [LARGEST_IMAGE, LARGEST_NOTEBOOK, LARGEST_TABLE, MOST_ROWS] = [32 * 1024 * 1024, 16 * 1024 * 1024, 1024 * 1024, 200];

/** Rows of fields; a field may be in double quotes, and then hold separators, line breaks and doubled quotes. */
export function parseTable(text, separator) {
  const rows = [[]];
  const field = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${separator}\r\n][^${separator}\r\n]*|))(${separator}|\r?\n|$)`, 'gy');
  for (let found = field.exec(text); found && rows.length <= MOST_ROWS + 1; found = field.exec(text)) {
    rows.at(-1).push(found[1]?.replaceAll('""', '"') ?? found[2]);
    if (!found[3]) break;
    if (found[3] !== separator) rows.push([]);
  }
  return rows.filter((row) => row.length > 1 || row[0]);
}

/** Show `file` at `place`; false if only its text can be shown. */
export async function preview(place, system, file, signal) {
  const kind = /\.([a-z]+)$/i.exec(file)?.[1].toLowerCase() ?? '';
  const content = `filesystem/${path(system.name)}/ops/content`;
  const query = { path: file };
  if (Object.hasOwn(IMAGES, kind)) {
    const { headers } = await send(content, { method: 'HEAD', query, signal });
    if (Number(headers.get('Content-Length')) > LARGEST_IMAGE) return false;
    const bytes = await (await send(content, { query, signal })).arrayBuffer();
    const source = URL.createObjectURL(new Blob([bytes], { type: `image/${IMAGES[kind]}` }));
    signal.addEventListener('abort', () => URL.revokeObjectURL(source));
    place.append(h('img', { class: 'preview', src: source, alt: file.split('/').at(-1) }));
    return true;
  }
  if (Object.hasOwn(SEPARATORS, kind)) {
    const answer = await send(content, { query, headers: { Range: `bytes=0-${LARGEST_TABLE - 1}` }, signal });
    const [head = [], ...rows] = parseTable(await answer.text(), SEPARATORS[kind]);
    const shown = rows.slice(0, MOST_ROWS);
    place.append(table(`The first ${shown.length} rows of ${file}`, head, h('tbody', {}, shown.map((row) => h('tr', {}, row.map((cell) => h('td', {}, cell)))))));
    if (rows.length > MOST_ROWS) place.append(h('p', { class: 'quiet' }, `The first ${MOST_ROWS} rows; the text below has the rest.`));
  }
  if (kind === 'ipynb') {
    const { headers } = await send(content, { method: 'HEAD', query, signal });
    if (Number(headers.get('Content-Length')) > LARGEST_NOTEBOOK) return false;
    return showNotebook(place, await (await send(content, { query, signal })).text(), signal);
  }
  return false;
}
