// A real OpenID Connect provider for the tests: client credentials, JWT access tokens with a POSIX user name.
// Usage: node provider.js PORT KID; another KID after a restart is a rotation of keys.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, kid] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const users = { 'alice-client': 'alice', 'bob-client': 'bob', 'nameless-client': undefined };

const provider = new Provider(issuer, {
  clients: Object.keys(users).map((client_id) => ({
    client_id,
    client_secret: `${client_id}-secret-of-the-tests`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://hpc.test',
      getResourceServerInfo: (_context, resource) => ({
        audience: resource,
        scope: 'firecrest',
        accessTokenFormat: 'jwt',
        accessTokenTTL: 300,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: (_context, token) => ({ preferred_username: users[token.clientId] }),
});

provider.listen(Number(port), '127.0.0.1', () => console.log('READY'));
