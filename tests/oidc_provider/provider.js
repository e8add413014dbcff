// A real OpenID Connect provider for the tests: client credentials, JWT access tokens with a POSIX user name and groups.
// Usage: node provider.js PORT KID [REDIRECT_URI LIFETIME]; another KID after a restart is a rotation of keys.
// With a redirect URI there is a client `hub-client` for people to sign in: a form that takes any name, refresh tokens
// that are good for one use, access tokens with a life of LIFETIME seconds. `page-client` is the same without a secret,
// for scripts in a browser, which may ask from any origin.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, kid, redirect, lifetime = '300'] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const users = { 'alice-client': 'alice', 'bob-client': 'bob', 'nameless-client': undefined };

const groups = { 'alice-client': ['hpc', 'staff'], 'bob-client': ['guests'] };

const hub = {
  client_id: 'hub-client',
  client_secret: 'hub-client-secret-of-the-tests',
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: [redirect],
  response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_post',
};

const page = {
  client_id: 'page-client',
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: [redirect],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
};

const provider = new Provider(issuer, {
  clientBasedCORS: () => true,
  clients: [...Object.keys(users).map((client_id) => ({
    client_id,
    client_secret: `${client_id}-secret-of-the-tests`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })), ...(redirect ? [hub, page] : [])],
  findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: () => true,
  pkce: { required: () => false },
  loadExistingGrant: async (context) => {
    const { client, session, provider } = context.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid offline_access');
    grant.addResourceScope('https://hpc.test', 'firecrest');
    await grant.save();
    return grant;
  },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: Boolean(redirect) },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://hpc.test',
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => ({
        audience: resource,
        scope: 'firecrest firecrest.read jobs:read',
        accessTokenFormat: 'jwt',
        accessTokenTTL: Number(lifetime),
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: (_context, token) => ({
    preferred_username: token.accountId ?? users[token.clientId],
    groups: groups[token.clientId],
    realm_access: { roles: groups[token.clientId] ?? [] },
  }),
});

provider.listen(Number(port), '127.0.0.1', () => console.log('READY'));
