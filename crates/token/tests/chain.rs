//! Chains and confirmations: what is minted is read the same, and what nobody could have been given is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::{AgentId, InstanceId, Name, SpiffeId, TrustDomain};
use legate_token::{
    BadClaims, Chain, Claims, Confirmation, EcSigner as _, Expect, P256Signer, P256Verifier, Parent, Parsed, Scope,
    Subject, TokenError, mint,
};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const EXPECT: Expect<'_> = Expect { issuer: "https://issuer.example", audience: "https://invoices.example", leeway: 5 };

fn signer() -> P256Signer {
    P256Signer::from_scalar(&[7; 32]).unwrap()
}

fn agent(n: u8) -> AgentId {
    AgentId::from_parts(1, [n; 10])
}

fn spiffe(namespace: &str, n: u8) -> SpiffeId {
    SpiffeId::agent(&TrustDomain::parse("example.org").unwrap(), &Name::parse(namespace).unwrap(), &agent(n))
}

fn parent(n: u8) -> Parent {
    Parent {
        token_id: format!("{n:032x}"),
        lifecycle_version: n.into(),
        confirmation: Confirmation::Certificate([n; 32]),
        credential: None,
    }
}

/// A token of agent 1 for `subject`, by way of `others`, newest first.
fn claims(subject: Subject, others: &[u8]) -> Claims {
    let actors: Vec<SpiffeId> =
        std::iter::once(1).chain(others.iter().copied()).map(|n| spiffe("payments", n)).collect();
    let exchanged = actors.len() - usize::from(matches!(subject, Subject::Person(_)));
    let count = |n: usize| u8::try_from(n).unwrap();
    Claims {
        issuer: EXPECT.issuer.into(),
        audience: EXPECT.audience.into(),
        issued_at: NOW,
        expires_at: NOW + 300,
        token_id: "0123456789abcdef0123456789abcdef".into(),
        scope: Scope::All,
        details: legate_token::Details::default(),
        lifecycle_version: 3,
        namespace: Name::parse("payments").unwrap(),
        agent: agent(1),
        instance: None,
        chain: Chain {
            grants: (0..actors.len()).map(|n| format!("obj_{n}")).collect(),
            parents: (0..exchanged).map(|n| parent(count(n))).collect(),
            actors,
            groups: Vec::new(),
        },
        subject,
        confirmation: Confirmation::Certificate([9; 32]),
        credential: None,
        status: None,
    }
}

fn ada() -> Subject {
    Subject::Person("ada@example.com".into())
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    let key = P256Verifier::new(signer().public_key());
    Ok(Parsed::parse(token)?.verify(&key, &EXPECT, NOW)?.into_claims())
}

fn payload(claims: &Claims) -> String {
    let token = mint(claims, &signer()).unwrap();
    String::from_utf8(Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// Signs any payload with the right key.
fn signed(payload: &str) -> String {
    let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, signer().public_key().kid());
    let input = format!("{}.{}", b64(&header), b64(payload));
    let signature = signer().sign(input.as_bytes()).unwrap();
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn refused(claims: &Claims) -> &'static str {
    match mint(claims, &signer()) {
        Err(TokenError::Claim(BadClaims { claim, .. })) => claim,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_actor_is_the_outermost() {
    let made = claims(ada(), &[2, 3]);
    let json: serde_json::Value = serde_json::from_str(&payload(&made)).unwrap();
    assert_eq!(json["sub"], "user:ada@example.com");
    // RFC 8693 section 4.1: the outermost acts, those within acted before it.
    for (pointer, n) in [("/act/sub", 1), ("/act/act/sub", 2), ("/act/act/act/sub", 3)] {
        assert_eq!(json.pointer(pointer).unwrap(), spiffe("payments", n).as_str());
    }
    assert!(json.pointer("/act/act/act/act").is_none());
    assert_eq!(json["grants"], serde_json::json!(["obj_0", "obj_1", "obj_2"]));
    assert_eq!(json["parents"].as_array().unwrap().len(), 2, "ada's own token is not ours");
    let holders: Vec<_> = made.chain.holders(&made.subject).map(|(id, parent)| (id.clone(), parent.clone())).collect();
    assert_eq!(holders, [(spiffe("payments", 2), parent(0)), (spiffe("payments", 3), parent(1))]);
}

#[test]
fn an_agent_that_let_act_is_the_holder_of_the_oldest_token() {
    let made = claims(Subject::Agent(spiffe("payments", 4)), &[2]);
    let holders: Vec<_> = made.chain.holders(&made.subject).map(|(id, _)| id.clone()).collect();
    assert_eq!(holders, [spiffe("payments", 2), spiffe("payments", 4)]);
    assert_eq!(verify(&mint(&made, &signer()).unwrap()), Ok(made));
}

#[test]
fn a_person_is_of_so_many_groups_in_order_and_an_agent_of_none() {
    let of = |subject: Subject, groups: &[String]| {
        let mut made = claims(subject, &[2]);
        made.chain.groups = groups.to_vec();
        made
    };
    let named = |names: &[&str]| names.iter().map(|name| format!("group:{name}")).collect::<Vec<_>>();
    let many: Vec<String> = (10..26).map(|n| format!("group:g{n}")).collect();
    for groups in [named(&[]), named(&["a", "b"]), named(&["Ünï"]), named(&[&"x".repeat(256)]), many.clone()] {
        let made = of(ada(), &groups);
        assert_eq!(payload(&made).contains("\"groups\""), !groups.is_empty(), "none are not written");
        assert_eq!(verify(&mint(&made, &signer()).unwrap()), Ok(made));
    }
    let more: Vec<String> = many.iter().cloned().chain(named(&["z"])).collect();
    for groups in [
        named(&["b", "a"]),
        named(&["a", "a"]),
        named(&[""]),
        named(&["a b"]),
        named(&["a\u{202e}"]),
        named(&[&"x".repeat(257)]),
        vec!["a".to_owned()],
        vec!["user:a".to_owned()],
        more,
    ] {
        assert_eq!(refused(&of(ada(), &groups)), "groups", "{groups:?}");
    }
    assert_eq!(refused(&of(Subject::Agent(spiffe("payments", 4)), &named(&["a"]))), "groups");
    assert_eq!(legate_token::group_of_people("a").as_deref(), Some("group:a"));
    assert_eq!(legate_token::group_of_people("a\n"), None);
}

#[test]
fn what_no_chain_can_be_is_refused() {
    let domain = TrustDomain::parse("example.org").unwrap();
    let namespace = Name::parse("payments").unwrap();
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut made = claims(ada(), &[2, 3]);
        change(&mut made);
        refused(&made)
    };
    // Who acts is whom the token is given to.
    assert_eq!(with(&|c| c.agent = agent(2)), "act");
    assert_eq!(with(&|c| c.chain.actors.rotate_left(1)), "act");
    // In a circle, as another copy of an agent too, and back to the subject.
    assert_eq!(with(&|c| c.chain.actors[2] = spiffe("payments", 1)), "act");
    let copy = InstanceId::from_parts(1, [2; 10]);
    assert_eq!(with(&|c| c.chain.actors[2] = SpiffeId::instance(&domain, &namespace, &agent(2), &copy)), "act");
    assert_eq!(refused(&claims(Subject::Agent(spiffe("payments", 2)), &[2])), "act");
    assert_eq!(refused(&claims(Subject::Agent(spiffe("payments", 1)), &[])), "act");
    // Through another namespace, or through somebody who is no agent.
    assert_eq!(with(&|c| c.chain.actors[1] = spiffe("sales", 2)), "act");
    let enforcer = SpiffeId::enforcer(&domain, &namespace, &Name::parse("ledger").unwrap());
    assert_eq!(with(&|c| c.chain.actors[1] = enforcer.clone()), "act");
    assert_eq!(with(&|c| c.subject = Subject::Agent(enforcer.clone())), "sub");
    assert_eq!(refused(&claims(Subject::Agent(spiffe("sales", 4)), &[])), "act");
    // Too long, or with a link that nobody granted or no token was exchanged for.
    assert_eq!(refused(&claims(ada(), &[2, 3, 4, 5, 6, 7, 8, 9])), "act");
    assert_eq!(with(&|c| drop(c.chain.grants.pop())), "grants");
    assert_eq!(with(&|c| c.chain.grants.push("obj_9".into())), "grants");
    assert_eq!(with(&|c| c.chain.grants[1] = "a b".into()), "grants");
    assert_eq!(with(&|c| drop(c.chain.parents.pop())), "parents");
    assert_eq!(with(&|c| c.chain.parents.push(parent(9))), "parents");
    assert_eq!(with(&|c| c.chain.parents[0].token_id = "short".into()), "parents");
    // A person acts through somebody, and an agent for itself with nothing of others.
    assert_eq!(with(&|c| c.chain = Chain::default()), "sub");
    let mut own = claims(Subject::Agent(spiffe("payments", 4)), &[]);
    own.chain.actors.clear();
    assert_eq!(refused(&own), "sub", "another agent's without acting for it");
    own.subject = Subject::Agent(spiffe("payments", 1));
    assert_eq!(refused(&own), "grants");
    for name in ["", "a b", "a\u{a0}b", "a\n", "a\u{202e}b", "\u{200b}", &"x".repeat(257)] {
        assert_eq!(with(&|c| c.subject = Subject::Person(name.into())), "sub", "{name:?}");
        assert!(Subject::parse(&format!("user:{name}")).is_err(), "{name:?}");
    }
}

#[test]
fn signed_chains_of_another_form_are_refused_too() {
    let whole = payload(&claims(ada(), &[2]));
    for (claim, from, to) in [
        (
            "act",
            r#""act":{"sub":"spiffe://example.org/ns/payments/agent/"#,
            r#""act":{"sub":"spiffe://example.org/ns/sales/agent/"#,
        ),
        ("act", r#""act":{"sub":"spiffe:"#, r#""act":{"sub":"SPIFFE:"#),
        ("sub", "user:ada", "group:ada"),
        ("sub", "user:ada@example.com", "ada"),
        ("parents", r#""parents":[{"jti":"0"#, r#""parents":[{"jti":"/"#),
        ("parents", r#""x5t#S256":"AAA"#, r#""x5t#S256":"A"#),
        ("cnf", r#"}],"cnf":{"#, r#"}],"cnf":{"jkt":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk","#),
        ("cnf", r#"}],"cnf":{"x5t#S256":"CQkJ"#, r#"}],"cnf":{"jkt":"CQk"#),
        ("cnf", r#"}],"cnf":{"x5t#S256":"CQkJ"#, r#"}],"cnf":{"x5t#S256":"CQk="#),
    ] {
        let changed = whole.replacen(from, to, 1);
        assert_ne!(changed, whole, "{from}");
        let told = verify(&signed(&changed)).unwrap_err();
        assert!(matches!(told, TokenError::Claim(BadClaims { claim: c, .. }) if c == claim), "{to}: {told}");
    }
    let cut = whole.split(r#","cnf":{"x5t#S256":"CQ"#).next().unwrap();
    for cnf in ["{}", "[]", r#""x""#, r#"{"x5t#S256":null}"#, r#"{"jwk":{}}"#] {
        let told = verify(&signed(&format!(r#"{cut},"cnf":{cnf}}}"#))).unwrap_err();
        assert!(
            matches!(told, TokenError::Claims | TokenError::Claim(BadClaims { claim: "cnf", .. })),
            "{cnf}: {told}"
        );
    }
    let bearer = verify(&signed(&format!("{cut}}}"))).unwrap();
    assert_eq!(bearer.confirmation, Confirmation::Bearer);
    // Deeper than any chain is: the reader stops, and so do we.
    for depth in [9, 40] {
        let one = format!(r#"{{"sub":"{}","act":"#, spiffe("payments", 1));
        let deep = format!(r#"{}{{"sub":"a"}}{}"#, one.repeat(depth), "}".repeat(depth));
        let own = payload(&claims(ada(), &[]));
        let act = format!(r#""act":{{"sub":"{}"}}"#, spiffe("payments", 1));
        let changed = own.replacen(&act, &format!(r#""act":{deep}"#), 1);
        assert_ne!(changed, own);
        let told = verify(&signed(&changed)).unwrap_err();
        assert!(
            matches!(told, TokenError::Claims | TokenError::Claim(BadClaims { claim: "act", .. })),
            "{depth}: {told}"
        );
    }
}

fn confirmations() -> impl Strategy<Value = Confirmation> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(Confirmation::Certificate),
        any::<[u8; 32]>().prop_map(Confirmation::Key),
        Just(Confirmation::Bearer),
    ]
}

fn subjects() -> impl Strategy<Value = Subject> {
    prop_oneof!["[!-~\u{e0}-\u{ff}]{1,60}".prop_map(Subject::Person), Just(Subject::Agent(spiffe("payments", 200))),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_minted_is_read_the_same(
        subject in subjects(),
        others in prop::sample::subsequence((2u8..40).collect::<Vec<_>>(), 0..=7).prop_shuffle(),
        confirmation in confirmations(),
        of_parents in prop::collection::vec(confirmations(), 8),
        versions: [u64; 8],
    ) {
        let mut made = claims(subject, &others);
        made.confirmation = confirmation;
        for (n, parent) in made.chain.parents.iter_mut().enumerate() {
            (parent.confirmation, parent.lifecycle_version) = (of_parents[n], versions[n]);
        }
        prop_assert_eq!(verify(&mint(&made, &signer()).unwrap()), Ok(made));
    }
}
