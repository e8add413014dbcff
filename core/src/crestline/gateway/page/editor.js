// An editor for small text files.

import { path, send } from './api.js';
import { act, announce, ask, h } from './dom.js';

const LARGEST = 512 * 1024; // bytes

/** A button that opens `file` in an editor at `place`, and calls `saved()` once it has been written. */
export function editButton(place, system, file, saved) {
  const content = `filesystem/${path(system.name)}/ops/content`;
  const query = { path: file };
  const trouble = h('div');
  const button = h('button', { type: 'button', onclick: () => act(button, open, place) }, 'Edit');

  async function tagNow() {
    const { headers } = await send(content, { method: 'HEAD', query });
    if (Number(headers.get('Content-Length')) > LARGEST) throw new Error('The file is too large to be edited here. Download it, edit it, and upload it.');
    return headers.get('ETag');
  }

  async function open() {
    let tag = await tagNow();
    const bytes = await (await send(content, { query })).arrayBuffer();
    let text;
    try {
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Error('The file is not text in UTF-8. Download it to edit it.');
    }
    const newline = text.includes('\r\n') ? '\r\n' : '\n';
    const area = h('textarea', { rows: 24, 'aria-label': `Content of ${file}`, spellcheck: 'false', autocapitalize: 'none', value: text });
    const start = area.value; // with line breaks as the browser has them
    const isChanged = () => area.value !== start;
    const leaving = (event) => { if (isChanged()) event.preventDefault(); };
    const save = h('button', { type: 'button', class: 'primary', onclick: () => act(save, write, trouble) }, 'Save');
    const close = h('button', { type: 'button', onclick: async () => {
      if (!isChanged() || await ask('Leave without saving?', h('p', {}, 'Your changes are lost.'), 'Leave', { danger: true })) end();
    } }, 'Close the editor');
    const form = h('div', { class: 'card' }, area, trouble, h('div', { class: 'actions' }, save, close));
    place.replaceChildren(form);
    button.hidden = true;
    window.addEventListener('beforeunload', leaving);
    area.focus();

    function end() {
      window.removeEventListener('beforeunload', leaving);
      form.remove();
      button.hidden = false;
      button.focus();
    }

    async function write() {
      const found = await tagNow();
      if (found !== tag && !await ask('Replace the newer file?', h('p', {}, `${file} has changed since you opened it.`), 'Replace it', { danger: true })) return;
      tag = found;
      const body = new TextEncoder().encode(area.value.replaceAll('\n', newline));
      await send(content, { method: 'PUT', query, body, headers: { 'Content-Type': 'application/octet-stream' } });
      end();
      announce(`Saved ${file}.`);
      saved();
    }
  }
  return button;
}
