//! What policies can speak of: printed, declared, held to, and proved where a solver is at hand.

use crate::house::{AGENT, House, MANIFEST, done, legate};

const SCHEMA: &str = "\
    entity Invoice { sealed?: Bool, amount: Long };\n    \
    action \"invoice:read\" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };\n";

/// The readme's manifest, whose namespace declares what callers state.
fn declaring(dir: &std::path::Path) -> String {
    let text = std::fs::read_to_string(MANIFEST).unwrap();
    let owners = "  owners: [\"group:payments-platform\"]\n";
    assert!(text.contains(owners));
    let path = dir.join("declaring.yaml");
    std::fs::write(&path, text.replacen(owners, &format!("{owners}  policySchema: |\n    {SCHEMA}"), 1)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn policy(dir: &std::path::Path, name: &str, cedar: &str) -> String {
    let path = dir.join(format!("{name}.yaml"));
    let head = format!(
        "apiVersion: legate/v1\nkind: Policy\nmetadata: {{name: {name}, namespace: payments}}\nspec:\n  mode: ENFORCE\n"
    );
    std::fs::write(&path, format!("{head}  cedar: |\n    {cedar}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_namespace_declares_what_callers_state() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let world = house.run(&["policy", "schema", "-o", "table"]).with(0);
    assert!(
        world.contains("entity Agent in [AgentClass, Role, Group]") && world.contains("Nothing is declared"),
        "{world}"
    );

    let file = declaring(home.path());
    house.run(&["apply", "-f", &file, "--reason", "declared", "--wait"]).with(0);
    let text = house.run(&["policy", "schema", "payments", "-o", "table"]).with(0);
    assert!(text.starts_with("entity Invoice { sealed?: Bool, amount: Long };\n"), "{text}");
    let json = house.run(&["policy", "schema", "payments", "-o", "json"]).json();
    assert!(json[""]["actions"]["invoice:read"].is_object() && json[""]["entityTypes"]["Agent"].is_object(), "{json}");
    assert_eq!(house.run(&["policy", "schema", "-f", &file, "-o", "table"]).with(0), text);
    house.run(&["policy", "schema", "nowhere"]).refused(1, "OBJECT_NOT_FOUND");
    house.run(&["policy", "schema", "No where"]).refused(1, "USAGE");

    let check = |attributes: &str| {
        house.run(&[
            "check",
            "--agent",
            AGENT,
            "--action",
            "invoice:read",
            "--resource",
            "Invoice:apollo/7",
            "--attributes",
            attributes,
            "-o",
            "name",
        ])
    };
    assert_eq!(check("{\"amount\": 1}").with(0), "ALLOWED\n");
    assert_eq!(check("{}").with(3), "OUTSIDE_SCHEMA\n");
    assert_eq!(check("{\"amount\": \"1\"}").with(3), "OUTSIDE_SCHEMA\n");
    assert_eq!(check("{\"amount\": 1, \"sealed\": true}").with(3), "FORBIDDEN_BY_POLICY\n");
    let told = house.run(&[
        "explain",
        "--agent",
        AGENT,
        "--action",
        "invoice:read",
        "--resource",
        "Invoice:apollo/7",
        "-o",
        "table",
    ]);
    let told = told.with(3);
    assert!(told.contains("resource.amount is missing"), "{told}");

    let bad = policy(home.path(), "bad", "permit (principal, action, resource)\n    when { resource.amout < 100 };");
    let refused = house.run(&["apply", "-f", &bad, "--reason", "x"]);
    assert!(refused.err.contains("at line 2, column 8") && refused.err.contains("amout"), "{}", refused.err);
    refused.refused(1, "POLICY_INVALID");
    house.run(&["plan", "-f", &bad]).refused(1, "POLICY_INVALID");
    let fits = house.run(&["policy", "validate", "-o", "table"]).with(0);
    assert_eq!(fits, "2 policies fit what there is.\n");
    let unfit = done(legate().args(["policy", "validate", "-f", &file, &bad, "-o", "table"]));
    assert!(unfit.out.contains("payments/bad: at line 2, column 8: attribute `amout`"), "{}", unfit.out);
    unfit.refused(1, "POLICY_INVALID");
    // A schema that what is in force does not fit.
    let narrower = std::fs::read_to_string(&file).unwrap().replace("sealed?: Bool", "sealed?: String");
    std::fs::write(home.path().join("narrower.yaml"), narrower).unwrap();
    let narrower = home.path().join("narrower.yaml");
    house.run(&["apply", "-f", narrower.to_str().unwrap(), "--reason", "x"]).refused(4, "POLICY_SCHEMA_UNMET");
}

#[test]
fn what_calls_of_tools_state_is_a_schema() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tools.yaml");
    let hash = "0".repeat(64);
    let mapping = format!(
        "apiVersion: legate/v1\nkind: ToolMapping\nmetadata: {{name: ledger, namespace: payments}}\nspec:\n  server: ledger\n  tools:\n  - {{name: read, definition: 'sha256:{hash}', action: 'invoice:read', resource: {{type: Invoice, id: '{{args.id}}'}}, arguments: {{id: {{type: string}}, n: {{type: integer, optional: true}}}}, context: {{n: '{{args.n}}'}}}}\n"
    );
    std::fs::write(&file, &mapping).unwrap();
    let text = done(legate().args(["mcp", "policy-schema", "-f"]).arg(&file)).with(0);
    assert!(text.contains("context: { \"mcp_server\": String, \"mcp_tool\": String, \"n\"?: Long }"), "{text}");
    // A type that is Legate's own.
    std::fs::write(&file, mapping.replace("type: Invoice", "type: Role")).unwrap();
    done(legate().args(["mcp", "policy-schema", "-f"]).arg(&file)).refused(1, "MAPPING_INVALID");
}

#[cfg(not(feature = "analyze"))]
#[test]
fn without_the_feature_nothing_is_proved() {
    done(legate().args(["policy", "analyze", "--from", "a", "--to", "b"])).refused(1, "ANALYSIS_UNAVAILABLE");
}

#[cfg(feature = "analyze")]
mod analyze {
    use super::*;

    fn analyze(line: &[&str]) -> crate::house::Ended {
        done(legate().args([&["policy", "analyze"], line].concat()))
    }

    #[test]
    fn what_two_sets_permit_is_compared_over_every_request() {
        let home = tempfile::tempdir().unwrap();
        let file = declaring(home.path());
        let same = policy(
            home.path(),
            "sealed-invoices",
            "forbid (principal, action, resource)\n    when { resource has sealed && resource.sealed == true };",
        );
        let equal = analyze(&["--from", &file, "--to", &same, "--merge", "--detailed-exitcode", "-o", "table"]).with(0);
        assert_eq!(
            equal,
            "payments: 1 of 1 pairs of an action and a type are equivalent, over every request that fits policySchema.\n"
        );
        let looser = policy(
            home.path(),
            "sealed-invoices",
            "forbid (principal, action, resource)\n    when { resource has sealed && resource.sealed && resource.amount > 5 };",
        );
        let more = analyze(&["--from", &file, "--to", &looser, "--merge", "-o", "table"]).with(0);
        assert!(
            more.contains("payments: invoice:read on Invoice: permits more\n  + permitted now: to an agent"),
            "{more}"
        );
        assert!(more.contains("\"sealed\":true") && more.contains("legate check --agent payments/AGENT"), "{more}");
        let line = ["--from", file.as_str(), "--to", looser.as_str(), "--merge", "--detailed-exitcode", "-o", "json"];
        let json: serde_json::Value = serde_json::from_str(&analyze(&line).with(2)).unwrap();
        assert_eq!(json["rows"][0]["relation"], "PERMITS_MORE");
        assert_eq!(json["rows"][0]["more"]["agent"]["attributes"]["environment"], "prod");
        // Without --merge the file is all that there would be, and it permits nothing; nor does it declare anything.
        let less = analyze(&["--from", &file, "--to", &looser, "-o", "name"]).with(0);
        assert_eq!(less, "payments invoice:read Invoice permits less\n");
    }

    #[test]
    fn an_example_is_what_policy_decision_says_too() {
        let home = tempfile::tempdir().unwrap();
        let house = House::raise(&home.path().join("dev"));
        let file = declaring(home.path());
        house.run(&["apply", "-f", &file, "--reason", "first", "--wait"]).with(0);
        let wider = policy(
            home.path(),
            "sealed-invoices",
            "forbid (principal, action, resource)\n    when { resource has sealed && resource.sealed && resource.amount > 5 };",
        );
        let line = ["policy", "analyze", "--from", "active", "--to", &wider, "--merge", "-o", "json"];
        let json = house.run(&line).json();
        let example = &json["rows"][0]["more"];
        let attributes = example["resource"]["attributes"].to_string();
        let check = |code: i32| {
            house
                .run(&[
                    "check",
                    "--agent",
                    AGENT,
                    "--action",
                    "invoice:read",
                    "--resource",
                    "Invoice:apollo/1",
                    "--attributes",
                    &attributes,
                    "-o",
                    "name",
                ])
                .with(code)
        };
        assert_eq!(check(3), "FORBIDDEN_BY_POLICY\n");
        house.run(&["apply", "-f", &wider, "--reason", "wider", "--wait"]).with(0);
        assert_eq!(check(0), "ALLOWED\n");
    }

    #[test]
    fn what_cannot_be_proved_is_no_yes() {
        let home = tempfile::tempdir().unwrap();
        let file = declaring(home.path());
        let to = policy(
            home.path(),
            "sealed-invoices",
            "forbid (principal, action, resource)\n    when { resource.amount + 1 > 5 };",
        );
        let unknown = analyze(&["--from", &file, "--to", &to, "--merge", "-o", "table"]);
        assert!(unknown.out.contains("unknown (the forbid sealed-invoices#0 can fail"), "{}", unknown.out);
        unknown.refused(1, "ANALYSIS_INCOMPLETE");
        // Nothing is declared of what it looks at.
        analyze(&["--from", MANIFEST, "--to", &to]).refused(1, "NOT_PROVABLE");
        analyze(&["--from", &file, "--to", &to, "--merge", "--solver", "/nowhere/cvc5"])
            .refused(1, "ANALYSIS_UNAVAILABLE");
        analyze(&["--from", &file, "--to", &file]).refused(1, "USAGE");
        let bad = policy(home.path(), "bad", "permit (principal, action, resource) when { resource.amout < 1 };");
        analyze(&["--from", &file, "--to", &bad, "--merge"]).refused(1, "POLICY_INVALID");
    }
}
