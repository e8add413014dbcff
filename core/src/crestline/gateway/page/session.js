// Who is signed in. Credentials are kept for this tab alone, travel in headers and bodies alone, and tokens are renewed ahead.

import { renewedByProvider } from './oidc.js';
import { askTokenEndpoint, lifeOf } from './tokens.js';

const KEY = `crestline ${document.baseURI}`;

export const session = Object.assign(new EventTarget(), { user: null, credential: read() });

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

function keep(credential) {
  session.credential = credential;
  sessionStorage.setItem(KEY, JSON.stringify(credential));
  plan();
}

/** Sign in by an API key; the first request with it shows whether it is valid. */
export const useKey = (key) => keep({ kind: 'key', token: key });

/** Sign in by a client of the built-in issuer. */
export async function useClient(id, secret) {
  keep({ kind: 'client', id, secret, ...await clientToken(id, secret) });
}

/** Sign in by the one-time code of a link: the gateway gives an API key for it, which signing out revokes. */
export async function useLink(code) {
  const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ code }) };
  const answer = await fetch('page/sign-in', options).catch(() => null);
  if (!answer) throw new Error('The gateway does not answer. Open the link again.');
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.message ?? `The gateway answered ${answer.status}.`);
  revokeLinked();
  keep({ kind: 'link', token: body.secret, keyId: body.keyId });
}

function revokeLinked() {
  const { credential } = session;
  if (credential?.kind !== 'link') return;
  const headers = { Authorization: `Bearer ${credential.token}` };
  fetch(`keys/${credential.keyId}`, { method: 'DELETE', headers, keepalive: true }).catch(() => {});
}

/** Sign in with what the provider gave for a code. */
export const useProvider = (found) => keep({ kind: 'oidc', ...found });

export function signOut(reason = '') {
  if (!reason) revokeLinked();
  session.credential = null;
  session.user = null;
  sessionStorage.removeItem(KEY);
  clearTimeout(timer);
  session.dispatchEvent(new CustomEvent('end', { detail: reason }));
}

/** A token that is good for a while; `fresh` asks for another than the last. */
export async function token(fresh = false) {
  const { credential } = session;
  if (!credential) throw new Error('Sign in first.');
  if (credential.expires && (fresh || Date.now() > credential.renewal)) await renew();
  return session.credential?.token;
}

let renewing = null;
let timer;

function renew() {
  renewing ??= (async () => {
    const before = session.credential;
    try {
      const found = before.kind === 'client'
        ? await clientToken(before.id, before.secret) : await renewedByProvider(before);
      if (session.credential === before) keep({ ...before, ...found });
    } catch (error) {
      // Without an answer the token that is there is used as long as it is good.
      if (error.refused && session.credential === before) signOut(`Your sign-in has ended: ${error.message}`);
      if (error.refused || Date.now() > before.expires) throw error;
    }
  })().finally(() => { renewing = null; });
  return renewing;
}

function plan() {
  clearTimeout(timer);
  const { renewal } = session.credential ?? {};
  // Where it fails, the next request tries again.
  if (renewal) timer = setTimeout(() => renew().catch(() => {}), Math.min(Math.max(renewal - Date.now(), 1000), 2 ** 30));
}

async function clientToken(id, secret) {
  const form = { grant_type: 'client_credentials', client_id: id, client_secret: secret };
  return lifeOf(await askTokenEndpoint('oauth2/token', form));
}

plan();
