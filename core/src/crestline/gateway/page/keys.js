// The user's API keys.

import { get, path, send } from './api.js';
import { act, announce, ask, complain, field, h, table } from './dom.js';
import { moment } from './words.js';

const SCOPES = {
  'status:read': 'see systems', 'jobs:read': 'see jobs', 'jobs:write': 'submit and cancel jobs', 'files:read': 'read files',
  'files:write': 'write and delete files', 'keys:read': 'see API keys', 'keys:write': 'make and revoke API keys',
};
const HEADS = ['Name', 'Id', 'May', 'Made', 'Expires', 'Last used', 'Action'];

export async function showKeys({ place, signal }) {
  const name = h('input', { required: true, maxlength: 128, autocomplete: 'off' });
  const days = h('input', { type: 'number', min: 1, max: 366, value: 30, required: true });
  const scopes = Object.entries(SCOPES).map(([scope, text]) => {
    const box = h('input', { type: 'checkbox', value: scope, checked: !scope.startsWith('keys') });
    return h('label', {}, box, ` ${text} `, h('code', {}, scope));
  });
  const trouble = h('div');
  const made = h('div');
  const body = h('tbody');
  const button = h('button', { type: 'submit', class: 'primary' }, 'Make the key');
  const form = h('form', { class: 'card' }, h('h2', {}, 'A new key'),
    h('div', { class: 'grid' }, field('Name', name, 'What it is for.'), field('Days that it lives', days)),
    h('fieldset', {}, h('legend', {}, 'It may'), scopes), trouble, button);
  const listed = h('div');
  place.append(h('h1', {}, 'API keys'), h('p', {}, 'A key is for programs that cannot sign in. A program that has it acts as you, within the scopes of the key.'),
    made, listed, table('Your API keys', HEADS, body), form);

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    act(button, async () => {
      const wanted = scopes.map((each) => each.querySelector('input')).filter((each) => each.checked).map((each) => each.value);
      const json = { name: name.value, scopes: wanted, expiresIn: Number(days.value) * 86400 };
      show(await (await send('keys/', { method: 'POST', json })).json());
      name.value = '';
      await load();
    }, trouble);
  });

  function show(key) {
    const secret = h('input', { readonly: true, value: key.secret, class: 'secret' });
    const copy = h('button', { type: 'button', onclick: () => act(copy, async () => {
      secret.select();
      await navigator.clipboard.writeText(key.secret);
      announce('Copied.');
    }) }, 'Copy');
    const done = h('button', { type: 'button', onclick: () => { made.replaceChildren(); name.focus(); } }, 'I have it');
    made.replaceChildren(h('section', { class: 'card', 'aria-label': 'The new key' },
      field(`The key ${key.name}`, secret, 'It is shown this once. Keep it where only you can read it.'), h('div', { class: 'actions' }, copy, done)));
    secret.focus();
    secret.select();
  }

  async function load() {
    try {
      const { keys } = await get('keys/', {}, { signal });
      body.replaceChildren(...keys.map(row));
      if (!keys.length) body.append(h('tr', {}, h('td', { colspan: HEADS.length }, 'You have none.')));
    } catch (error) {
      complain(listed, error);
    }
  }

  function row(key) {
    const revoke = h('button', { type: 'button', 'aria-label': `Revoke ${key.name}` }, 'Revoke');
    revoke.addEventListener('click', () => act(revoke, async () => {
      if (!await ask(`Revoke ${key.name}?`, h('p', {}, 'Programs that use it are refused from now on.'), 'Revoke', { danger: true })) return;
      await send(`keys/${path(key.keyId)}`, { method: 'DELETE' });
      announce(`Revoked ${key.name}.`);
      await load();
      name.focus();
    }));
    return h('tr', {}, h('th', { scope: 'row', class: 'name' }, key.name), h('td', {}, h('code', {}, key.keyId)), h('td', {}, key.scopes.join(' ')),
      h('td', {}, moment(key.created)), h('td', {}, moment(key.expires)), h('td', {}, moment(key.lastUsed)), h('td', {}, revoke));
  }
  await load();
}
