//! Agents as code: plan, apply, prune, plans in files, tests of policies, and the way back to manifests.

use std::path::Path;

use crate::house::{AGENT, House, MANIFEST};

/// The parts of the readme's manifest, a file each, all with one label more.
fn split(dir: &Path) {
    let text = std::fs::read_to_string(MANIFEST).unwrap();
    for document in text.split("\n---\n") {
        let field = |name: &str| {
            let line = document.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
            line.trim().to_ascii_lowercase()
        };
        let (kind, name) = (field("kind:"), field("name:"));
        let labelled = match document.contains("  labels:\n") {
            true => document.replacen("  labels:\n", "  labels:\n    app: invoices\n", 1),
            false => document.replacen("metadata:\n", "metadata:\n  labels: {app: invoices}\n", 1),
        };
        let dir = dir.join(&kind);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.yaml")), labelled).unwrap();
    }
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_directory_is_planned_applied_pruned_and_exported() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let manifests = home.path().join("manifests");
    split(&manifests);
    let dir = manifests.to_str().unwrap();
    let plan = |more: &[&str]| house.run(&[&["plan", "-f", dir], more].concat());
    let apply = |more: &[&str]| house.run(&[&["apply", "-f", dir, "--reason", "as code"], more].concat());

    // New agents and what they gain.
    let first = plan(&["-o", "table", "--detailed-exitcode"]).with(2);
    assert!(first.contains("+ Agent payments/invoice-bot will be created\n"), "{first}");
    let gain = "+ payments/invoice-bot gains invoice:read on Invoice:apollo/*, depending on arguments (payments/sealed-invoices@1), until 2036-01-01T00:00:00Z";
    assert!(first.contains(gain), "{first}");
    assert!(first.contains("NEW_AGENT payments/invoice-bot"), "{first}");
    apply(&["--wait"]).with(0);
    plan(&["--detailed-exitcode"]).with(0);

    // A wider binding, and a role above the ceiling of the class.
    replace(&manifests.join("rolebinding/invoice-bot-reads-apollo.yaml"), "apollo/*", "*");
    replace(
        &manifests.join("role/invoice-reader.yaml"),
        "- invoice:read on Invoice:*",
        "- invoice:read on Invoice:*\n    - ledger:write on Invoice:*",
    );
    let wide = plan(&["-o", "table"]).with(0);
    assert!(wide.contains("gains invoice:read on Invoice:*, depending"), "{wide}");
    assert!(
        wide.contains("ABOVE_CEILING payments/invoice-bot: ledger:write on Invoice:* is granted and above"),
        "{wide}"
    );
    let json = plan(&["-o", "json"]).json();
    assert_eq!(json["preview"]["changes"][0]["effect"], "ACCESS_EFFECT_GAINS");
    assert_eq!(json["preview"]["agentsCompared"], 1);
    assert!(plan(&["-o", "yaml"]).with(0).contains("ACCESS_EFFECT_GAINS"));
    let objects = plan(&["--objects-only", "-o", "table"]).with(0);
    assert!(!objects.contains("What agents may do"), "{objects}");
    let markdown = plan(&["--markdown"]).with(0);
    assert!(
        markdown.starts_with("<!-- legate plan -->\n") && markdown.contains("#### What agents may do"),
        "{markdown}"
    );

    // What is in no manifest any more, and carries the label, goes; nothing else does.
    std::fs::remove_dir_all(manifests.join("rolebinding")).unwrap();
    std::fs::remove_file(manifests.join("role/invoice-reader.yaml")).unwrap();
    let other = home.path().join("other.yaml");
    std::fs::write(&other, "apiVersion: legate/v1\nkind: Role\nmetadata: {name: other, namespace: payments}\nspec:\n  permissions: [\"a:b on T:*\"]\n").unwrap();
    house.run(&["apply", "-f", other.to_str().unwrap(), "--reason", "somebody else's"]).with(0);
    assert_eq!(plan(&["--prune"]).code, Some(1), "without a selector nothing is removed");
    let pruned = plan(&["--prune", "--selector", "app=invoices", "-o", "table"]).with(0);
    assert!(pruned.contains("- Role payments/invoice-reader will be removed\n"), "{pruned}");
    assert!(pruned.contains("- payments/invoice-bot loses invoice:read on Invoice:apollo/*"), "{pruned}");
    assert!(!pruned.contains("payments/other"), "{pruned}");
    let none = plan(&["--prune", "--selector", "app=else", "-o", "table"]).with(0);
    assert!(!none.contains("will be removed"), "{none}");
    apply(&["--prune", "--selector", "app=invoices"]).with(0);
    house.run(&["role", "get", "payments/invoice-reader"]).refused(1, "OBJECT_NOT_FOUND");
    house.run(&["role", "get", "payments/other"]).with(0);
    plan(&["--prune", "--selector", "app=invoices", "--detailed-exitcode"]).with(0);

    // The way back: what is exported is what is declared.
    let out = home.path().join("export");
    house.run(&["export", "--dir", out.to_str().unwrap()]).with(0);
    house.run(&["export", "--dir", out.to_str().unwrap()]).refused(1, "FILE_REFUSED");
    let again = house.run(&["plan", "-f", out.to_str().unwrap(), "-o", "json"]).json();
    let actions: Vec<_> = again["changes"].as_array().unwrap().iter().map(|c| c["action"].clone()).collect();
    assert!(actions.len() >= 7, "{again}");
    assert!(actions.iter().all(|action| action == "CHANGE_ACTION_UNCHANGED"), "{again}");
    let one = home.path().join("one.json");
    std::fs::write(&one, house.run(&["export", "-o", "json", "--kind", "Agent", "--namespace", "payments"]).with(0))
        .unwrap();
    let one = house.run(&["plan", "-f", one.to_str().unwrap(), "-o", "json"]).json();
    assert_eq!(one["changes"].as_array().unwrap().len(), 1);
    assert_eq!(one["changes"][0]["action"], "CHANGE_ACTION_UNCHANGED");
    let labelled = house.run(&["export", "--selector", "app=invoices", "-o", "yaml"]).with(0);
    assert!(labelled.contains("name: invoice-bot") && !labelled.contains("name: other"), "{labelled}");
    house.run(&["export", "--kind", "Nothing"]).refused(1, "USAGE");
}

#[test]
fn a_plan_in_a_file_is_applied_as_it_is_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let manifest = home.path().join("wide.yaml");
    std::fs::write(&manifest, std::fs::read_to_string(MANIFEST).unwrap().replace("apollo/*", "zeus/*")).unwrap();
    let file = home.path().join("plan.json");
    let (manifest, plan) = (manifest.to_str().unwrap(), file.to_str().unwrap());
    house.run(&["plan", "-f", manifest, "--out", plan]).with(0);
    house.run(&["plan", "-f", manifest, "--out", plan]).refused(1, "FILE_REFUSED");
    let kept = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, kept.replace("zeus/*", "*")).unwrap();
    house.run(&["apply", "--plan", plan, "--reason", "x"]).refused(1, "PLAN_FILE_INVALID");
    std::fs::write(&file, &kept).unwrap();
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:zeus/7", "-o", "name"];
    assert_eq!(house.run(&check).with(3), "BINDING_NARROWED\n");
    house.run(&["apply", "--plan", plan, "--reason", "as planned", "--wait"]).with(0);
    assert_eq!(house.run(&check).with(0), "ALLOWED\n");
    // What it writes was written since: plan again.
    house.run(&["apply", "--plan", plan, "--reason", "twice"]).refused(4, "BASE_MOVED");
}

const ROLE: &str = "apiVersion: legate/v1\nkind: Role\n";

/// So many roles of a namespace, with one label.
fn roles(namespace: &str, count: usize, action: &str) -> String {
    let one = |n: usize| {
        let labels = "labels: {app: sized}";
        format!(
            "---\n{ROLE}metadata: {{name: r-{n}, namespace: {namespace}, {labels}}}\nspec: {{permissions: [\"{action} on T:*\"]}}\n"
        )
    };
    (0..count).map(one).collect()
}

fn namespace(name: &str) -> String {
    format!("---\napiVersion: legate/v1\nkind: Namespace\nmetadata: {{name: {name}}}\nspec: {{}}\n")
}

#[test]
fn manifests_of_more_than_a_thousand_objects_are_one_change_of_what_differs() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let many = home.path().join("many");
    std::fs::create_dir(&many).unwrap();
    let write = |name: &str, text: String| std::fs::write(many.join(name), text).unwrap();
    write("a.yaml", namespace("a") + &roles("a", 800, "a:b"));
    write("b.yaml", namespace("b") + &roles("b", 800, "a:b"));
    let dir = many.to_str().unwrap();
    let pruning = ["--prune", "--selector", "app=sized"];
    let plan = |more: &[&str]| house.run(&[&["plan", "-f", dir], &pruning[..], more].concat());
    let applied = house.run(&["apply", "-f", dir, "--reason", "at first", "-o", "table"]).with(0);
    assert!(applied.contains("1602 created, 0 changed, 0 unchanged."), "{applied}");
    let same = plan(&["--detailed-exitcode", "-o", "table"]).with(0);
    assert!(same.contains("1602 stays") && !same.contains("= Role"), "what is so is counted: {same}");

    // All of a changes, half of b goes; in the plan is what differs, and nothing else.
    write("a.yaml", namespace("a") + &roles("a", 800, "a:c"));
    write("b.yaml", namespace("b") + &roles("b", 400, "a:b"));
    let file = home.path().join("plan.json");
    let told = plan(&["--out", file.to_str().unwrap(), "-o", "table"]).with(0);
    assert!(told.contains("0 will be created, 800 will change, 402 stays, 400 will be removed."), "{told}");
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let count = |field: &str| kept["apply"][field].as_array().unwrap().len();
    assert_eq!((count("declarations"), count("removals")), (800, 400));
    let apply = ["apply", "--plan", file.to_str().unwrap(), "--reason", "as planned", "-o", "json"];
    let applied = house.run(&apply).json();
    assert_eq!(applied["changes"].as_array().unwrap().len(), 1_200);
    let names = house.run(&["role", "list", "--label", "app=sized", "--limit", "0", "-o", "name"]).with(0);
    assert_eq!(names.lines().count(), 1_200);
    let removed = applied["changes"].as_array().unwrap().iter().filter(|c| c["action"] == "CHANGE_ACTION_REMOVED");
    assert_eq!(removed.count(), 400);

    // A plan of nothing is kept and applied as well.
    let nothing = home.path().join("nothing.json");
    plan(&["--out", nothing.to_str().unwrap(), "--detailed-exitcode"]).with(0);
    let apply = ["apply", "--plan", nothing.to_str().unwrap(), "--reason", "nothing", "--wait", "-o", "table"];
    assert!(house.run(&apply).with(0).contains("0 created, 0 changed, 0 unchanged."));
}

#[test]
fn what_carries_the_label_goes_also_where_no_manifest_speaks_of_its_namespace() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let dir = home.path().join("manifests");
    std::fs::create_dir(&dir).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(dir.join(format!("{name}.yaml")), namespace(name) + &roles(name, 2, "a:b")).unwrap();
    }
    let files = dir.to_str().unwrap();
    house.run(&["apply", "-f", files, "--reason", "three teams"]).with(0);
    let plan = |more: &[&str]| {
        let line = ["plan", "-f", files, "--prune", "--selector", "app=sized", "--detailed-exitcode", "-o", "table"];
        house.run(&[&line[..], more].concat())
    };
    plan(&[]).with(0);
    // The last manifests of b and c are deleted: the plan says so, and so does the nightly look for drift.
    std::fs::remove_file(dir.join("b.yaml")).unwrap();
    std::fs::remove_file(dir.join("c.yaml")).unwrap();
    let told = plan(&[]).with(2);
    for name in ["b/r-0", "b/r-1", "c/r-0", "c/r-1"] {
        assert!(told.contains(&format!("- Role {name} will be removed\n")), "{told}");
    }
    assert!(told.contains("4 will be removed."), "namespaces stay: {told}");
    // Or in some namespaces only.
    let told = plan(&["--within", "a", "--within", "c"]).with(2);
    assert!(told.contains("2 will be removed.") && !told.contains("b/r-0"), "{told}");
    house.run(&["plan", "-f", files, "--within", "a"]).with(1);
    house.run(&["apply", "-f", files, "--prune", "--selector", "app=sized", "--reason", "two teams left"]).with(0);
    house.run(&["role", "get", "b/r-0"]).refused(1, "OBJECT_NOT_FOUND");
    plan(&[]).with(0);
}

#[test]
fn a_plan_drifts_by_what_it_speaks_of_and_not_by_what_others_do() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let role = |name: &str, action: &str| {
        format!(
            "{ROLE}metadata: {{name: {name}, namespace: payments}}\nspec: {{permissions: [\"{action} on Invoice:*\"]}}\n"
        )
    };
    let apply =
        |text: &str| house.run(&["apply", "-f", &write("other.yaml", text), "--reason", "somebody else"]).with(0);
    apply(&(role("idle", "a:b") + "---\n" + &role("steady", "a:b")));
    let binding = "apiVersion: legate/v1\nkind: RoleBinding\nmetadata: {name: reads, namespace: payments}\n\
                   spec: {role: idle, agents: [invoice-bot]}\n";
    let manifest = write("mine.yaml", binding);
    let plan = |name: &str| {
        let file = home.path().join(name).to_str().unwrap().to_owned();
        house.run(&["plan", "-f", &manifest, "--out", &file]).with(0);
        file
    };
    let planned = |file: &str| house.run(&["apply", "--plan", file, "--reason", "as planned"]);
    let (first, second) = (plan("first.json"), plan("second.json"));
    // Another team's objects are written, and the plan is as good as before.
    apply(&role("steady", "a:c"));
    apply(&namespace("elsewhere"));
    planned(&first).with(0);
    // What it wrote was written since the other one was made.
    planned(&second).refused(4, "BASE_MOVED");
    // What it names was written.
    std::fs::write(&manifest, binding.replace("role: idle", "role: steady")).unwrap();
    let third = plan("third.json");
    apply(&role("steady", "a:d"));
    let ended = planned(&third);
    assert!(ended.err.contains("Role payments/steady at revision"), "{ended:?}");
    ended.refused(4, "BASE_MOVED");
}

#[test]
fn hostile_selectors_are_refused_in_a_sentence() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    for (selector, reason) in [("=", "USAGE"), ("a=b,a=c", "USAGE"), ("a\u{202e}", "USAGE"), ("a b=c", "USAGE")] {
        let ended = house.run(&["plan", "-f", MANIFEST, "--prune", "--selector", selector]);
        assert!(!ended.err.contains('\u{202e}'), "{ended:?}");
        ended.refused(1, reason);
    }
}

#[test]
fn a_policy_test_that_fails_stops_the_plan_and_the_apply() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let test = home.path().join("test.yaml");
    let head =
        "apiVersion: legate/v1\nkind: PolicyTest\nmetadata: {name: reads, namespace: payments}\nspec:\n  cases:\n";
    let case = |id: &str, more: &str| {
        let question = "agent: invoice-bot, action: \"invoice:read\", resourceType: Invoice";
        format!("    - {{{question}, resourceId: \"{id}\", {more}}}\n")
    };
    let good = case("apollo/1", "expect: ALLOW") + &case("zeus/1", "expect: DENY, reasonCode: BINDING_NARROWED");
    std::fs::write(&test, format!("{head}{good}")).unwrap();
    let file = test.to_str().unwrap();
    house.run(&["policy", "test", "-f", file]).with(0);
    house.run(&["policy", "test"]).with(0);
    house.run(&["apply", "-f", file, "--reason", "tests first", "--wait"]).with(0);
    assert!(house.run(&["policy", "test", "-o", "table"]).with(0).contains("2 passed, 0 failed"));

    // A binding that is too wide breaks the stored test, in the plan and before the apply.
    let manifest = home.path().join("wide.yaml");
    std::fs::write(&manifest, std::fs::read_to_string(MANIFEST).unwrap().replace("apollo/*", "*")).unwrap();
    let wide = manifest.to_str().unwrap();
    let plan = house.run(&["plan", "-f", wide, "-o", "table"]);
    assert!(plan.out.contains("FAILED payments/reads case 1: invoice-bot invoice:read Invoice:zeus/1: expected DENY BINDING_NARROWED, got ALLOW"), "{plan:?}");
    plan.refused(1, "POLICY_TEST_FAILED");
    house.run(&["apply", "-f", wide, "--reason", "x"]).refused(1, "POLICY_TEST_FAILED");
    house.run(&["policy", "test", "-f", wide]).refused(1, "POLICY_TEST_FAILED");
    house.run(&["policy", "test"]).with(0);
    house.run(&["apply", "-f", wide, "--reason", "known", "--skip-tests", "--wait"]).with(0);
    house.run(&["policy", "test"]).refused(1, "POLICY_TEST_FAILED");
    let binding = house.run(&["binding", "get", "payments/invoice-bot-reads-apollo", "-o", "json"]).json();
    let reason = binding["declaration"]["roleBinding"]["metadata"]["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason, "known (policy tests were skipped)");
}
