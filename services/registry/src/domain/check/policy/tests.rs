//! Which policies are taken, and that hostile ones cost no stack.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

#[test]
fn what_a_decision_can_use_is_taken() {
    for good in [
        "permit(principal, action, resource);",
        "permit(principal in Role::\"invoice-reader\", action, resource);",
        "permit(principal is Agent in AgentClass::\"clerk\", action == Action::\"invoice:read\", resource);",
        "forbid(principal in Group::\"clerks\", action, resource);",
        "permit(principal == Agent::\"agt_01h455vb4pex5vsknk084sn02q\", action in [Action::\"a\", Action::\"b:c\"], resource == Invoice::\"1\");",
        "forbid(principal, action, resource is Acme::Invoice) when { resource has sealed && resource.sealed };",
        "// two, with a comment\r\n@id(\"x\")\npermit(principal, action, resource);\n\tforbid(principal, action, resource) unless { context.mfa };",
        "permit(principal, action, resource) when { principal.labels has team && [1, 2].contains(context.n) };",
    ] {
        assert_eq!(check_text(good), Ok(()), "{good}");
    }
}

#[test]
fn what_no_decision_could_use_is_refused() {
    for (bad, why) in [
        ("", "holds no policy"),
        ("// nothing", "holds no policy"),
        ("permit(principal, action, resource)", "does not parse at column 36: unexpected end of input"),
        (
            "permit(principal, action, resource);\npermit(principal action, resource);",
            "does not parse at line 2, column 18: unexpected token `action`; expected",
        ),
        ("permit(principal == ?principal, action, resource);", "holds a template"),
        ("permit(principal, action, resource) when { nonsense };", "does not parse at column 44"),
        ("permit(principal is User, action, resource);", "has a policy for principals that there are none of"),
        ("forbid(principal == Group::\"x\", action, resource);", "has a policy for principals that there are none of"),
        ("forbid(principal == Role::\"x\", action, resource);", "has a policy for principals that there are none of"),
        ("forbid(principal, action == Action::\"Invoice:Read\", resource);", "has the action Action::\"Invoice:Read\""),
        ("forbid(principal, action == Acme::Action::\"read\", resource);", "has the action Acme::Action::\"read\""),
        ("forbid(principal, action in [Action::\"a\", Action::\"a:*\"], resource);", "has the action Action::\"a:*\""),
        ("forbid(principal, action, resource is Role);", "has the resource type Role"),
        ("forbid(principal, action, resource is Group);", "has the resource type Group"),
        ("forbid(principal, action, resource == Agent::\"x\");", "has the resource type Agent"),
        ("forbid(principal, action, resource is A::B::C::D::E);", "has the resource type A::B::C::D::E"),
        ("permit(principal, action, resource); // \u{202e}", "holds U+202E at column 41"),
        ("permit(principal, action, resource);\u{0}", "holds U+0000 at column 37"),
    ] {
        let told = check_text(bad).unwrap_err();
        assert!(told.starts_with(why), "{bad}: {told}");
    }
    let long = format!("permit(principal, action, resource);{}", " ".repeat(64 * 1024));
    assert_eq!(check_text(&long), Err("is 65572 bytes long; give at most 65536".into()));
}

#[test]
fn a_policy_that_is_refused_has_its_own_reason() {
    let mut findings = Findings::default();
    check(&PolicySpec { cedar: "permit".into(), mode: 1, ..PolicySpec::default() }, &mut findings);
    let problems: Vec<_> = findings.into();
    assert_eq!((problems[0].path.as_str(), problems[0].reason.name), ("spec.cedar", "POLICY_INVALID"));
    assert_eq!(problems.len(), 1);
    for mode in [0, 3, -1] {
        let mut findings = Findings::default();
        check(
            &PolicySpec { cedar: "permit(principal, action, resource);".into(), mode, ..PolicySpec::default() },
            &mut findings,
        );
        let problems: Vec<_> = findings.into();
        assert_eq!((problems[0].path.as_str(), problems[0].reason.name), ("spec.mode", "INVALID_ARGUMENT"));
    }
}

/// Texts that nest as deep and reach as far as 64 KiB let them, on less stack than a worker of tokio has. An overflow
/// ends the process, and this test with it.
#[test]
fn no_policy_overflows_the_stack() {
    let many = |n: usize, open: &str, middle: &str, close: &str| {
        let condition = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
        format!("permit(principal, action, resource) when {{ {condition} }};")
    };
    let mut texts = Vec::new();
    for (open, middle, close, most) in [
        ("(", "true", ")", 19),
        ("[", "1", "]", 19),
        ("{a:", "1", "}", 19),
        ("if true then ", "true", " else true", 19),
        ("if ", "true", " then true else true", 19),
        ("if true then (", "true", ") else true", 9),
        ("//\r(", "true", ")", 19),
        ("1+", "1", "", 998),
        ("1*", "1", "", 998),
        ("true&&", "true", "", 998),
        ("true||", "true", "", 998),
        ("", "context", ".a", 998),
        ("", "context", "[\"a\"]", 998),
        ("", "[1]", ".contains(1)", 498),
        ("!", "true", "", 4),
        ("-", "1", "", 4),
    ] {
        let fits = (64 * 1024 - 60) / (open.len() + close.len());
        for n in [most, most + 1, fits] {
            texts.push((many(n, open, middle, close), n == most));
        }
    }
    for (clauses, is_good) in [(900, true), (6_000, false)] {
        texts.push((format!("permit(principal, action, resource) {};", "when{true}".repeat(clauses)), is_good));
    }
    let ifs = "permit(principal, action, resource) when { if true then true else true };".repeat(800);
    texts.push((ifs, true));
    let reader = std::thread::Builder::new().stack_size(1536 * 1024).spawn(move || {
        for (text, is_good) in texts {
            let said = check_text(&text);
            assert_eq!(said.is_ok(), is_good, "{}: {said:?}", text.get(..120).unwrap_or(&text));
        }
    });
    reader.unwrap().join().unwrap();
}

#[test]
fn what_only_looks_deep_is_taken() {
    let brackets = "(".repeat(99);
    for good in [
        format!("permit(principal, action, resource); // {brackets}"),
        format!("permit(principal, action, resource) when {{ context.a == \"\\\"{brackets}\" }};"),
        format!("@note(\"{brackets}\") permit(principal, action, resource);"),
        "permit(principal, action, resource) when { [context.iff, context.elseif, context.if_].contains(1) };"
            .repeat(20),
    ] {
        assert_eq!(check_text(&good), Ok(()), "{good}");
    }
    let told = check_text(&format!("permit(principal, action, resource)\nwhen {{ {brackets}")).unwrap_err();
    assert!(told.starts_with("nests brackets and if-expressions more than 20 deep at line 2, column 27;"), "{told}");
}
