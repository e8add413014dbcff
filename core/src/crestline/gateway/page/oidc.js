// Signing in by an OpenID Connect provider: authorization code with PKCE (RFC 7636), as a public client.

import { askTokenEndpoint, lifeOf } from './tokens.js';

const KEY = `crestline sign-in ${document.baseURI}`;
const here = () => new URL('./', document.baseURI).href;

const encode = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
  .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const random = () => encode(crypto.getRandomValues(new Uint8Array(32)));

async function discover(issuer) {
  const answer = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`).catch(() => null);
  if (!answer?.ok) throw new Error(`${issuer} does not answer.`);
  const found = await answer.json();
  if (found.issuer !== issuer) throw new Error(`${issuer} says that it is ${found.issuer}.`);
  return found;
}

/** Leave for the provider. */
export async function leave(provider) {
  if (!crypto.subtle) throw new Error('Signing in this way needs HTTPS.');
  const [state, verifier] = [random(), random()];
  const { authorization_endpoint: endpoint } = await discover(provider.issuer);
  const challenge = encode(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  sessionStorage.setItem(KEY, JSON.stringify({ provider, state, verifier, place: location.hash }));
  const url = new URL(endpoint);
  const query = {
    response_type: 'code', client_id: provider.clientId, redirect_uri: here(), scope: provider.scope, state,
    code_challenge: challenge, code_challenge_method: 'S256', ...(provider.resource && { resource: provider.resource }),
  };
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  location.assign(url);
}

/** What the provider gave, if it has just sent the user back; null otherwise. The code leaves the address at once. */
export async function arrive() {
  const query = new URLSearchParams(location.search);
  if (!query.has('state')) return null;
  const begun = JSON.parse(sessionStorage.getItem(KEY));
  sessionStorage.removeItem(KEY);
  history.replaceState(null, '', here() + (begun?.place ?? ''));
  if (!begun || begun.state !== query.get('state')) throw new Error('This sign-in was not begun in this tab. Sign in again.');
  if (query.has('error')) throw new Error(query.get('error_description') ?? query.get('error'));
  const { provider } = begun;
  if (query.has('iss') && query.get('iss') !== provider.issuer) throw new Error('The answer is another provider\'s.');
  const found = await discover(provider.issuer);
  const answer = await askTokenEndpoint(found.token_endpoint, {
    grant_type: 'authorization_code', code: query.get('code'), redirect_uri: here(), client_id: provider.clientId,
    code_verifier: begun.verifier, ...(provider.resource && { resource: provider.resource }),
  });
  return { provider, endpoint: found.token_endpoint, refresh: answer.refresh_token, ...lifeOf(answer) };
}

/** A next token for a credential of `arrive`. */
export async function renewedByProvider({ provider, endpoint, refresh }) {
  if (!refresh) throw Object.assign(new Error('the provider wants to see you again.'), { refused: true });
  const answer = await askTokenEndpoint(endpoint, {
    grant_type: 'refresh_token', refresh_token: refresh, client_id: provider.clientId,
    ...(provider.resource && { resource: provider.resource }),
  });
  return { refresh: answer.refresh_token ?? refresh, ...lifeOf(answer) };
}
