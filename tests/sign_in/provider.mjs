// A real OpenID provider (npm oidc-provider, certified) on this machine, with its own pages for login and consent.
//
// One argument, JSON: { redirect_uri, client_secret, people: { name: [groups] } }. Writes a line of JSON with its issuer once it
// answers, then one for each ID token it gives out. Ends with its standard input.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const { redirect_uri, client_secret, people } = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
process.stdin.resume().on("end", () => process.exit(0));

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const provider = new Provider(issuer, {
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "ES256", use: "sig", kid: "one" }] },
    clients: [{
      client_id: "icegate",
      client_secret,
      redirect_uris: [redirect_uri],
      grant_types: ["authorization_code"],
      response_types: ["code"],
      id_token_signed_response_alg: "ES256",
    }],
    pkce: { required: () => true },
    cookies: { keys: ["of a test"] },
    // Groups in the ID token itself, for who asks with the scope `groups`.
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], groups: ["groups"] },
    findAccount: (_, sub) => people[sub] && { accountId: sub, claims: () => ({ sub, groups: people[sub] }) },
    ttl: { IdToken: 3600, AccessToken: 3600, AuthorizationCode: 60, Grant: 3600, Interaction: 3600, Session: 3600 },
  });
  provider.on("grant.success", (context) => say({ id_token: context.body.id_token }));
  provider.on("server_error", (_, error) => console.error(error));
  server.on("request", provider.callback());
  say({ issuer });
});
