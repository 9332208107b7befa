// npm openid-client as its users use it: node openid-client.mjs CONFIG. One line for each thing that it did; ends with 1 where one
// of them did not come out as it should.
import { readFileSync } from 'node:fs';
import { Agent, fetch } from 'undici';
import * as oauth from 'openid-client';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { issuer, resource, scope } = config;
const ca = readFileSync(config.ca);
const anonymous = new Agent({ connect: { ca } });
const certified = new Agent({ connect: { ca, cert: readFileSync(config.pem), key: readFileSync(config.pem) } });
const jwk = JSON.parse(readFileSync(config.jwk, 'utf8'));
const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
const stranger = (await oauth.randomDPoPKeyPair('ES256')).privateKey;
const wanted = { resource, scope };

/** A client that knows the issuer's URL and finds the rest itself. */
const client = (id, way, dispatcher = anonymous) =>
  oauth.discovery(new URL(issuer), id, undefined, way, {
    algorithm: 'oauth2',
    [oauth.customFetch]: (url, options) => fetch(url, { ...options, dispatcher }),
  });

let failed = 0;
async function step(what, body) {
  try {
    console.log(`ok      openid-client: ${what}: ${await body()}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  openid-client: ${what}: ${error.stack} ${JSON.stringify(error.cause ?? {})}`);
  }
}
function must(truth, what) {
  if (!truth) throw new Error(what);
}
/** What the library makes of a refusal. */
async function refused(status, error, work) {
  const answer = await work.then(() => undefined, (thrown) => thrown);
  must(answer instanceof oauth.ResponseBodyError, `no OAuth error, but ${answer}`);
  must(answer.status === status && answer.error === error, `${answer.status} ${answer.error}: ${answer.error_description}`);
  return `${answer.status} ${answer.error}`;
}
const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
function good(answer, sub, type) {
  must(answer.token_type === type, `token_type ${answer.token_type}`);
  must(answer.scope === scope, `scope ${answer.scope}`);
  must(answer.expires_in > 0 && answer.expires_in <= 600, `expires_in ${answer.expires_in}`);
  const said = claims(answer.access_token);
  must(said.client_id === sub && said.aud === resource && said.iss === issuer, JSON.stringify(said));
  return said;
}

const basic = await client(config.secret_id, oauth.ClientSecretBasic(config.secret));
const post = await client(config.secret_id, oauth.ClientSecretPost(config.secret));
const signed = await client(config.jwt_id, oauth.PrivateKeyJwt({ key, kid: jwk.kid }));
const other = await client(config.jwt_id, oauth.ClientSecretBasic(config.jwt_secret));
const mtls = await client(config.mtls_id, oauth.TlsClientAuth(), certified);

await step('discovery (RFC 8414)', async () => {
  const found = basic.serverMetadata();
  must(found.issuer === issuer && found.token_endpoint === `${issuer}/oauth2/token`, JSON.stringify(found));
  for (const way of ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth'])
    must(found.token_endpoint_auth_methods_supported.includes(way), way);
  return found.token_endpoint;
});

let token;
for (const [what, who, id] of [
  ['client_secret_basic', basic, config.secret_id],
  ['client_secret_post', post, config.secret_id],
  ['private_key_jwt', signed, config.jwt_id],
])
  await step(`client_credentials by ${what}`, async () => {
    const answer = await oauth.clientCredentialsGrant(who, wanted);
    const said = good(answer, id, 'bearer');
    if (who === basic) token = answer.access_token;
    return `a token of ${said.exp - said.iat} s for ${said.aud}`;
  });
await step('client_credentials by tls_client_auth', async () => {
  const said = good(await oauth.clientCredentialsGrant(mtls, wanted), config.mtls_id, 'bearer');
  must(said.cnf?.['x5t#S256'], 'bound to no certificate');
  return `bound to the certificate ${said.cnf['x5t#S256']}`;
});
await step('client_credentials with DPoP', async () => {
  // The first try gets a nonce, and the library comes again by itself.
  const handle = oauth.getDPoPHandle(basic, await oauth.randomDPoPKeyPair('ES256'));
  const answer = await oauth.clientCredentialsGrant(basic, wanted, { DPoP: handle });
  const said = good(answer, config.secret_id, 'dpop');
  must(said.cnf?.jkt === (await handle.calculateThumbprint()), 'bound to another key');
  return `bound to the key ${said.cnf.jkt}`;
});

const exchange = (subject_token, more = {}) =>
  oauth.genericGrantRequest(signed, 'urn:ietf:params:oauth:grant-type:token-exchange', {
    subject_token,
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    ...wanted,
    ...more,
  });
let exchanged;
await step('token exchange (RFC 8693)', async () => {
  const answer = await exchange(token);
  must(answer.issued_token_type === 'urn:ietf:params:oauth:token-type:access_token', answer.issued_token_type);
  exchanged = answer.access_token;
  const said = claims(exchanged);
  must(said.sub === claims(token).sub && said.act?.sub, JSON.stringify(said));
  return `${said.act.sub} acts for ${said.sub}`;
});
await step('introspection (RFC 7662)', async () => {
  const told = await oauth.tokenIntrospection(other, exchanged);
  must(told.active === true && told.client_id === config.jwt_id && told.act, JSON.stringify(told));
  return `active, ${told.scope}, until ${told.exp}`;
});
await step('introspection of what is no token', async () => {
  const told = await oauth.tokenIntrospection(other, 'no-token');
  must(told.active === false && Object.keys(told).length === 1, JSON.stringify(told));
  return 'not active';
});
await step('revocation (RFC 7009)', async () => {
  await oauth.tokenRevocation(basic, token);
  const told = await oauth.tokenIntrospection(basic, token);
  must(told.active === false, JSON.stringify(told));
  return 'and it is active no longer';
});
await step('what was exchanged falls with it', async () => {
  must((await oauth.tokenIntrospection(other, exchanged)).active === false, 'still active');
  return refused(400, 'invalid_grant', exchange(token));
});

const wrong = 'lgt_sec_' + '0'.repeat(59);
await step('a wrong secret, basic', async () =>
  // The library tells the challenge of a 401, and keeps the answer beside it.
  oauth.clientCredentialsGrant(await client(config.secret_id, oauth.ClientSecretBasic(wrong)), wanted).then(
    () => must(false, 'it works'),
    async (error) => {
      must(error instanceof oauth.WWWAuthenticateChallengeError && error.status === 401, `${error}`);
      const { error: code } = await error.response.json();
      must(error.cause[0].scheme === 'basic' && code === 'invalid_client', code);
      return `401 ${code}`;
    },
  ),
);
for (const [what, status, error, work] of [
  ['a wrong secret, post', 401, 'invalid_client', async () => [await client(config.secret_id, oauth.ClientSecretPost(wrong)), wanted]],
  ['a client that is none', 401, 'invalid_client', async () => [await client('agt_nobody', oauth.ClientSecretPost(config.secret)), wanted]],
  ['an assertion by another key', 401, 'invalid_client', async () => [await client(config.jwt_id, oauth.PrivateKeyJwt(stranger)), wanted]],
  ['no certificate', 401, 'invalid_client', async () => [await client(config.mtls_id, oauth.TlsClientAuth()), wanted]],
  ['another client’s certificate', 401, 'invalid_client', async () => [await client(config.secret_id, oauth.TlsClientAuth(), certified), wanted]],
  ['a scope that it may not have', 400, 'invalid_scope', async () => [basic, { resource, scope: 'order:refund' }]],
  ['a resource that is nobody’s', 400, 'invalid_target', async () => [basic, { resource: 'https://nobody.example', scope }]],
])
  await step(what, async () => refused(status, error, oauth.clientCredentialsGrant(...(await work()))));
await step('a grant that is not served', async () =>
  refused(400, 'unsupported_grant_type', oauth.genericGrantRequest(basic, 'password', { username: 'a', password: 'b' })),
);
await step('a subject token that was changed', async () =>
  refused(400, 'invalid_grant', exchange(exchanged.slice(0, -8) + 'AAAAAAAA')),
);

await Promise.all([anonymous.close(), certified.close()]);
process.exitCode = failed > 0 ? 1 : 0;
