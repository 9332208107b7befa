//! What this service provider can do (RFC 7643 sections 5 to 7).

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use legate_rpc::{Fault, METHOD_UNKNOWN};
use legate_web::Visitor;
use serde_json::{Map, Value, json};

use super::answer::{ScimError, answer};
use super::attribute::{ALL, Attribute, CORE, Home, Mutability, OURS, Shape};
use super::list::{LARGEST, USUAL};
use super::{CONFIG, Facade, SCHEMA, SCHEMAS, TYPE, TYPES, namespace};

const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const CONFIG_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";
const TYPE_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:ResourceType";
const SCHEMA_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:Schema";

pub(super) async fn config(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path(within): Path<String>,
) -> Result<Response, ScimError> {
    let base = facade.base(&visitor, &within, CONFIG)?;
    let not = json!({"supported": false});
    let body = json!({
        "schemas": [CONFIG_SCHEMA],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": LARGEST},
        "changePassword": not,
        "sort": not,
        "etag": {"supported": true},
        // RFC 9865 section 4.
        "pagination": {
            "cursor": true, "index": true, "defaultPaginationMethod": "index",
            "defaultPageSize": USUAL, "maxPageSize": LARGEST,
        },
        "authenticationSchemes": [{
            "type": "tls_client_auth",
            "name": "Client certificate",
            "description": "Mutual TLS with an operator's certificate; nothing else is taken.",
        }],
        "meta": {"resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig")},
    });
    Ok(answer(StatusCode::OK, &body))
}

pub(super) async fn types(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path(within): Path<String>,
) -> Result<Response, ScimError> {
    let base = facade.base(&visitor, &within, TYPES)?;
    Ok(all(vec![agent_type(&base)]))
}

pub(super) async fn one_type(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path((within, id)): Path<(String, String)>,
) -> Result<Response, ScimError> {
    let base = facade.base(&visitor, &within, TYPE)?;
    if id != "Agent" {
        return Err(missing("there is one resource type, Agent"));
    }
    Ok(answer(StatusCode::OK, &agent_type(&base)))
}

pub(super) async fn schemas(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path(within): Path<String>,
) -> Result<Response, ScimError> {
    let base = facade.base(&visitor, &within, SCHEMAS)?;
    Ok(all(vec![schema(&base, Home::Core), schema(&base, Home::Ours)]))
}

pub(super) async fn one_schema(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path((within, id)): Path<(String, String)>,
) -> Result<Response, ScimError> {
    let base = facade.base(&visitor, &within, SCHEMA)?;
    match id.as_str() {
        CORE => Ok(answer(StatusCode::OK, &schema(&base, Home::Core))),
        OURS => Ok(answer(StatusCode::OK, &schema(&base, Home::Ours))),
        _ => Err(missing("there is no such schema; see Schemas")),
    }
}

impl Facade {
    /// The base URL of a namespace. Whether there is one of that name shows nowhere here.
    fn base(&self, visitor: &Visitor, within: &str, path: &'static str) -> Result<String, Fault> {
        self.admit(visitor, path)?;
        Ok(format!("{}/ns/{}/scim/v2", self.url, namespace(within)?))
    }
}

fn missing(text: &str) -> ScimError {
    ScimError::at(StatusCode::NOT_FOUND, Fault::refused(&METHOD_UNKNOWN, text))
}

fn all(resources: Vec<Value>) -> Response {
    let count = resources.len();
    let body = json!({
        "schemas": [LIST], "totalResults": count, "startIndex": 1, "itemsPerPage": count, "Resources": resources,
    });
    answer(StatusCode::OK, &body)
}

fn agent_type(base: &str) -> Value {
    json!({
        "schemas": [TYPE_SCHEMA],
        "id": "Agent",
        "name": "Agent",
        "endpoint": "/Agents",
        "description": "Agents (draft-wzdk-scim-agent-resource-00)",
        "schema": CORE,
        "schemaExtensions": [{"schema": OURS, "required": true}],
        "meta": {"resourceType": "ResourceType", "location": format!("{base}/ResourceTypes/Agent")},
    })
}

fn schema(base: &str, home: Home) -> Value {
    let (urn, name, says) = match home {
        Home::Ours => (OURS, "Legate agent", "What Legate declares of an agent beyond the draft."),
        _ => (CORE, "Agent", "An agent, as far as Legate serves the draft's schema."),
    };
    let attributes: Vec<Value> = ALL.iter().filter(|a| a.home == home).map(described).collect();
    json!({
        "schemas": [SCHEMA_SCHEMA],
        "id": urn,
        "name": name,
        "description": says,
        "attributes": attributes,
        "meta": {"resourceType": "Schema", "location": format!("{base}/Schemas/{urn}")},
    })
}

/// One attribute (RFC 7643 section 7).
fn described(a: &Attribute) -> Value {
    let mut all = characteristics(a.says, a.shape, a.mutability);
    all.insert("name".into(), a.name.into());
    all.insert("multiValued".into(), a.is_many().into());
    all.insert("required".into(), a.required.into());
    if a.name == "agentUserName" {
        all.insert("uniqueness".into(), "server".into());
    }
    if a.shape == Shape::People {
        let mut value = characteristics("user:NAME or group:NAME.", Shape::Text, a.mutability);
        value.insert("name".into(), "value".into());
        value.insert("multiValued".into(), false.into());
        value.insert("required".into(), true.into());
        all.insert("subAttributes".into(), json!([value]));
    }
    all.into()
}

fn characteristics(says: &str, shape: Shape, mutability: Mutability) -> Map<String, Value> {
    let kind = match shape {
        Shape::Text | Shape::Texts | Shape::Word(_) => "string",
        Shape::People | Shape::Parts => "complex",
        Shape::Flag => "boolean",
        Shape::Moment => "dateTime",
        Shape::Number => "integer",
    };
    let mutability = match mutability {
        Mutability::ReadWrite => "readWrite",
        Mutability::ReadOnly => "readOnly",
        Mutability::Immutable => "immutable",
    };
    let mut all = Map::new();
    all.insert("type".into(), kind.into());
    all.insert("description".into(), says.into());
    all.insert("mutability".into(), mutability.into());
    all.insert("returned".into(), "default".into());
    all.insert("uniqueness".into(), "none".into());
    if kind == "string" {
        // Letters are compared byte for byte.
        all.insert("caseExact".into(), true.into());
    }
    if let Shape::Word(words) = shape {
        all.insert("canonicalValues".into(), json!(words));
    }
    all
}
