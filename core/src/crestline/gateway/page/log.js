// The text of a file, followed by byte ranges while it grows.

import { path, pause, send } from './api.js';
import { complain, h } from './dom.js';
import { download, linkTo } from './files.js';
import { finder } from './find.js';

const FIRST = 256 * 1024; // bytes from the end that are shown at first
const PART = 1024 * 1024; // bytes that are asked for at a time
const MOST = 2 * 1024 * 1024; // characters that are kept
const INTERVAL = 1000;

/** Show `file` in `place` and what comes to it until `ended()`, and then once more. With `settings`, it can be downloaded. */
export async function follow(place, { title, system, file, ended, settings, signal }) {
  const text = h('pre', { tabindex: 0, 'aria-label': `${title}: ${file}` });
  const note = h('span', { class: 'quiet' });
  const stick = h('input', { type: 'checkbox', checked: true });
  const search = finder(text, title, () => { stick.checked = false; }, signal);
  const [, directory, name] = /^(.*)\/([^/]*)$/.exec(file) ?? [];
  const folder = directory === undefined ? file : h('a', { href: linkTo(system.name, directory), title: 'Open its directory' }, file);
  place.append(h('div', { class: 'tools' }, h('h2', {}, title), h('code', {}, folder), note,
    h('label', {}, stick, ' Keep at the end'), search.controls, settings && download(system, file, name ?? file, settings)), text);
  let decoder = new TextDecoder();
  let position = null; // of the next byte
  let length = 0; // characters that are shown

  while (!signal.aborted) {
    const last = ended();
    try {
      if (!document.hidden || last) while (await read() >= PART);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404) note.textContent = last ? 'The file does not exist.' : 'Nothing yet.';
      else if (error.status === 416) {
        // It became shorter than what was read: it was begun anew. An empty file has no range at all.
        [position, length, decoder] = [null, 0, new TextDecoder()];
        text.replaceChildren();
        note.textContent = 'Empty.';
      } else if (last || [400, 401, 403].includes(error.status)) {
        complain(place, error);
        return;
      } else note.textContent = error.message;
    }
    if (last) return;
    await pause(INTERVAL, signal);
  }

  async function read() {
    // From the last byte that is known, so that there is always something to answer.
    const headers = { Range: position ? `bytes=${position - 1}-${position - 1 + PART}` : `bytes=-${FIRST}` };
    const answer = await send(`filesystem/${path(system.name)}/ops/content`, { query: { path: file }, headers, signal });
    const [, start] = /bytes (\d+)-/.exec(answer.headers.get('Content-Range') ?? '') ?? [null, 0];
    const bytes = new Uint8Array(await answer.arrayBuffer()).subarray(position ? 1 : 0);
    if (position === null) note.textContent = Number(start) ? 'The end of it; download it for the rest.' : '';
    position = (position ?? Number(start)) + bytes.length;
    if (!bytes.length) return 0;
    const last = text.lastChild;
    const more = decoder.decode(bytes, { stream: true });
    if (last && last.length < 65536) last.appendData(more);
    else text.append(more);
    for (length += more.length; length > MOST && text.childNodes.length > 1; text.firstChild.remove()) length -= text.firstChild.length;
    search.refresh();
    if (stick.checked) text.scrollTop = text.scrollHeight;
    return bytes.length;
  }
}
