// Who are you?

import { get } from './api.js';
import { act, complain, field, h } from './dom.js';
import { leave } from './oidc.js';
import { session, useClient, useKey } from './session.js';

export function showSignIn({ place, settings, notice, entered }) {
  const trouble = h('div');
  const providers = settings.providers.map((provider) => {
    const button = h('button', { type: 'button', class: 'primary wide' }, `Sign in with ${provider.name}`);
    button.addEventListener('click', () => act(button, () => leave(provider), trouble));
    return button;
  });
  const key = h('input', { type: 'password', autocomplete: 'off', required: true, spellcheck: 'false' });
  const id = h('input', { autocomplete: 'off', required: true, spellcheck: 'false', autocapitalize: 'none' });
  const secret = h('input', { type: 'password', autocomplete: 'off', required: true });

  const enter = (form, begin) => form.addEventListener('submit', (event) => {
    event.preventDefault();
    act(form.querySelector('button'), async () => {
      await begin();
      try {
        await get('status/systems');
      } catch (error) {
        if (error.status !== 401) throw error; // else the sign-in has ended, and the view is drawn anew with the reason
      }
      if (session.credential) await entered();
    }, trouble);
  });

  const client = h('form', {}, h('h2', {}, 'With a client'),
    field('Client id', id), field('Client secret', secret, 'On a gateway of your own they are in client.json of its state directory; crestline clients link prints a link that needs neither.'),
    h('button', { type: 'submit', class: providers.length ? '' : 'primary' }, 'Sign in'));
  enter(client, () => useClient(id.value.trim(), secret.value));
  const keyed = h('form', {}, h('h2', {}, 'With an API key'),
    field('API key', key, 'It begins with crk_.'), h('button', { type: 'submit' }, 'Sign in with the key'));
  enter(keyed, async () => useKey(key.value.trim()));

  place.append(
    h('h1', {}, 'Sign in'),
    h('p', {}, 'What you enter stays in this tab, and is forgotten when you close it.'),
    trouble,
    providers.length ? h('section', { class: 'card providers', 'aria-label': 'Identity providers' }, providers) : '',
    h('div', { class: 'two' }, h('section', { class: 'card' }, client), h('section', { class: 'card' }, keyed)),
  );
  if (notice) complain(trouble, new Error(notice));
}
