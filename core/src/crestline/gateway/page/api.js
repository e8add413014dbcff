// Requests to the gateway.

import { session, signOut, token } from './session.js';
import { setClock } from './words.js';

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** A path of the API; its segments may hold anything. */
export const path = (...segments) => segments.map(encodeURIComponent).join('/');

/** The answer to a request; its failure as an ApiError. `json` is a body to be sent as such. */
export async function send(url, { query = {}, headers = {}, json, ...options } = {}) {
  const target = new URL(url, document.baseURI);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) target.searchParams.set(name, value);
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    headers = { ...headers, 'Content-Type': 'application/json' };
  }
  let answer = await once(target, options, headers, await token());
  if (answer.status === 401 && session.credential?.expires) answer = await once(target, options, headers, await token(true));
  if (answer.headers.has('F7T-AuthUsername')) session.user = answer.headers.get('F7T-AuthUsername');
  setClock(answer.headers.get('F7T-Timestamp'));
  if (answer.ok || answer.status === 304) return answer;
  const body = await answer.json().catch(() => ({}));
  const error = new ApiError(answer.status, body.message ?? `The gateway answered ${answer.status}.`);
  if (answer.status === 401) signOut(error.message);
  throw error;
}

async function once(target, options, headers, credential) {
  try {
    return await fetch(target, { cache: 'no-store', ...options, headers: { ...headers, Authorization: `Bearer ${credential}` } });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The gateway does not answer.');
  }
}

/** The JSON of an answer. */
export const get = async (url, query, options) => (await send(url, { query, ...options })).json();

/** Wait; ends early when `signal` says so. */
export const pause = (milliseconds, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, milliseconds);
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
});
