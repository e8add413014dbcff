// The page: which view is shown, for which system, and for whom.

import { get } from './api.js';
import { announce, h, showFailure } from './dom.js';
import { showFile } from './file.js';
import { showFiles } from './files.js';
import { showJob } from './job.js';
import { showJobs } from './jobs.js';
import { showKeys } from './keys.js';
import { arrive } from './oidc.js';
import { session, signOut, useLink, useProvider } from './session.js';
import { showSignIn } from './signin.js';
import { showSubmit } from './submit.js';
import { showSystems } from './systems.js';
import { moment } from './words.js';

const main = document.getElementById('main');
const navigation = document.getElementById('navigation');
const account = document.getElementById('account');

const VIEWS = {
  '': { title: 'Systems', show: showSystems },
  jobs: { title: 'Jobs', show: (context) => (context.rest.length ? showJob(context) : showJobs(context)), system: true },
  submit: { title: 'Submit', show: showSubmit, system: true },
  files: { title: 'Files', show: showFiles, system: true },
  keys: { title: 'API keys', show: showKeys },
  view: { show: showFile, system: true },
};

/** Headings of views that the gateway refused, by status. */
const TITLES = { 403: 'Not allowed', 404: 'Not found' };

const failure = (title, message) => Object.assign(new Error(message), { title });

const state = { settings: null, systems: null, chosen: null, leaving: null };

/** `#/jobs/daint/12` as its words. */
const route = () => location.hash.replace(/^#\/?/, '').split('?')[0].split('/').filter(Boolean).map((word) => {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
});

/** What follows a question mark in the address. */
const query = () => new URLSearchParams(location.hash.split('?')[1] ?? '');

async function show() {
  state.leaving?.abort();
  state.leaving = new AbortController();
  const { signal } = state.leaving;
  const [name = '', system, ...rest] = route();
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : null;
  const place = h('div', { class: `view ${name}` });
  const notices = h('div');
  main.replaceChildren(notices, place);
  if (!session.credential) {
    draw('');
    showSignIn({ place, settings: state.settings, notice: state.notice, entered: show });
    return settle('Sign in', place);
  }
  showNotices(notices, signal);
  try {
    state.systems ??= (await get('status/systems', {}, { signal })).systems;
    if (signal.aborted) return undefined;
    const found = state.systems.find((each) => each.name.toLowerCase() === system?.toLowerCase());
    state.chosen = found ?? state.chosen ?? state.systems[0];
    draw(name);
    if (!view) throw failure('Page not found', 'The address names no page of this gateway.');
    if (view.system && system && !found) throw failure('System not found', `This gateway has no system ${system}, or you are not allowed to use it.`);
    if (view.system && !state.chosen) throw failure('No system', 'This gateway has no system that you are allowed to use. Ask its operator.');
    const context = { place, rest, query: query(), signal, system: state.chosen, systems: state.systems, settings: state.settings };
    const title = await view.show(context);
    if (!signal.aborted) settle(title ?? view.title, place);
  } catch (error) {
    // A sign-in that has ended shows its own view.
    if (signal.aborted || !session.credential) return undefined;
    draw(name);
    const title = error.title ?? TITLES[error.status] ?? 'This page could not be loaded';
    const { chosen } = state;
    const isFinal = error.title || TITLES[error.status];
    showFailure(place, title, error, [
      isFinal ? null : h('button', { type: 'button', onclick: show }, 'Try again'),
      chosen ? h('a', { href: `#/jobs/${encodeURIComponent(chosen.name)}` }, `Jobs on ${chosen.name}`) : null,
      h('a', { href: '#/' }, 'Systems'),
    ]);
    settle(title, place);
  }
  return undefined;
}

/** Maintenances that are under way or ahead. A gateway that tells of none has none. */
async function showNotices(place, signal) {
  const { notices = [] } = await get('page/notices.json', {}, { signal }).catch(() => ({}));
  const span = ({ start, end }) => [start && `from ${moment(start)}`, end && `until ${moment(end)}`].filter(Boolean).join(' ');
  place.replaceChildren(...notices.map((each) => h('p', { class: 'notice' },
    h('strong', {}, `Maintenance${each.system ? ` of ${each.system}` : ''} ${span(each)}: `), each.message)));
}

/** Name the view and put the focus at its start, as a new page would. */
function settle(title, place) {
  document.title = `${title} · Crestline`;
  const heading = place.querySelector('h1');
  if (heading && !place.contains(document.activeElement) && document.activeElement?.tagName !== 'SELECT') {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

function draw(current) {
  navigation.hidden = !session.credential;
  if (!session.credential) {
    account.replaceChildren();
    return;
  }
  const chosen = state.chosen?.name ?? '';
  const links = Object.entries(VIEWS).filter(([, view]) => view.title).map(([name, view]) => h('a', {
    href: view.system ? `#/${name}/${encodeURIComponent(chosen)}` : `#/${name}`,
    'aria-current': name === current || (name === 'files' && current === 'view') ? 'page' : null,
  }, view.title));
  navigation.replaceChildren(...links);
  const apis = state.settings.apis.map((each) => each.name).join(', ');
  const select = h('select', { 'aria-label': 'System', title: `Served by ${state.chosen?.api ?? apis}`, onchange: () => choose(select.value) },
    (state.systems ?? []).map((each) => h('option', { value: each.name, selected: each.name === chosen }, each.name)));
  const out = h('button', { type: 'button', onclick: () => signOut() }, 'Sign out');
  const held = account.querySelector('select') === document.activeElement && document.activeElement;
  account.replaceChildren(select, h('span', { class: 'user' }, session.user ?? ''), out);
  if (held) select.focus(); // arrows go from one system to the next
}

function choose(name) {
  state.chosen = state.systems.find((each) => each.name === name);
  const [view = ''] = route();
  const next = `#/${VIEWS[view]?.title ? view : 'files'}/${encodeURIComponent(name)}`;
  if (VIEWS[view]?.system) location.hash = next;
  else draw(view);
}

session.addEventListener('end', (event) => {
  Object.assign(state, { systems: null, chosen: null, notice: event.detail });
  show();
});
window.addEventListener('hashchange', async () => {
  await signInByLink();
  await show();
});
document.getElementById('skip').addEventListener('click', () => main.focus());

/** Sign in if the address is a sign-in link. The code leaves the address, and the history, before anything else. */
async function signInByLink() {
  const [name, code] = route();
  if (name !== 'sign-in') return;
  history.replaceState(null, '', `${location.pathname}${location.search}#/`);
  try {
    await useLink(code ?? '');
    Object.assign(state, { systems: null, chosen: null, notice: '' });
  } catch (error) {
    state.notice = error.message;
    announce(error.message, true);
  }
}

async function start() {
  await signInByLink();
  const answer = await fetch('page/settings.json').catch(() => null);
  if (!answer?.ok) throw new Error('The gateway does not answer. Reload the page.');
  state.settings = await answer.json();
  document.getElementById('version').textContent = `Crestline ${state.settings.version}`;
  try {
    const found = await arrive();
    if (found) useProvider(found);
  } catch (error) {
    state.notice = error.message;
    announce(error.message, true);
  }
  await show();
}

start().catch((error) => {
  const title = 'This page could not be loaded';
  showFailure(main, title, error, [h('button', { type: 'button', onclick: () => location.reload() }, 'Reload')]);
  settle(title, main);
});
