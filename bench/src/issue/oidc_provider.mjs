// The npm package oidc-provider as an issuer of signed access tokens to clients by their secret or their key: over plain HTTP,
// with its own store in memory, and no more switched on than that takes. Argument: the directory that it is installed in. Standard input:
// the clients and the audience, as JSON. Prints its port.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const { clients, audience } = JSON.parse(await text(process.stdin));

// Its issuer holds the port, so the port comes first.
// The connections wait their turn for as long as a round takes, and are not closed meanwhile.
const server = createServer({ keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 });
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address();

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...privateKey.export({ format: 'jwk' }), kid: 'a', alg: 'ES256', use: 'sig' };
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: clients.map((client) => ({
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
    ...client,
  })),
  jwks: { keys: [key] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope: '',
        audience,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 300,
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
server.on('request', provider.callback());
console.log(port);
