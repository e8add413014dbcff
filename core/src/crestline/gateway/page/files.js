// Files: look around, fetch, bring, make and remove.

import { get, path, send } from './api.js';
import { act, announce, ask, complain, field, h, table } from './dom.js';
import { archive, ended, relocate } from './fileactions.js';
import { session } from './session.js';
import { upload } from './upload.js';
import { size } from './words.js';

const SMALL = 32 * 1024 * 1024; // bytes that are fetched at once; what is larger comes by a signed URL
const PAGE = 500;
const HEADS = ['Name', 'Size', 'Changed', 'Permissions', 'Owner', 'Actions'];

const url = (view, system, place) => `#/${view}/${encodeURIComponent(system)}${place.split('/').map(encodeURIComponent).join('/')}`;
export const linkTo = (system, place) => url('files', system, place);
const join = (directory, name) => `${directory.replace(/\/$/, '')}/${name}`;
const operations = (system) => `filesystem/${path(system.name)}/ops`;

/** Where a user's files are by default, as FirecREST's clients see it. */
export function defaultDirectory(system) {
  const trees = system.fileSystems ?? [];
  const tree = trees.find((each) => each.defaultWorkDir) ?? trees[0];
  return join(tree?.path ?? '/', session.user ?? '');
}

function saveBlob(blob, name) {
  const found = URL.createObjectURL(blob);
  h('a', { href: found, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(found), 60000);
}

/** A button that saves a directory as an archive. */
function downloadDirectory(system, directory, name) {
  const button = h('button', { type: 'button', 'aria-label': `Download ${name}` }, 'Download');
  button.addEventListener('click', () => act(button, async () => saveBlob(await archive(system, directory), `${name}.tar`)));
  return button;
}

/** A button that saves a file on the user's machine. */
export function download(system, file, name, settings) {
  const button = h('button', { type: 'button', 'aria-label': `Download ${name}` }, 'Download');
  const save = (href) => h('a', { href, download: name }).click();
  button.addEventListener('click', () => act(button, async () => {
    const { headers } = await send(`${operations(system)}/content`, { method: 'HEAD', query: { path: file } });
    if (Number(headers.get('Content-Length')) <= SMALL) {
      const answer = await send(`${operations(system)}/content`, { query: { path: file } });
      saveBlob(await answer.blob(), name);
      return;
    }
    const json = { path: file, transferDirectives: { transferMethod: 's3' } };
    const offer = await (await send(`filesystem/${path(system.name)}/transfer/download`, { method: 'POST', json })).json();
    await ended(system, offer.transferJob.jobId, 'The file is being made ready.');
    const { downloadUrl, download_url: same = downloadUrl } = offer.transferDirectives;
    // By the address that this page came by, so that the browser takes the name for it.
    save(same.startsWith(`${settings.publicUrl}/`) ? new URL(same.slice(settings.publicUrl.length + 1), document.baseURI).href : same);
  }));
  return button;
}

export async function showFiles({ place, system, rest, settings, signal }) {
  if (!rest.length) {
    location.replace(linkTo(system.name, defaultDirectory(system)));
    return 'Files';
  }
  const directory = `/${rest.join('/')}`;
  const trouble = h('div');
  const uploads = h('div', { class: 'uploads' });
  const body = h('tbody');
  const search = h('input', { type: 'search', 'aria-label': 'Find by name', placeholder: 'Find by name', oninput: () => draw() });
  const hidden = h('input', { type: 'checkbox', onchange: () => load() });
  const more = h('button', { type: 'button', hidden: true, onclick: () => { shown += PAGE; draw(); } }, 'Show more');
  const count = h('span', { class: 'quiet' });
  const bring = h('input', { type: 'file', multiple: true, class: 'unseen', id: 'bring', onchange: () => take([...bring.files]) });
  const make = h('button', { type: 'button', onclick: () => act(make, newDirectory, trouble) }, 'New directory');
  let entries = [];
  let shown = PAGE;

  const crumbs = rest.map((word, at) => h('li', {}, h('a', { href: linkTo(system.name, `/${rest.slice(0, at + 1).join('/')}`), 'aria-current': at === rest.length - 1 ? 'page' : null }, word)));
  const trees = (system.fileSystems ?? []).map((each) => h('a', { href: linkTo(system.name, each.path) }, each.path));
  place.append(h('h1', {}, `Files on ${system.name}`),
    h('p', { class: 'links' }, 'File systems: ', trees),
    h('nav', { 'aria-label': 'Directory' }, h('ol', { class: 'crumbs' }, crumbs)),
    h('div', { class: 'tools' }, bring, h('label', { for: 'bring', class: 'button primary' }, 'Upload files'), make, search,
      h('label', {}, hidden, ' Hidden files'), count),
    trouble, uploads, table(`Files in ${directory}`, HEADS, body), more);
  place.addEventListener('dragover', (event) => {
    event.preventDefault();
    place.classList.add('dropping');
  });
  place.addEventListener('dragleave', (event) => { if (!place.contains(event.relatedTarget)) place.classList.remove('dropping'); });
  place.addEventListener('drop', (event) => {
    event.preventDefault();
    place.classList.remove('dropping');
    const { items, files } = event.dataTransfer;
    const folders = [...items].map((each) => each.webkitGetAsEntry?.()).filter((each) => each?.isDirectory).map((each) => each.name);
    if (folders.length) complain(trouble, new Error(`Directories cannot be uploaded here: ${folders.join(', ')}. Use crestline cp -r.`));
    take([...files].filter((each) => !folders.includes(each.name)));
  });
  say('Loading');
  await load();
  return directory;

  async function load() {
    try {
      const query = { path: `${directory}/`, showHidden: hidden.checked };
      entries = (await get(`${operations(system)}/ls`, query, { signal })).output ?? [];
      entries.sort((one, other) => (other.type === 'd') - (one.type === 'd') || one.name.localeCompare(other.name, undefined, { numeric: true }));
      draw();
    } catch (error) {
      body.replaceChildren();
      complain(trouble, error);
    }
  }

  function say(text) {
    body.replaceChildren(h('tr', {}, h('td', { colspan: HEADS.length }, text)));
  }

  function draw() {
    const text = search.value.toLowerCase();
    const found = entries.filter((each) => each.name.toLowerCase().includes(text));
    count.textContent = `${found.length} ${found.length === 1 ? 'entry' : 'entries'}`;
    body.replaceChildren(...found.slice(0, shown).map(row));
    if (!found.length) say(entries.length ? 'No name contains that.' : 'Nothing is here. To upload files, drop them on this page.');
    more.hidden = found.length <= shown;
  }

  function row(entry) {
    const full = join(directory, entry.name);
    const isFile = entry.type === '-';
    const link = h('a', { href: url(isFile ? 'view' : 'files', system.name, full) }, entry.type === 'd' ? `${entry.name}/` : entry.name);
    if (entry.type === 'l') {
      link.addEventListener('click', (event) => {
        event.preventDefault();
        act(link, () => open(full), trouble);
      });
    }
    const remove = h('button', { type: 'button', 'aria-label': `Delete ${entry.name}` }, 'Delete');
    remove.addEventListener('click', () => act(remove, () => drop(entry, full), trouble));
    const elsewhere = [['mv', 'Rename'], ['cp', 'Copy']].map(([verb, text]) => {
      const button = h('button', { type: 'button', 'aria-label': `${text} ${entry.name}` }, text);
      button.addEventListener('click', () => act(button, async () => { if (await relocate(system, directory, entry, verb)) await load(); }, trouble));
      return button;
    });
    const fetched = entry.type === 'd' ? downloadDirectory(system, full, entry.name) : download(system, full, entry.name, settings);
    return h('tr', {}, h('th', { scope: 'row', class: 'name' }, link, entry.linkTarget ? ` → ${entry.linkTarget}` : ''),
      h('td', { class: 'number' }, entry.type === 'd' ? '' : size(entry.size)), h('td', {}, entry.lastModified.replace('T', ' ')),
      h('td', {}, h('code', {}, `${entry.type}${entry.permissions}`)), h('td', {}, entry.user),
      h('td', { class: 'actions' }, fetched, elsewhere, remove));
  }

  /** A link leads to a directory or to a file. */
  async function open(full) {
    const { output } = await get(`${operations(system)}/stat`, { path: full, dereference: true }, { signal });
    location.hash = url((output.mode & 0o170000) === 0o040000 ? 'files' : 'view', system.name, full);
  }

  async function drop(entry, full) {
    const what = entry.type === 'd' ? `the directory ${entry.name} and all that is in it` : entry.name;
    if (!await ask(`Delete ${what}?`, h('p', {}, 'This cannot be undone.'), 'Delete', { danger: true })) return;
    await send(`${operations(system)}/rm`, { method: 'DELETE', query: { path: full } });
    announce(`Deleted ${entry.name}.`);
    await load();
    make.focus();
  }

  async function newDirectory() {
    const name = h('input', { name: 'name', required: true, autofocus: true });
    const answer = await ask('New directory', field('Name', name), 'Make it');
    if (!answer) return;
    await send(`${operations(system)}/mkdir`, { method: 'POST', json: { path: join(directory, answer.get('name')) } });
    announce(`Made ${answer.get('name')}.`);
    await load();
  }

  async function take(files) {
    bring.value = '';
    for (const file of files) {
      if (entries.some((each) => each.name === file.name)
        && !await ask(`Replace ${file.name}?`, h('p', {}, 'There is a file of that name.'), 'Replace', { danger: true })) continue;
      upload(uploads, operations(system), join(directory, file.name), file).then(() => { if (!signal.aborted) load(); }, () => {});
    }
  }
}
