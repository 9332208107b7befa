//! Crate `oauth2` as its users use it (legate-oauth2-client CONFIG), with a line for each thing that it did.

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::{env, error::Error, fs, io};

use oauth2::basic::{BasicClient, BasicErrorResponseType as Refusal, BasicTokenResponse};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IntrospectionUrl,
    RequestTokenError, RevocationUrl, Scope, StandardRevocableToken, TokenIntrospectionResponse as _,
    TokenResponse as _, TokenUrl,
};
use serde_json::Value;

type Failed = Box<dyn Error>;
type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet, EndpointSet>;
type Asked = RequestTokenError<io::Error, oauth2::basic::BasicErrorResponse>;

/// The issuer, and a client of it.
struct Site {
    config: Value,
}

impl Site {
    fn at(&self, name: &str) -> &str {
        self.config[name].as_str().unwrap_or_default()
    }

    fn client(&self, secret: &str, way: AuthType) -> Result<Client, Failed> {
        let url = |path: &str| format!("{}/oauth2/{path}", self.at("issuer"));
        Ok(BasicClient::new(ClientId::new(self.at("secret_id").to_owned()))
            .set_client_secret(ClientSecret::new(secret.to_owned()))
            .set_auth_type(way)
            .set_token_uri(TokenUrl::new(url("token"))?)
            .set_introspection_url(IntrospectionUrl::new(url("introspect"))?)
            .set_revocation_url(RevocationUrl::new(url("revoke"))?))
    }

    /// What the library needs of HTTP: curl does it, so that no second TLS is built for this.
    fn carry(&self, request: HttpRequest) -> io::Result<HttpResponse> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "10", "--cacert", self.at("ca")]);
        curl.args(["--write-out", "\n%{http_code} %{content_type}", "--data-binary", "@-"]);
        for (name, value) in request.headers() {
            curl.arg("--header").arg(format!("{name}: {}", value.to_str().map_err(io::Error::other)?));
        }
        let mut curl = curl.arg(request.uri().to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut input) = curl.stdin.take() {
            input.write_all(request.body())?;
        }
        let said = String::from_utf8(curl.wait_with_output()?.stdout).map_err(io::Error::other)?;
        let (body, end) = said.rsplit_once('\n').ok_or_else(|| io::Error::other("curl said nothing"))?;
        let (status, kind) = end.split_once(' ').unwrap_or((end, ""));
        let answer = http::Response::builder().status(status);
        let answer = if kind.is_empty() { answer } else { answer.header("content-type", kind) };
        answer.body(body.as_bytes().to_vec()).map_err(io::Error::other)
    }

    fn token(&self, secret: &str, way: AuthType, scope: &str, resource: &str) -> Result<BasicTokenResponse, Asked> {
        let client = self.client(secret, way).map_err(|e| RequestTokenError::Other(e.to_string()))?;
        let request = client.exchange_client_credentials().add_scope(Scope::new(scope.to_owned()));
        request.add_extra_param("resource", resource.to_owned()).request(&|request| self.carry(request))
    }

    /// A token that is what was asked for.
    fn good(&self, way: AuthType) -> Result<(BasicTokenResponse, String), Failed> {
        let answer = self.token(self.at("secret"), way, self.at("scope"), self.at("resource"))?;
        let scopes = answer.scopes().into_iter().flatten().map(|scope| scope.as_str());
        let seconds = answer.expires_in().unwrap_or_default().as_secs();
        if !scopes.eq([self.at("scope")]) || !(1..=600).contains(&seconds) {
            return Err(format!("{answer:?}").into());
        }
        Ok((answer, format!("a token of {seconds} s")))
    }

    fn refused(
        &self,
        secret: &str,
        way: AuthType,
        (scope, resource): (&str, &str),
        wanted: &Refusal,
    ) -> Result<String, Failed> {
        match self.token(secret, way, scope, resource) {
            Err(RequestTokenError::ServerResponse(told)) if told.error() == wanted => Ok(told.error().to_string()),
            Err(other) => Err(format!("{other:?}").into()),
            Ok(_) => Err("it works".into()),
        }
    }

    fn introspected(&self, client: &Client, token: &oauth2::AccessToken, wanted: bool) -> Result<String, Failed> {
        let told = client.introspect(token).request(&|request| self.carry(request))?;
        match told.active() == wanted {
            true => Ok(if wanted { "active" } else { "not active" }.to_owned()),
            false => Err(format!("{told:?}").into()),
        }
    }
}

fn main() -> Result<ExitCode, Failed> {
    let config = env::args().nth(1).ok_or("usage: legate-oauth2-client CONFIG")?;
    let site = Site { config: serde_json::from_slice(&fs::read(config)?)? };
    let mut failed = 0;
    let mut step = |what: &str, outcome: Result<String, Failed>| match outcome {
        Ok(said) => println!("ok      crate oauth2: {what}: {said}"),
        Err(why) => {
            failed += 1;
            println!("FAILED  crate oauth2: {what}: {why}");
        }
    };

    step("client_credentials by client_secret_post", site.good(AuthType::RequestBody).map(|(_, said)| said));
    let (answer, said) = site.good(AuthType::BasicAuth)?;
    step("client_credentials by client_secret_basic", Ok(said));
    let (client, token) = (site.client(site.at("secret"), AuthType::BasicAuth)?, answer.access_token());
    step("introspection (RFC 7662)", site.introspected(&client, token, true));
    let revoked = client.revoke_token(StandardRevocableToken::AccessToken(token.clone()))?;
    step(
        "revocation (RFC 7009)",
        revoked.request(&|request| site.carry(request)).map(|()| "done".to_owned()).map_err(Into::into),
    );
    step("introspection of what was taken back", site.introspected(&client, token, false));

    let (secret, wrong) = (site.at("secret").to_owned(), format!("lgt_sec_{}", "0".repeat(59)));
    let (mine, nobodys) = ((site.at("scope"), site.at("resource")), (site.at("scope"), "https://nobody.example"));
    let invalid_target = Refusal::Extension("invalid_target".to_owned());
    for (what, secret, way, wish, wanted) in [
        ("a wrong secret, basic", &wrong, AuthType::BasicAuth, mine, &Refusal::InvalidClient),
        ("a wrong secret, post", &wrong, AuthType::RequestBody, mine, &Refusal::InvalidClient),
        (
            "a scope that it may not have",
            &secret,
            AuthType::BasicAuth,
            ("order:refund", mine.1),
            &Refusal::InvalidScope,
        ),
        ("a resource that is nobody's", &secret, AuthType::BasicAuth, nobodys, &invalid_target),
    ] {
        step(what, site.refused(secret, way, wish, wanted));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
