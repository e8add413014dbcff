// A file to the system, in parts, so that a lost connection costs one part and no file is held in memory.

import { pause, send } from './api.js';
import { announce, complain, h } from './dom.js';
import { size } from './words.js';

const PART = 8 * 1024 * 1024;
const CHECKED = 64 * 1024 * 1024; // bytes up to which the whole is checked by SHA-256; the browser wants it in memory
const TRIES = 6;

/** Upload `file` to `target` and show at `place` how far it is. */
export async function upload(place, operations, target, file) {
  const stop = new AbortController();
  const progress = h('progress', { max: file.size || 1, value: 0, 'aria-label': `Upload of ${file.name}` });
  const text = h('span', { class: 'quiet' }, size(file.size));
  const cancel = h('button', { type: 'button', 'aria-label': `Stop the upload of ${file.name}`, onclick: () => stop.abort() }, 'Stop');
  const line = h('div', { class: 'upload' }, h('span', { class: 'name' }, file.name), progress, text, cancel);
  const leaving = (event) => event.preventDefault();
  place.append(line);
  window.addEventListener('beforeunload', leaving);
  try {
    await sendParts(operations, target, file, stop.signal, (done) => {
      progress.value = done;
      text.textContent = `${size(done)} of ${size(file.size)}`;
    });
    line.remove();
    announce(`Uploaded ${file.name}.`);
  } catch (error) {
    if (stop.signal.aborted) line.remove();
    else {
      complain(line, error);
      line.append(h('button', { type: 'button', onclick: () => line.remove() }, 'Dismiss'));
    }
    throw error;
  } finally {
    window.removeEventListener('beforeunload', leaving);
  }
}

async function sendParts(operations, target, file, signal, tell) {
  const id = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const checksum = await digest(file);
  const options = { query: { path: target }, signal };
  let offset = 0;
  let failures = 0;
  do {
    const end = Math.min(offset + PART, file.size);
    const headers = { 'Upload-Id': id, 'Upload-Offset': offset, 'Upload-Complete': end === file.size ? '?1' : '?0', 'Content-Type': 'application/octet-stream' };
    if (checksum && end === file.size) headers['Content-SHA256'] = checksum;
    try {
      await send(`${operations}/content`, { ...options, method: 'PUT', headers, body: file.slice(offset, end) });
      [offset, failures] = [end, 0];
    } catch (error) {
      failures += 1;
      if (signal.aborted || failures > TRIES || !(error.status === 0 || error.status === 409 || error.status >= 500)) throw error;
      await pause(500 * 2 ** failures, signal);
      const answer = await send(`${operations}/content`, { ...options, method: 'HEAD', headers: { 'Upload-Id': id } }).catch(() => null);
      if (answer) offset = Number(answer.headers.get('Upload-Offset'));
    }
    tell(offset);
  } while (offset < file.size);
}

async function digest(file) {
  if (!crypto.subtle || file.size > CHECKED) return null;
  const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer()));
  return [...sum].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
