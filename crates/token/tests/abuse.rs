//! Tokens that must not be believed, each for its own reason, and the one that must.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::{Action, ActionPattern, Actions, AgentId, InstanceId, Name};
use legate_token::{
    BadClaims, Chain, Claims, Confirmation, EcSigner as _, Expect, P256Signer, P256Verifier, Parsed, Scope, Status,
    Subject, TokenError, mint,
};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const EXPECT: Expect<'_> = Expect { issuer: "https://issuer.example", audience: "https://invoices.example", leeway: 5 };

fn signer() -> P256Signer {
    P256Signer::from_scalar(&[7; 32]).unwrap()
}

fn claims() -> Claims {
    let namespace = Name::parse("payments").unwrap();
    let agent = AgentId::from_parts(1, [1; 10]);
    Claims {
        issuer: EXPECT.issuer.into(),
        audience: EXPECT.audience.into(),
        subject: Subject::parse(&format!("spiffe://example.org/ns/payments/agent/{agent}")).unwrap(),
        issued_at: NOW,
        expires_at: NOW + 300,
        token_id: "0123456789abcdef0123456789abcdef".into(),
        scope: Scope::All,
        details: legate_token::Details::default(),
        lifecycle_version: 3,
        namespace,
        agent,
        instance: None,
        chain: Chain::default(),
        confirmation: Confirmation::Certificate([9; 32]),
        credential: None,
        status: None,
    }
}

fn verify_at(token: &str, expect: &Expect<'_>, now: u64) -> Result<Claims, TokenError> {
    let key = P256Verifier::new(signer().public_key());
    Ok(Parsed::parse(token)?.verify(&key, expect, now)?.into_claims())
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    verify_at(token, &EXPECT, NOW)
}

/// Signs any header and payload with the right key: what is refused then is refused for its content.
fn signed(header: &str, payload: &str) -> String {
    let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = signer().sign(input.as_bytes()).unwrap();
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn header() -> String {
    format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, signer().public_key().kid())
}

fn payload() -> String {
    let token = mint(&claims(), &signer()).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(Base64UrlUnpadded::decode_vec(payload).unwrap()).unwrap()
}

#[test]
fn a_token_is_not_shown_by_what_is_made_of_it() {
    let token = mint(&claims(), &signer()).unwrap();
    let parsed = Parsed::parse(&token).unwrap();
    let shown = format!("{parsed:?}");
    for part in token.split('.') {
        assert!(!shown.contains(part), "{shown}");
    }
    let signature = Base64UrlUnpadded::decode_vec(token.rsplit_once('.').unwrap().1).unwrap();
    assert!(!shown.contains(&format!("{}, {}, {}", signature[0], signature[1], signature[2])), "{shown}");
}

#[test]
fn a_good_token_says_what_was_signed() {
    let mut all = claims();
    all.instance = Some(InstanceId::from_parts(1, [2; 10]));
    let scope = ["invoice:read", "a", "ledger:*"];
    all.scope = Scope::Actions(scope.into_iter().map(|one| ActionPattern::parse(one).unwrap()).collect());
    all.status = Some(Status { index: u32::MAX, uri: "https://issuer.example/oauth2/status/0".into() });
    for made in [claims(), all] {
        assert_eq!(verify(&mint(&made, &signer()).unwrap()).unwrap(), made);
    }
    assert_eq!(verify(&signed(&header(), &payload())), Ok(claims()));
}

#[test]
fn a_place_in_a_status_list_is_there_whole_or_not_at_all() {
    let with = |status: &str| signed(&header(), &payload().replacen('{', &format!(r#"{{"status":{status},"#), 1));
    let uri = r#""uri":"https://issuer.example/oauth2/status/0""#;
    assert!(verify(&with(&format!(r#"{{"status_list":{{"idx":0,{uri}}}}}"#))).unwrap().status.is_some());
    for bad in [
        "null".into(),
        "{}".into(),
        "[]".into(),
        r#"{"status_list":{"idx":0}}"#.into(),
        r#"{"status_list":{"idx":0,"uri":""}}"#.into(),
        r#"{"status_list":{"idx":0,"uri":"a b"}}"#.into(),
        format!(r#"{{"status_list":{{{uri}}}}}"#),
        format!(r#"{{"status_list":{{"idx":-1,{uri}}}}}"#),
        format!(r#"{{"status_list":{{"idx":4294967296,{uri}}}}}"#),
        format!(r#"{{"status_list":{{"idx":"0",{uri}}}}}"#),
        format!(r#"{{"status_list":[0,{uri}]}}"#),
        format!(r#"{{"status_list":{{"idx":0,{uri}}},"other":{{}}}}"#),
    ] {
        assert!(verify(&with(&bad)).is_err(), "{bad}");
    }
}

#[test]
fn refuses_every_other_header() {
    let kid = signer().public_key().kid();
    let jwk = signer().public_key().to_jwk();
    let with = |more: &str| header().replace('}', &format!(",{more}}}"));
    let headers = [
        format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"es256","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"AT+JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"statuslist+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"application/at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":null,"kid":"{kid}"}}"#),
        format!(r#"{{"typ":"at+jwt","kid":"{kid}"}}"#),
        r#"{"alg":"ES256","typ":"at+jwt"}"#.into(),
        r#"{"alg":"ES256","typ":"at+jwt","kid":"../../../../dev/null"}"#.into(),
        r#"{"alg":"ES256","typ":"at+jwt","kid":"' OR 1=1 --"}"#.into(),
        r#"{"alg":"ES256","typ":"at+jwt","kid":""}"#.into(),
        format!(r#"["ES256","at+jwt","{kid}"]"#),
        format!("{} x", header()),
        "null".into(),
        String::new(),
        with(&format!(r#""jwk":{jwk}"#)),
        with(r#""jku":"https://evil.example/keys""#),
        with(r#""x5u":"https://evil.example/cert""#),
        with(r#""x5c":["AAAA"]"#),
        with(r#""crit":["exp"]"#),
        with(r#""crit":[]"#),
        with(r#""b64":false"#),
        with(r#""zip":"DEF""#),
        with(r#""alg":"ES256""#),
        with(r#""alg":"none""#),
        with(&format!(r#""kid":"{kid}""#)),
    ];
    for header in headers {
        assert_eq!(verify(&signed(&header, &payload())), Err(TokenError::Header), "{header}");
    }
}

#[test]
fn refuses_a_mac_made_with_the_public_key_and_no_signature() {
    let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let none = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(&payload()));
    assert_eq!(verify(&none), Err(TokenError::Form));
    let header = header().replace("ES256", "HS256");
    let input = format!("{}.{}", b64(&header), b64(&payload()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA512, signer().public_key().as_sec1());
    let mac = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    let forged = format!("{input}.{}", Base64UrlUnpadded::encode_string(mac.as_ref()));
    assert_eq!(verify(&forged), Err(TokenError::Header));
}

#[test]
fn refuses_every_claim_that_is_missing_doubled_or_of_another_type() {
    let names = ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope", "lv", "ns", "agent"];
    let whole: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&payload()).unwrap();
    assert_eq!(whole.len(), names.len() + 1, "and cnf");
    for name in names {
        let mut less = whole.clone();
        let value = less.remove(name).unwrap();
        let less = serde_json::to_string(&less).unwrap();
        assert_eq!(verify(&signed(&header(), &less)), Err(TokenError::Claims), "{name} missing");
        for other in [
            "null",
            "1.0",
            "1e3",
            "-1",
            "true",
            "[]",
            "{}",
            r#"["https://invoices.example"]"#,
            &format!("[{value}]"),
            "18446744073709551616",
        ] {
            let mut changed = whole.clone();
            changed.insert(name.into(), serde_json::from_str(other).unwrap());
            let changed = serde_json::to_string(&changed).unwrap();
            assert_eq!(verify(&signed(&header(), &changed)), Err(TokenError::Claims), "{name} = {other}");
        }
        let twice = payload().replacen('{', &format!(r#"{{"{name}":{value},"#), 1);
        assert_eq!(verify(&signed(&header(), &twice)), Err(TokenError::Claims), "{name} twice");
    }
    for (from, to) in [
        (r#""exp":1800000300"#, r#""exp":"1800000300""#),
        (r#""iat":1800000000"#, r#""iat":"1800000000""#),
        (r#""lv":3"#, r#""lv":"3""#),
        (r#""cnf":{"#, r#""nbf":1800000000,"cnf":{"#),
        (r#""cnf":{"#, r#""admin":true,"cnf":{"#),
        (r#""cnf":{"#, r#""cnf":{"x5c":"AA","#),
        (r#""cnf":{"#, r#""instance":null,"cnf":{"#),
        (r#""cnf":{"#, r#""act":null,"cnf":{"#),
        (r#""cnf":{"#, r#""act":["spiffe://x/y"],"cnf":{"#),
        (r#""cnf":{"#, r#""act":{},"cnf":{"#),
        (r#""cnf":{"#, r#""act":{"sub":"x","exp":1},"cnf":{"#),
        (r#""cnf":{"#, r#""may_act":{"sub":"x"},"cnf":{"#),
        (r#""cnf":{"#, r#""grants":null,"cnf":{"#),
        (r#""cnf":{"#, r#""grants":"g1","cnf":{"#),
        (r#""cnf":{"#, r#""grant":"g1","cnf":{"#),
        (r#""cnf":{"#, r#""parents":null,"cnf":{"#),
        (r#""cnf":{"#, r#""parents":{},"cnf":{"#),
        (r#""cnf":{"#, r#""parents":["0123456789abcdef"],"cnf":{"#),
        (r#""cnf":{"#, r#""parents":[{"jti":"0123456789abcdef"}],"cnf":{"#),
        (r#""cnf":{"#, r#""parents":[["0123456789abcdef",1]],"cnf":{"#),
        (r#""cnf":{"#, r#""cnf":null,"x":{"#),
    ] {
        let changed = payload().replacen(from, to, 1);
        assert_ne!(changed, payload(), "{from}");
        assert_eq!(verify(&signed(&header(), &changed)), Err(TokenError::Claims), "{to}");
    }
    for broken in ["", "[]", "null", "{", &format!("{}{}", payload(), payload())] {
        let error = verify(&signed(&header(), broken)).unwrap_err();
        assert!(matches!(error, TokenError::Claims | TokenError::Form), "{broken}");
    }
}

#[test]
fn refuses_values_out_of_their_range() {
    type Change = fn(&mut Claims);
    let cases: [(&str, Change); 7] = [
        ("iss", |c| c.issuer.clear()),
        ("aud", |c| c.audience = "a b".into()),
        ("aud", |c| c.audience = "x".repeat(513)),
        ("jti", |c| c.token_id = "short".into()),
        ("jti", |c| c.token_id = "a/../b0123456789abcdef".into()),
        ("scope", |c| c.scope = Scope::Actions(Actions::default())),
        ("scope", |c| c.scope = Scope::Actions(Actions::all())),
    ];
    for (claim, change) in cases {
        let mut changed = claims();
        change(&mut changed);
        let refused = mint(&changed, &signer()).unwrap_err();
        assert!(matches!(refused, TokenError::Claim(BadClaims { claim: c, .. }) if c == claim), "{claim}: {refused}");
    }
    for scope in ["", " ", "a  b", "a b ", "a a", "a:* a:b", "a*", "**", "A", "* a", &"a ".repeat(70)] {
        let changed = payload().replace(r#""scope":"*""#, &format!(r#""scope":"{scope}""#));
        let refused = verify(&signed(&header(), &changed)).unwrap_err();
        assert!(matches!(refused, TokenError::Claim(BadClaims { claim: "scope", .. })), "{scope}: {refused}");
    }
    let other = payload().replace(r#""client_id":"agt_"#, r#""client_id":"agx_"#);
    assert!(matches!(verify(&signed(&header(), &other)), Err(TokenError::Claim(BadClaims { claim: "client_id", .. }))));
    let deep = format!("{}{}", r#"{"sub":"a","act":"#.repeat(9), r#"{"sub":"a"}"#) + &"}".repeat(9);
    let deep = payload().replacen(r#""cnf""#, &format!(r#""act":{deep},"cnf""#), 1);
    assert!(matches!(verify(&signed(&header(), &deep)), Err(TokenError::Claim(BadClaims { claim: "act", .. }))));
}

#[test]
fn refuses_other_issuers_audiences_and_times() {
    let token = mint(&claims(), &signer()).unwrap();
    for audience in [
        "",
        "https://invoices.example/",
        "https://invoices.exampl",
        "HTTPS://invoices.example",
        "https://other.example",
    ] {
        let expect = Expect { audience, ..EXPECT };
        assert_eq!(verify_at(&token, &expect, NOW), Err(TokenError::Audience), "{audience}");
    }
    let expect = Expect { issuer: "https://issuer.example/", ..EXPECT };
    assert_eq!(verify_at(&token, &expect, NOW), Err(TokenError::Issuer));

    let strict = Expect { leeway: 0, ..EXPECT };
    let generous = Expect { leeway: 3600, ..EXPECT };
    for (expect, now, result) in [
        (&strict, NOW, Ok(())),
        (&strict, NOW + 299, Ok(())),
        (&strict, NOW + 300, Err(TokenError::Expired)),
        (&strict, NOW - 1, Err(TokenError::NotYet)),
        (&EXPECT, NOW + 304, Ok(())),
        (&EXPECT, NOW + 305, Err(TokenError::Expired)),
        (&EXPECT, NOW - 5, Ok(())),
        (&EXPECT, NOW - 6, Err(TokenError::NotYet)),
        (&generous, NOW + 305, Err(TokenError::Expired)),
        (&generous, NOW - 6, Err(TokenError::NotYet)),
        (&generous, u64::MAX, Err(TokenError::Expired)),
    ] {
        assert_eq!(verify_at(&token, expect, now).map(|_| ()), result, "{now} {expect:?}");
    }

    for (iat, exp) in [(NOW, NOW + 601), (NOW, NOW), (NOW, NOW - 1), (NOW, u64::MAX), (0, NOW), (0, 0)] {
        let changed = payload().replace("1800000000", &iat.to_string()).replace("1800000300", &exp.to_string());
        assert_eq!(verify(&signed(&header(), &changed)), Err(TokenError::Lifetime), "{iat} {exp}");
    }
}

#[test]
fn refuses_other_forms() {
    let token = mint(&claims(), &signer()).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    for bad in [
        String::new(),
        "..".into(),
        "a.b".into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{}.{}", token, parts[2]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]),
        format!("{}.{}.{}AA", parts[0], parts[1], parts[2]),
        token.replace('-', "+").replace('_', "/") + "+",
    ] {
        let refused = verify(&bad).unwrap_err();
        assert!(matches!(refused, TokenError::Form | TokenError::Signature), "{bad}: {refused}");
    }
    assert_eq!(verify(&"a".repeat(8193)), Err(TokenError::TooLong));
    let mut long = claims();
    let action = |i| Action::parse(&format!("{}:{i}", "a".repeat(120))).unwrap();
    long.scope = Scope::Actions((0..64).map(action).collect());
    assert_eq!(mint(&long, &signer()), Err(TokenError::TooLong));
}

#[test]
fn a_scope_with_a_pattern_covers_what_the_pattern_does() {
    let scope = |text: &str| {
        let actions: Actions = text.split(' ').map(|one| ActionPattern::parse(one).unwrap()).collect();
        Scope::of(actions).unwrap()
    };
    let covers = |text: &str, action: &str| scope(text).covers(&Action::parse(action).unwrap());
    assert!(covers("ledger:read invoice:*", "invoice:line:read") && covers("*", "a") && covers("a", "a"));
    assert!(!covers("ledger:read invoice:*", "invoice") && !covers("ledger:read", "ledger:write"));
    assert_eq!((scope("a *"), Scope::of(Actions::default())), (Scope::All, None));
}

#[test]
fn refuses_another_keys_signature() {
    let other = P256Signer::from_scalar(&[8; 32]).unwrap();
    let token = mint(&claims(), &other).unwrap();
    assert_eq!(Parsed::parse(&token).unwrap().kid(), &other.public_key().kid());
    assert_eq!(verify(&token), Err(TokenError::Signature));
    let zero = format!("{}.{}", token.rsplit_once('.').unwrap().0, Base64UrlUnpadded::encode_string(&[0; 64]));
    assert_eq!(verify(&zero), Err(TokenError::Signature));
    let debug = format!("{:?}", signer());
    assert!(debug.contains("hidden") && !debug.contains("7, 7"), "{debug}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever one character is changed to, and wherever, the token is not believed.
    #[test]
    fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9._-]") {
        let token = mint(&claims(), &signer()).unwrap();
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != to);
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assert!(verify(&changed).is_err());
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        prop_assert!(verify(&text).is_err());
        prop_assert!(verify(&signed(&text, &payload())).is_err());
        prop_assert!(verify(&signed(&header(), &text)).is_err());
    }

    #[test]
    fn what_is_minted_is_read_the_same(
        aud in "[!-~]{1,60}", iat in 0u64..4_000_000_000, life in 1u64..=600, lv: u64,
        certificate: [u8; 32],
    ) {
        let confirmation = Confirmation::Certificate(certificate);
        let made = Claims { audience: aud.clone(), issued_at: iat, expires_at: iat + life, lifecycle_version: lv, confirmation, ..claims() };
        let expect = Expect { audience: &aud, ..EXPECT };
        prop_assert_eq!(verify_at(&mint(&made, &signer()).unwrap(), &expect, iat), Ok(made));
    }
}
