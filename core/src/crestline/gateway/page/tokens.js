// Tokens as a token endpoint gives them (RFC 6749).

const SHORTEST = 35; // seconds: a gateway refuses tokens that live less than 30

/** The fields of a credential from a token endpoint's answer. */
export function lifeOf(answer) {
  const life = Number(answer.expires_in ?? 300);
  const ahead = Math.min(Math.max(life / 3, SHORTEST), 90);
  return { token: answer.access_token, expires: Date.now() + life * 1000, renewal: Date.now() + (life - ahead) * 1000 };
}

/** What a token endpoint answers to a form; errors that are its word have `refused`. */
export async function askTokenEndpoint(url, form) {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(form) }).catch(() => {
    throw new Error(`${new URL(url, document.baseURI).host} does not answer.`);
  });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok && body.access_token) return body;
  const error = new Error(body.error_description ?? body.error ?? `The token endpoint answered ${answer.status}.`);
  error.refused = answer.status < 500;
  throw error;
}
