//! What laws and standards ask for, and which evidence Legate holds for it: one table, one row a requirement.
//!
//! It claims nothing. A row says where the requirement stands, what of the evidence speaks to it, and what Legate cannot know; whether the
//! requirement applies and is met is for people to judge. What is asked is said in our words: the text that counts is the source's.

use legate_wire::registry::Kind;

/// A law or a standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framework {
    /// A stable word.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Where its text is.
    pub(crate) source: &'static str,
}

/// Something that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// Agents that were in the namespace, by a filter of `legate agent list`; empty: all but retired ones.
    Agents(&'static str),
    /// Declared objects of a kind, and the noun of the program for them.
    Objects(&'static str, Kind),
    /// Boundaries that limit this.
    Boundaries(Limit),
    /// Events of these types.
    Events(&'static [&'static str]),
    /// Decisions that were counted, by how they ended.
    Decisions(Ended),
    /// Rounds of reviews that had begun.
    Rounds,
    /// Findings of permission drift.
    Drift,
    /// Leaves of the log.
    Leaves,
}

/// What a boundary limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Regions,
    Classifications,
    Purposes,
    Regimes,
}

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Allowed,
    Denied,
}

/// One kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// A stable word; the same is measured once.
    pub(crate) id: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
    pub(crate) measured: Measured,
}

/// One requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    pub(crate) framework: &'static Framework,
    /// The clause.
    pub(crate) clause: &'static str,
    /// What it asks for, in our words.
    pub(crate) asks: &'static str,
    /// What speaks to it.
    pub(crate) evidence: &'static [&'static Evidence],
    /// What nobody learns from Legate.
    pub(crate) cannot_know: &'static str,
}

pub(crate) static GDPR: Framework = Framework {
    id: "gdpr",
    title: "GDPR, Article 30: records of processing activities",
    source: "Regulation (EU) 2016/679, Article 30(1); EUR-Lex, CELEX 32016R0679",
};
pub(crate) static HIPAA: Framework = Framework {
    id: "hipaa",
    title: "HIPAA Security Rule: access and its review",
    source: "45 CFR 164.308(a)(4) and 164.312(b); eCFR, title 45, part 164, subpart C",
};
pub(crate) static SOC2: Framework = Framework {
    id: "soc2",
    title: "SOC 2, CC6: logical and physical access",
    source: "AICPA TSP section 100, 2017 Trust Services Criteria (revised points of focus 2022), CC6.1 to CC6.8",
};
pub(crate) static ISO42001: Framework = Framework {
    id: "iso-42001",
    title: "ISO/IEC 42001: management of AI systems",
    source: "ISO/IEC 42001:2023, clauses 9.1 and 9.2 and Annex A",
};
pub(crate) static AI_ACT: Framework = Framework {
    id: "eu-ai-act",
    title: "EU AI Act: records, logs, and duties of deployers",
    source: "Regulation (EU) 2024/1689, Articles 12, 19 and 26; EUR-Lex, CELEX 32024R1689",
};

/// In the order in which they are told.
pub(crate) const FRAMEWORKS: [&Framework; 5] = [&GDPR, &HIPAA, &SOC2, &ISO42001, &AI_ACT];

macro_rules! evidence {
    ($($name:ident: $id:literal, $what:literal, $measured:expr;)+) => {
        $(pub(crate) static $name: Evidence = Evidence { id: $id, what: $what, measured: $measured };)+
        /// Every kind of evidence.
        pub(crate) const EVIDENCE: &[&Evidence] = &[$(&$name),+];
    };
}

evidence! {
    AGENTS: "agents", "agents, each with its purpose, owners and sponsors", Measured::Agents("");
    CLASSIFIED: "agents-with-data", "agents that declare which classes of data they may meet", Measured::Agents("data_classifications:*");
    PLACED: "agents-with-regions", "agents that declare where they run", Measured::Agents("regions:*");
    ORPHANED: "agents-orphaned", "agents that nobody who is here is accountable for", Measured::Agents("orphaned_time:*");
    RISKY: "agents-with-risk", "agents whose risk a sponsor has judged", Measured::Agents("risk_tier >= low");
    CLASSES: "classes", "agent classes: what agents of a kind may have at most", Measured::Objects("class", Kind::AgentClass);
    ROLES: "roles", "roles", Measured::Objects("role", Kind::Role);
    BINDINGS: "bindings", "role bindings", Measured::Objects("binding", Kind::RoleBinding);
    POLICIES: "policies", "Cedar policies", Measured::Objects("policy", Kind::Policy);
    GRANTS: "grants", "delegation grants, each with a purpose and an end", Measured::Objects("grant", Kind::DelegationGrant);
    POINTS: "enforcement-points", "enforcement points: the systems that ask before an agent acts on them",
        Measured::Objects("enforcement-point", Kind::EnforcementPoint);
    ISSUERS: "issuers", "outside issuers whose tokens are believed", Measured::Objects("issuer", Kind::TrustedIssuer);
    CREDENTIAL_POLICIES: "credential-policies", "credential policies", Measured::Objects("credential-policy", Kind::CredentialPolicy);
    LIFECYCLES: "lifecycle-policies", "lifecycle policies: when agents are confirmed, stopped and retired",
        Measured::Objects("lifecycle-policy", Kind::LifecyclePolicy);
    OPERATORS: "operator-bindings", "operator bindings: who may administer what", Measured::Objects("operator", Kind::OperatorBinding);
    CAMPAIGNS: "campaigns", "review campaigns", Measured::Objects("review campaign", Kind::ReviewCampaign);
    REGIONS: "boundaries-of-regions", "boundaries that limit regions", Measured::Boundaries(Limit::Regions);
    CLASSIFICATIONS: "boundaries-of-data", "boundaries that limit classes of data", Measured::Boundaries(Limit::Classifications);
    PURPOSES: "boundaries-of-purposes", "boundaries that limit purposes", Measured::Boundaries(Limit::Purposes);
    REGIMES: "boundaries-with-regimes", "boundaries that say which regime they serve", Measured::Boundaries(Limit::Regimes);
    ALLOWED: "decisions-allowed", "decisions that allowed an act", Measured::Decisions(Ended::Allowed);
    DENIED: "decisions-denied", "decisions that denied an act", Measured::Decisions(Ended::Denied);
    ROUNDS: "review-rounds", "rounds of access reviews", Measured::Rounds;
    DRIFT: "drift", "findings of permission drift: given and not needed", Measured::Drift;
    LEAVES: "log", "leaves of the log, under one signed checkpoint", Measured::Leaves;
    REGISTERED: "registered", "agents registered, approved and switched on",
        Measured::Events(&["agent.created", "agent.approved", "agent.activated", "agent.adopted"]);
    STOPPED: "stopped", "agents suspended, quarantined and retired, and orders that stopped many",
        Measured::Events(&["agent.suspended", "agent.quarantined", "agent.retired", "agent.expired", "stop_order.*", "agent_class.suspended",
            "namespace.suspended"]);
    ACCESS_CHANGED: "access-changed", "changes of who may do what",
        Measured::Events(&["role_binding.*", "role.*", "policy.*", "agent_class.*", "delegation_grant.*", "group.*", "boundary.*"]);
    DECIDED: "review-decisions", "decisions of reviewers, and what came of them", Measured::Events(&["review_item.*"]);
    REVIEWED: "review-events", "rounds of reviews that started, closed and were verified", Measured::Events(&["review.*"]);
    APPROVED: "approvals", "acts that a person was asked to approve", Measured::Events(&["approval.*"]);
    ISSUED: "credentials-issued", "credentials issued", Measured::Events(&["credential.issued"]);
    REVOKED: "credentials-revoked", "credentials taken back", Measured::Events(&["credential.revoked", "agent.credentials_revoked"]);
    ACTED: "acts", "acts that agents are told to have done", Measured::Events(&["action.executed", "activity.reported"]);
    ALERTS: "alerts", "alerts of the rules over the log", Measured::Events(&["alert.*"]);
    ATTESTED: "attested", "confirmations that an agent is still to be here", Measured::Events(&["agent.attested"]);
    READ: "log-read", "reads of the log, and evidence taken out of it",
        Measured::Events(&["log.queried", "log.usage_read", "log.evidence_made", "log.proved", "log.tailed"]);
    ERASED: "erased", "persons whose names were erased, and legal holds", Measured::Events(&["subject.erased", "hold.set", "hold.released"]);
    PEOPLE_LEFT: "people-left", "persons who left, and what passed on", Measured::Events(&["person.*", "agent.passed_on", "agent.orphaned"]);
}

macro_rules! requirements {
    ($($framework:ident $clause:literal: $asks:literal, [$($evidence:ident),*], $cannot:literal;)+) => {
        /// All of them, by framework.
        pub(crate) const REQUIREMENTS: &[Requirement] = &[$(Requirement {
            framework: &$framework, clause: $clause, asks: $asks, evidence: &[$(&$evidence),*], cannot_know: $cannot,
        }),+];
    };
}

requirements! {
    GDPR "Art. 30(1)(a)": "Who the controller is and how to reach it.", [AGENTS, OPERATORS],
        "The controller, its representative and its data protection officer. Owners and sponsors answer for agents, which is another thing.";
    GDPR "Art. 30(1)(b)": "The purposes of the processing.", [AGENTS, PURPOSES, GRANTS],
        "Whether a declared purpose is the real one, and which processing activity an agent belongs to.";
    GDPR "Art. 30(1)(c)": "Categories of data subjects and of personal data.", [CLASSIFIED, CLASSIFICATIONS],
        "Categories of data subjects; which data an agent met. A class of data is what somebody declared of an agent or a resource.";
    GDPR "Art. 30(1)(d)": "Categories of recipients.", [GRANTS, POINTS],
        "To whom an agent passed data on after a decision, and recipients behind an enforcement point.";
    GDPR "Art. 30(1)(e)": "Transfers to third countries.", [PLACED, REGIONS],
        "Where data went. A region is a declaration, and a boundary limits what is asked, not what a backend does with it.";
    GDPR "Art. 30(1)(f)": "Time limits for erasure, where possible.", [ERASED],
        "How long backends keep data. Legate knows of the names of persons in its own log alone.";
    GDPR "Art. 30(1)(g)": "A general description of the security measures of Article 32(1).", [POLICIES, ALLOWED, DENIED, ISSUED, REVOKED, LEAVES],
        "Measures outside of Legate, and whether they suit the risk.";

    HIPAA "164.308(a)(4)(i)": "Policies and procedures for authorizing access to ePHI.", [CLASSES, ROLES, BINDINGS, POLICIES, REGIMES],
        "Which resources hold ePHI, unless somebody declared it, and the written procedures of people.";
    HIPAA "164.308(a)(4)(ii)(B)": "Access authorization: how access is granted.", [REGISTERED, BINDINGS, APPROVED, OPERATORS],
        "Whether whoever granted it was the right person to do so.";
    HIPAA "164.308(a)(4)(ii)(C)": "Access establishment and modification: established, documented, reviewed and modified.",
        [ACCESS_CHANGED, ROUNDS, REVIEWED, DECIDED, STOPPED, DRIFT],
        "Access of people and systems that Legate does not guard, and whether a review was careful.";
    HIPAA "164.312(b)": "Audit controls: record and examine activity.", [LEAVES, ALLOWED, DENIED, ACTED, ALERTS, READ],
        "What agents did where no enforcement point asked and nobody told of it; whether somebody examined the records that were read.";

    SOC2 "CC6.1": "Logical access security over protected assets.", [AGENTS, CLASSES, POLICIES, POINTS, CREDENTIAL_POLICIES, ALLOWED, DENIED],
        "Assets that no enforcement point guards, encryption at rest elsewhere, networks.";
    SOC2 "CC6.2": "Registration and authorization before credentials are issued; removal when access ends.",
        [REGISTERED, ISSUED, REVOKED, STOPPED, PEOPLE_LEFT, ORPHANED],
        "Credentials that were not issued by Legate, such as keys of vendors that an agent holds.";
    SOC2 "CC6.3": "Access is given, changed and removed by roles, least privilege and segregation of duties.",
        [ROLES, BINDINGS, ACCESS_CHANGED, ROUNDS, DECIDED, DRIFT, OPERATORS],
        "Whether a role fits a duty.";
    SOC2 "CC6.4": "Physical access to facilities.", [], "All of it: Legate knows of no facilities.";
    SOC2 "CC6.5": "Protections end only once data and software cannot be recovered from assets.", [],
        "All of it: Legate knows of no devices and media.";
    SOC2 "CC6.6": "Measures against threats from outside the boundary of the system.", [ISSUERS, DENIED, ALERTS],
        "Networks and perimeters, and attempts that reached no service of Legate.";
    SOC2 "CC6.7": "Transmission, movement and removal of information is restricted.", [REGIONS, CLASSIFICATIONS, GRANTS],
        "What left a backend by other ways than a decided act.";
    SOC2 "CC6.8": "Unauthorized or malicious software is prevented or detected.", [ALERTS],
        "Software on machines. An alert tells of acts that do not fit the record, and of no program.";

    ISO42001 "9.1": "Monitoring, measurement, analysis and evaluation.", [ALLOWED, DENIED, ACTED, ALERTS, DRIFT],
        "What the organization decided to measure, and how good the results of its AI systems are.";
    ISO42001 "9.2": "Internal audit at planned intervals.", [CAMPAIGNS, ROUNDS, REVIEWED, READ],
        "The audit programme, its scope and its auditors.";
    ISO42001 "A.3.2": "Roles and responsibilities for AI are defined and allocated.", [AGENTS, OPERATORS, ORPHANED, PEOPLE_LEFT],
        "Whether those who are named know it and can do it.";
    ISO42001 "A.4.2": "Resources of AI systems are documented.", [AGENTS, CLASSIFIED, POINTS],
        "Data sets, tooling and hardware; a model and a framework are what an agent's record says.";
    ISO42001 "A.5.2": "A process for assessing impacts of AI systems.", [RISKY],
        "The assessment itself. A risk tier is a sponsor's word.";
    ISO42001 "A.6.2.6": "Operation and monitoring of AI systems.", [ALLOWED, DENIED, ACTED, ALERTS, LIFECYCLES, ATTESTED],
        "Performance and quality of what agents do.";
    ISO42001 "A.6.2.8": "Event logs are recorded while an AI system is in use.", [LEAVES, ALLOWED, DENIED, ACTED],
        "At which phases of the life cycle logs are asked for, and logs that are kept elsewhere.";
    ISO42001 "A.9.2": "Processes for the responsible use of AI systems.", [CLASSES, POLICIES, APPROVED, ROUNDS],
        "Processes of people.";
    ISO42001 "A.9.4": "AI systems are used as intended.", [PURPOSES, DENIED, DRIFT, ALERTS],
        "The intention, beyond the purpose and the charter that an agent's record names.";

    AI_ACT "Art. 12(1)": "The system technically allows events to be recorded automatically over its lifetime.", [LEAVES, ALLOWED, DENIED, ACTED],
        "Whether an agent is a high-risk AI system, and events inside the model.";
    AI_ACT "Art. 12(2)": "Events that show risks, serve monitoring after placing on the market, and monitoring by deployers.",
        [ALERTS, STOPPED, DENIED, DRIFT],
        "Whether these are the events that matter for the system's purpose.";
    AI_ACT "Art. 19(1)": "Providers keep automatically generated logs for at least six months.", [LEAVES, ERASED],
        "Logs that a provider holds elsewhere, and copies. How far back this log reaches is told by its first event.";
    AI_ACT "Art. 26(1)": "Deployers take measures to use the system by its instructions.", [CLASSES, POLICIES, PURPOSES],
        "The instructions for use. A charter is fixed by its hash and not read.";
    AI_ACT "Art. 26(2)": "Human oversight is assigned to natural persons who can exercise it.", [AGENTS, ORPHANED, APPROVED, STOPPED, DECIDED],
        "Their competence, training and authority.";
    AI_ACT "Art. 26(5)": "Deployers monitor operation, and suspend use and inform where there is a risk.", [ALERTS, STOPPED, ACTED],
        "Who was informed, and reports of serious incidents.";
    AI_ACT "Art. 26(6)": "Deployers keep automatically generated logs under their control for at least six months.", [LEAVES, ERASED, READ],
        "Logs that are not under this deployer's control.";
}

/// What somebody types to see the evidence himself.
pub(crate) fn command(of: &Evidence, namespace: &str, as_of: Option<&str>) -> String {
    let past = as_of.map(|at| format!(" --as-of {at}")).unwrap_or_default();
    let until = as_of.map(|at| format!(" --until {at}")).unwrap_or_default();
    match of.measured {
        Measured::Agents("") => format!("legate agent list --namespace {namespace}{past}"),
        Measured::Agents(filter) => format!("legate agent list --namespace {namespace} --filter '{filter}'{past}"),
        Measured::Objects(noun, _) => format!("legate {noun} list --namespace {namespace}{past}"),
        Measured::Boundaries(_) => format!("legate boundary list --namespace {namespace}{past} -o yaml"),
        Measured::Events(types) => {
            format!("legate audit query --namespace {namespace} --filter '{}'{until}", filter(types))
        }
        Measured::Decisions(ended) => {
            let outcome = if ended == Ended::Allowed { "success" } else { "denied" };
            format!("legate audit usage --namespace {namespace} --outcome {outcome}{until}")
        }
        Measured::Rounds => format!("legate review list --namespace {namespace}"),
        Measured::Drift => format!("legate drift --namespace {namespace}"),
        Measured::Leaves => "legate audit checkpoint".to_owned(),
    }
}

/// The events of these types, as a filter.
pub(crate) fn filter(types: &[&str]) -> String {
    types.iter().map(|kind| format!("type = \"{kind}\"")).collect::<Vec<_>>().join(" OR ")
}
